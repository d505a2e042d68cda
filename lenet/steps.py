"""The training step: forward pass, loss, gradient, and an update of the weights."""

from collections.abc import Sequence
from itertools import repeat

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from lenet.augment import coordinates, distort
from lenet.optimizers import Optimizer
from lenet.parallel import Threads


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

    def gradient(self, index: Tensor, warps: Tensor | None, batch_size: int) -> tuple[Tensor, Sequence[Tensor]]:
        """Return the logits of a part of a batch, and its share of the gradient of the batch's mean cross-entropy."""
        images = self.images[index]
        if warps is not None:
            images = distort(images, warps, self.pixels)
        logits = self.model(images)
        loss = F.cross_entropy(logits, self.labels[index], reduction="sum", label_smoothing=self.label_smoothing)
        weights = self.optimizer.weights
        gradients = torch.autograd.grad(loss / batch_size, weights, materialize_grads=True)
        return logits.detach(), [_laid_out_as(weight, g) for weight, g in zip(weights, gradients, strict=True)]


def _laid_out_as(weight: Tensor, gradient: Tensor) -> Tensor:
    """Return `gradient` with the strides of `weight`, because fused optimisers traverse both in memory order."""
    return gradient if gradient.stride() == weight.stride() else torch.empty_like(weight).copy_(gradient)
