"""LeNet-5 with ReLU and max-pooling, on 28×28 images.

The layers, their names and sizes are those of LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to
Document Recognition" (1998), section II.B, with today's usual changes: the 28×28 image is padded in C1 instead of
beforehand to 32×32, S2 and S4 take the maximum and learn nothing, every map of S2 feeds every map of C3, ReLU replaces
tanh, and a linear layer (F7) replaces the radial basis functions of the output.
"""

import safetensors.torch
import torch
import torch.nn.functional as F  # noqa: N812 - the name that PyTorch's documentation gives it
from safetensors import SafetensorError
from torch import Tensor, nn

from lenet.data.dataset import CLASSES
from lenet.errors import PipelineError
from lenet.parallel import Threads

# Images in a forward pass: enough to keep the processor busy, few enough for the activations to stay in its cache.
_BATCH = 500


class LeNet5(nn.Module):
    """From images to logits: unnormalised log-probabilities of the ten classes.

    `mean` and `std`, of pixels / 255, standardise the images. They are buffers: a saved model needs nothing beside it.
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
        # The channels of a pixel lie side by side, which is faster on a processor.
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, float32 N×10, of `images`, N×1×28×28 with pixels from 0 to 255 (uint8 or float32)."""
        return self.activations(images)["F7"]

    def activations(self, images: Tensor) -> dict[str, Tensor]:
        """Return what each layer makes of `images` (as for `forward`), by the layer's name, in order.

        All but F7 are given after ReLU.
        """
        c1 = F.relu(self.C1(self.standardise(images)))  # N×6×28×28
        s2 = F.max_pool2d(c1, 2)  # N×6×14×14
        # On a GPU, C3's gradient took a quarter of a training step: few of cuDNN's ways to it are deterministic.
        c3 = F.relu(_product(self.C3, s2) if s2.is_cuda else self.C3(s2))  # N×16×10×10
        s4 = F.max_pool2d(c3, 2)  # N×16×5×5
        # C5's kernel covers its whole input, so this convolution is a matrix product, and much faster as one.
        c5 = F.relu(F.linear(rows(s4), rows(self.C5.weight), self.C5.bias))  # N×120
        f6 = F.relu(self.F6(c5))  # N×84
        f7 = self.F7(f6)  # N×10
        return {"C1": c1, "S2": s2, "C3": c3, "S4": s4, "C5": c5, "F6": f6, "F7": f7}

    def standardise(self, images: Tensor) -> Tensor:
        """Return `images` (as for `forward`) with a mean of about 0 and a standard deviation of about 1."""
        return (images / 255 - self.mean) / self.std


def _product(layer: nn.Conv2d, images: Tensor) -> Tensor:
    """Return `layer(images)`, where nothing is padded, as one matrix product: of all 5×5 patches and the kernels."""
    patches = images.permute(0, 2, 3, 1).unfold(1, 5, 1).unfold(2, 5, 1)  # N×H×W×C×5×5
    product = F.linear(patches.flatten(3), layer.weight.flatten(1), layer.bias)
    return product.permute(0, 3, 1, 2)


def rows(tensor: Tensor) -> Tensor:
    """Return `tensor` (N×C×H×W) as a matrix of N rows, in the order in which it lies in memory: no copy."""
    return tensor.permute(0, 2, 3, 1).flatten(1)


def predict(model: nn.Module, images: Tensor, threads: int = 1) -> Tensor:
    """Return the model's logits, float32 N×10, for `images`, N×1×28×28. The model is left in the mode it was in.

    A processor computes in so many `threads`; the result is the same in any number of them.
    """
    training = model.training
    model.eval()
    logits = torch.cat(Threads(threads, images.device).map(torch.no_grad()(model.__call__), images.split(_BATCH)))
    model.train(training)
    return logits


def to_bytes(model: LeNet5) -> bytes:
    """Return the parameters and buffers of `model` as a safetensors file; equal ones give equal bytes.

    The format holds arrays and no code, so that such a file is safe to open.
    """
    return safetensors.torch.save({name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()})


def from_bytes(data: bytes, name: str) -> LeNet5:
    """Return the model that `to_bytes` made `data` of, on the CPU, in eval mode.

    Raises PipelineError, which begins with `name`, if `data` is not that of a LeNet5 with finite weights.
    """
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, KeyError) as error:  # KeyError: a type of numbers that PyTorch lacks
        raise PipelineError(f"{name} is no safetensors file: {error}") from None
    model = LeNet5()
    expected = {key: (tuple(tensor.shape), tensor.dtype) for key, tensor in model.state_dict().items()}
    found = {key: (tuple(tensor.shape), tensor.dtype) for key, tensor in tensors.items()}
    for key in sorted(expected | found):
        if expected.get(key) != found.get(key):
            raise PipelineError(f"{name} is no LeNet-5: {key} is {found.get(key)} instead of {expected.get(key)}")
        if not tensors[key].isfinite().all():
            raise PipelineError(f"{name} is no usable model: {key} holds NaN or infinity")
    if tensors["std"] <= 0:
        raise PipelineError(f"{name} is no usable model: std is {tensors['std']:g}, but must be above 0")
    model.load_state_dict(tensors)
    return model.eval()
