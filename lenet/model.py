"""LeNet-5 with ReLU and max-pooling, on 28×28 images.

The layers, their names and sizes are those of LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to
Document Recognition" (1998), section II.B, with the changes that are usual today: C1 pads the 28×28 image (the
paper's images are padded to 32×32), S2 and S4 are max-pooling without parameters, every map of S2 feeds every map of
C3, ReLU replaces tanh, and a linear layer (F7) replaces the radial basis functions of the output.
"""

from collections import OrderedDict
from typing import Any, cast

import safetensors.torch
import torch
import torch.nn.functional as F  # noqa: N812 - the name that PyTorch's documentation gives it
from safetensors import SafetensorError
from torch import Tensor, nn

from lenet.data.dataset import CLASSES
from lenet.errors import PipelineError
from lenet.parallel import Threads

NAME = "LeNet-5"

# Images per forward pass: on a CPU, few enough for the activations to fit in its cache.
_BATCH = {"cpu": 500, "cuda": 4000}


class LeNet5(nn.Sequential):
    """Computes logits, the unnormalised log-probabilities of the ten classes, from images.

    It is a chain of layers, each of which takes the output of the one before it. The layers with weights and those that
    pool have the names that LeCun et al. gave them. ReLU after pooling gives the same values as before it, and has only
    a quarter of them to compute.

    `mean` and `std`, of pixels / 255, standardise the images. They are buffers, so a saved model is self-contained.

    The initial weights are PyTorch's if `init` is "pytorch". If it is "kaiming", those of the layers before a ReLU are
    uniform with a variance of 2 / fan-in, and their biases are 0 (He et al., "Delving Deep into Rectifiers", 2015,
    section 2.2).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float = 0.0, std: float = 1.0, init: str = "pytorch") -> None:
        # fmt: off
        super().__init__(OrderedDict(
            C1=nn.Conv2d(1, 6, 5, padding=2),  # 6×28×28         6 · ( 1·5·5 + 1) =    156 parameters
            S2=nn.MaxPool2d(2),                # 6×14×14
            S2_relu=nn.ReLU(),
            C3=Convolution(6, 16, 5),          # 16×10×10       16 · ( 6·5·5 + 1) =  2,416
            S4=nn.MaxPool2d(2),                # 16×5×5
            S4_relu=nn.ReLU(),
            C5=WholeConvolution(16, 120, 5),   # 120×1×1       120 · (16·5·5 + 1) = 48,120
            C5_relu=nn.ReLU(),
            flatten=nn.Flatten(),              # 120
            F6=nn.Linear(120, 84),             # 84             84 · (120 + 1)    = 10,164
            F6_relu=nn.ReLU(),
            F7=nn.Linear(84, len(CLASSES)),    # 10: the logits 10 · (84 + 1)     =    850
        ))
        # fmt: on
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))
        if init == "kaiming":
            for layer in weighted(self)[:-1]:
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        # Faster on a CPU.
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, float32 N×10, of `images`, N×1×28×28 with pixels from 0 to 255 (uint8 or float32)."""
        return cast(Tensor, super().forward(self.standardise(images)))  # type: ignore[no-untyped-call]

    def standardise(self, images: Tensor) -> Tensor:
        """Return `images` (as for `forward`) with about zero mean and unit standard deviation."""
        return (images / 255 - self.mean) / self.std

    @torch.no_grad()
    def divide_logits(self, temperature: float) -> None:
        """Divide all future logits by `temperature`, by dividing the weights and biases of the last layer."""
        for weights in weighted(self)[-1].parameters():
            weights /= temperature


class Convolution(nn.Conv2d):
    """A convolution without padding that is faster on a GPU, where cuDNN's deterministic gradient is slow."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__(inputs, outputs, size)

    def forward(self, images: Tensor) -> Tensor:
        """On a GPU, compute a matrix product of all patches and the kernels."""
        if not images.is_cuda:
            return super().forward(images)
        size = self.kernel_size[0]
        patches = images.permute(0, 2, 3, 1).unfold(1, size, 1).unfold(2, size, 1)  # N×H×W×C×5×5
        product = F.linear(patches.flatten(3), self.weight.flatten(1), self.bias)
        return product.permute(0, 3, 1, 2)


class WholeConvolution(Convolution):
    """A convolution whose kernels cover the whole input; computed as a matrix product, which is faster."""

    def forward(self, images: Tensor) -> Tensor:
        """Return N×C×1×1."""
        return F.linear(_rows(images), _rows(self.weight), self.bias)[:, :, None, None]


def _rows(tensor: Tensor) -> Tensor:
    """Return `tensor` (N×C×H×W, channels_last) as a matrix of N rows in its memory order, without a copy."""
    return tensor.permute(0, 2, 3, 1).flatten(1)


def weighted(model: nn.Module) -> list[Any]:
    """Return the convolutions and fully connected layers of `model`, in order."""
    return [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def predict(model: nn.Module, images: Tensor, threads: int = 1) -> Tensor:
    """Return the logits of `model` in eval mode, float32 N×10, for `images`, N×1×28×28.

    The mode of the model is restored afterwards. The result does not depend on the number of CPU `threads`.
    """
    training = model.training
    model.eval()
    batches = images.split(_BATCH[images.device.type])
    logits = torch.cat(Threads(threads, images.device).map(torch.no_grad()(model.__call__), batches))
    model.train(training)
    return logits


def to_bytes(model: LeNet5) -> bytes:
    """Return the parameters and buffers of `model` as a safetensors file; equal tensors give equal bytes.

    The format cannot contain code, so the file is safe to open.
    """
    return safetensors.torch.save({name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()})


def from_bytes(data: bytes, name: str) -> LeNet5:
    """Return the model in `data`, a file made by `to_bytes`, on the CPU and in eval mode.

    Raises PipelineError, with a message that begins with `name`, if `data` is not a LeNet5 with finite weights.
    """
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, KeyError) as error:  # KeyError: a dtype that PyTorch lacks
        raise PipelineError(f"{name} is not a safetensors file: {error}") from None
    model = LeNet5()
    expected = {key: (tuple(tensor.shape), tensor.dtype) for key, tensor in model.state_dict().items()}
    found = {key: (tuple(tensor.shape), tensor.dtype) for key, tensor in tensors.items()}
    for key in sorted(expected | found):
        if expected.get(key) != found.get(key):
            raise PipelineError(f"{name} is not a {NAME}: {key} is {found.get(key)} instead of {expected.get(key)}")
        if not tensors[key].isfinite().all():
            raise PipelineError(f"{name} is not a usable model: {key} has NaN or infinity")
    if tensors["std"] <= 0:
        raise PipelineError(f"{name} is not a usable model: std is {tensors['std']:g}, but must be above 0")
    model.load_state_dict(tensors)
    return model.eval()
