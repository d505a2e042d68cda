"""A model as bytes and back, in the safetensors format: it holds arrays and no code, so that it is safe to open."""

from safetensors import SafetensorError
from safetensors.torch import load, save

from lenet.errors import PipelineError
from lenet.model import LeNet5


def to_bytes(model: LeNet5) -> bytes:
    """Return the parameters and buffers of `model`; equal ones give equal bytes."""
    return save({name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()})


def from_bytes(data: bytes, name: str) -> LeNet5:
    """Return the model that `to_bytes` made `data` of, on the CPU, in eval mode.

    Raises PipelineError, which begins with `name`, if `data` is not that of a LeNet5 with finite weights.
    """
    try:
        tensors = load(data)
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
    model.load_state_dict(tensors)
    return model.eval()
