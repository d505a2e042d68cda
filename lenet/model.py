"""LeNet-5 with ReLU and max-pooling, on 28×28 images.

The layers, their names and sizes are those of LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to
Document Recognition" (1998), section II.B, with the changes that are usual today: C1 pads the 28×28 image (the
paper's images are padded to 32×32), S2 and S4 are max-pooling without parameters, every map of S2 feeds every map of
C3, ReLU replaces tanh, and a linear layer (F7) replaces the radial basis functions of the output.
"""

import safetensors.torch
import torch
import torch.nn.functional as F  # noqa: N812 - the name that PyTorch's documentation gives it
from safetensors import SafetensorError
from torch import Tensor, nn

from lenet.data.dataset import CLASSES
from lenet.errors import PipelineError
from lenet.parallel import Threads

# Images per forward pass: enough to keep the CPU busy, few enough for the activations to fit in its cache.
_BATCH = 500


class LeNet5(nn.Module):
    """Computes logits, the unnormalised log-probabilities of the ten classes, from images.

    `mean` and `std`, of pixels / 255, standardise the images. They are buffers, so a saved model is self-contained.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))
        # fmt: off
        self.C1 = nn.Conv2d(1, 6, 5, padding=2)  #  6 · ( 1·5·5 + 1) =    156 parameters
        self.C3 = nn.Conv2d(6, 16, 5)            # 16 · ( 6·5·5 + 1) =  2,416
        self.C5 = nn.Conv2d(16, 120, 5)          # 120 · (16·5·5 + 1) = 48,120
        self.F6 = nn.Linear(120, 84)             # 84 · (120 + 1)     = 10,164
        self.F7 = nn.Linear(84, len(CLASSES))    # 10 · (84 + 1)      =    850
        # fmt: on
        # Faster on a CPU.
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, float32 N×10, of `images`, N×1×28×28 with pixels from 0 to 255 (uint8 or float32)."""
        return self.activations(images)["F7"]

    def activations(self, images: Tensor) -> dict[str, Tensor]:
        """Return the output of each layer for `images` (as for `forward`), by the layer's name, in order.

        Outputs are after ReLU, except those of F7.
        """
        c1 = F.relu(self.C1(self.standardise(images)))  # N×6×28×28
        s2 = F.max_pool2d(c1, 2)  # N×6×14×14
        # On a GPU, cuDNN's deterministic gradient of C3 took a quarter of a training step.
        c3 = F.relu(_convolution_as_product(self.C3, s2) if s2.is_cuda else self.C3(s2))  # N×16×10×10
        s4 = F.max_pool2d(c3, 2)  # N×16×5×5
        # C5's kernel covers its whole input, so the convolution is a matrix product.
        c5 = F.relu(F.linear(flatten_channels_last(s4), flatten_channels_last(self.C5.weight), self.C5.bias))  # N×120
        f6 = F.relu(self.F6(c5))  # N×84
        f7 = self.F7(f6)  # N×10
        return {"C1": c1, "S2": s2, "C3": c3, "S4": s4, "C5": c5, "F6": f6, "F7": f7}

    def standardise(self, images: Tensor) -> Tensor:
        """Return `images` (as for `forward`) with about zero mean and unit standard deviation."""
        return (images / 255 - self.mean) / self.std


def _convolution_as_product(layer: nn.Conv2d, images: Tensor) -> Tensor:
    """Return `layer(images)`, for a layer without padding, as a matrix product of all 5×5 patches and the kernels."""
    patches = images.permute(0, 2, 3, 1).unfold(1, 5, 1).unfold(2, 5, 1)  # N×H×W×C×5×5
    product = F.linear(patches.flatten(3), layer.weight.flatten(1), layer.bias)
    return product.permute(0, 3, 1, 2)


def flatten_channels_last(tensor: Tensor) -> Tensor:
    """Return `tensor` (N×C×H×W, channels_last) as a matrix of N rows in its memory order, without a copy."""
    return tensor.permute(0, 2, 3, 1).flatten(1)


def predict(model: nn.Module, images: Tensor, threads: int = 1) -> Tensor:
    """Return the logits of `model` in eval mode, float32 N×10, for `images`, N×1×28×28.

    The mode of the model is restored afterwards. The result does not depend on the number of CPU `threads`.
    """
    training = model.training
    model.eval()
    logits = torch.cat(Threads(threads, images.device).map(torch.no_grad()(model.__call__), images.split(_BATCH)))
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
            raise PipelineError(f"{name} is not a LeNet-5: {key} is {found.get(key)} instead of {expected.get(key)}")
        if not tensors[key].isfinite().all():
            raise PipelineError(f"{name} is not a usable model: {key} has NaN or infinity")
    if tensors["std"] <= 0:
        raise PipelineError(f"{name} is not a usable model: std is {tensors['std']:g}, but must be above 0")
    model.load_state_dict(tensors)
    return model.eval()
