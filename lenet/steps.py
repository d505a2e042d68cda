"""The training step: forward pass, loss, gradient, and an update of the weights."""

import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from itertools import repeat

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from lenet.augment import AugmentConfig, coordinates, distort, random_warps
from lenet.optimizers import Optimizer
from lenet.parallel import Threads

# gradient(index, warps, batch_size) returns the logits of a part of a batch, and its share of the gradient.
Gradient = Callable[[Tensor, Tensor | None, int], tuple[Tensor, Sequence[Tensor]]]

# Used to compare two ways to compute the gradient.
_TRIAL = AugmentConfig(rotation=10, shift=2, scale=0.1, shear=0.1)


class Steps:
    """Takes training steps: updates `model` in place on batches of `images` (uint8 N×1×28×28) and `labels` (int64 N).

    On a CPU, each of `threads` computes the gradient of a part of the batch.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        images: Tensor,
        labels: Tensor,
        label_smoothing: float = 0,
        threads: int = 1,
    ) -> None:
        self.model, self.optimizer, self.images, self.labels = model, optimizer, images, labels
        self.label_smoothing = label_smoothing
        self.pixels = coordinates(images.shape[-1]).to(images.device)
        self.threads = Threads(threads, images.device)
        self.gradient: Gradient = (self.in_triton() if images.is_cuda else None) or self._gradient

    def __call__(self, lr: float | Tensor, index: Tensor, warps: Tensor | None) -> Tensor:
        """Take a step on the images at `index` (int64 B), distorted by `warps` (float32 B×2×3; None: not distorted).

        Returns the logits before the step, float32 B×10. `lr`, the learning rate, is a tensor on a GPU.
        """
        n = self.threads.n
        parts = self.threads.map(
            self.gradient, index.chunk(n), repeat(None) if warps is None else warps.chunk(n), repeat(len(index))
        )
        logits, gradients = zip(*parts, strict=True)
        # Not sum(shares), which starts from 0 and so makes one more addition.
        self.optimizer.step([sum(shares[1:], shares[0]) for shares in zip(*gradients, strict=True)], lr)
        return torch.cat(logits)

    def in_triton(self) -> Gradient | None:
        """Return a faster way to compute the gradient on a GPU, or None if there is none for this model or machine."""
        if find_spec("triton") is None:
            return None
        from lenet import kernels  # only here: not every machine with PyTorch has Triton

        state = [*self.optimizer.weights, *self.model.buffers()]
        if [tuple(tensor.shape) for tensor in state] != [*kernels.PARAMETERS, (), ()]:
            return None
        index = torch.arange(min(64, len(self.images)), device=self.images.device)
        warps = random_warps(len(index), 28, _TRIAL, torch.Generator().manual_seed(0)).to(index.device)
        faster = kernels.Gradient(self.model, self.images, self.labels, self.label_smoothing)
        try:
            logits, gradient = faster(index, warps, 64)
        except Exception as error:  # Triton needs a C compiler, Python's headers and a GPU that it knows
            _warn(f"Triton does not work here, so training is slower: {str(error) or type(error).__name__}")
            return None
        expected_logits, expected = self._gradient(index, warps, 64)
        # A model with tanh instead of ReLU, say, has parameters of the same shapes. The limit for gradients is higher,
        # because rounding decides which of two nearly equal values a pool chooses.
        pairs = [(logits, expected_logits, 1e-4), *((a, b, 1e-2) for a, b in zip(gradient, expected, strict=True))]
        return faster if all((a - b).norm() <= limit * b.norm() for a, b, limit in pairs) else None

    def _gradient(self, index: Tensor, warps: Tensor | None, batch_size: int) -> tuple[Tensor, Sequence[Tensor]]:
        """Return the logits of a part of a batch, and its share of the gradient of the batch's mean cross-entropy."""
        images = self.images[index]
        if warps is not None:
            images = distort(images, warps, self.pixels)
        logits = self.model(images)
        loss = F.cross_entropy(logits, self.labels[index], reduction="sum", label_smoothing=self.label_smoothing)
        weights = self.optimizer.weights
        gradients = torch.autograd.grad(loss / batch_size, weights, materialize_grads=True)
        return logits.detach(), [_laid_out_as(weight, g) for weight, g in zip(weights, gradients, strict=True)]


@cache
def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _laid_out_as(weight: Tensor, gradient: Tensor) -> Tensor:
    """Return `gradient` with the strides of `weight`, because fused optimisers traverse both in memory order."""
    return gradient if gradient.stride() == weight.stride() else torch.empty_like(weight).copy_(gradient)
