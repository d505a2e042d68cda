"""A model as a list of operations that the report's page can run, and those operations in NumPy.

lenet/report/network.js has the same operations. NumPy's are compared with PyTorch before a page is written, and a test
compares the page's with NumPy's.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor, nn

from lenet.layers import Layer

Operation = dict[str, Any]


class Unknown(Exception):  # noqa: N818 - it is no error: the page says so
    """A model does something that the page can't."""


def operations(found: list[Layer]) -> list[list[Operation]]:
    """Return for each of the layers `found` its operations: a kind, the prefix of its tensors' names, and settings.

    Raises Unknown for a layer that the page can't run.
    """
    return [
        [operation | {"name": name} for name, module in layer.modules if (operation := _operation(name, module))]
        for layer in found
    ]


def _operation(name: str, module: nn.Module) -> Operation:
    """Return the operation that `module` is in eval mode; an empty one for a module that does nothing then."""
    match module:
        case nn.Conv2d(groups=1, dilation=(1, 1), padding_mode="zeros") if not isinstance(module.padding, str):
            return {"kind": "convolve", "stride": module.stride, "padding": module.padding}
        case nn.MaxPool2d(dilation=1, ceil_mode=False, return_indices=False):
            return _pooling("largest", module)
        case nn.AvgPool2d(ceil_mode=False, count_include_pad=True, divisor_override=None):
            return _pooling("mean", module)
        case nn.BatchNorm1d() | nn.BatchNorm2d() if module.running_var is not None:
            return {"kind": "normalise", "eps": module.eps}
        case nn.Linear():
            return {"kind": "sum"}
        case nn.ReLU() | nn.Tanh() | nn.Sigmoid():
            return {"kind": type(module).__name__.lower()}
        case nn.Flatten(start_dim=1, end_dim=-1):
            return {"kind": "flatten"}
        case nn.Dropout() | nn.Dropout2d() | nn.Identity():
            return {}
    raise Unknown(f"{name} is a {module}")


def _pooling(kind: str, module: Any) -> Operation:
    pairs = {name: _pair(getattr(module, name)) for name in ("kernel_size", "stride", "padding")}
    return {"kind": kind, "size": pairs["kernel_size"], "stride": pairs["stride"], "padding": pairs["padding"]}


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def run(chain: list[Operation], tensors: dict[str, Tensor], image: np.ndarray) -> np.ndarray:
    """Return the output of the last operation of `chain` for `image` (uint8 28×28), computed in float64.

    `tensors` are those of the model, by name.
    """
    values = {name: tensor.double().numpy() for name, tensor in tensors.items()}
    x: np.ndarray = (image[None] / 255 - values["mean"]) / values["std"]
    for operation in chain:
        prefix = operation["name"] + "."
        own = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
        x = RUN[operation["kind"]](x, operation, own)
    return x


def _windows(x: np.ndarray, size: tuple[int, ...], operation: Operation, outside: float = 0) -> np.ndarray:
    """Return the windows of `x` (C×H×W) that an operation looks at: C×H'×W' windows of `size`."""
    (top, left), (down, right) = operation["padding"], operation["stride"]
    padded = np.pad(x, [(0, 0), (top, top), (left, left)], constant_values=outside)
    windows: np.ndarray = sliding_window_view(padded, size, (1, 2))[:, ::down, ::right]
    return windows


def _convolve(x: np.ndarray, operation: Operation, own: dict[str, np.ndarray]) -> np.ndarray:
    weight = own["weight"]
    sums: np.ndarray = np.einsum("chwij,ocij->ohw", _windows(x, weight.shape[2:], operation), weight)
    return sums + own["bias"][:, None, None] if "bias" in own else sums


def _normalise(x: np.ndarray, operation: Operation, own: dict[str, np.ndarray]) -> np.ndarray:
    scale = own.get("weight", 1) / np.sqrt(own["running_var"] + operation["eps"])
    shift = own.get("bias", 0) - own["running_mean"] * scale
    axes = (slice(None), *[None] * (x.ndim - 1))
    scaled: np.ndarray = x * scale[axes] + shift[axes]
    return scaled


RUN: dict[str, Callable[[np.ndarray, Operation, dict[str, np.ndarray]], np.ndarray]] = {
    "convolve": _convolve,
    "largest": lambda x, o, _: _windows(x, o["size"], o, -np.inf).max((-2, -1)),
    "mean": lambda x, o, _: _windows(x, o["size"], o).mean((-2, -1)),
    "normalise": _normalise,
    "sum": lambda x, _, own: own["weight"] @ x + own.get("bias", 0),
    "relu": lambda x, *_: np.maximum(x, 0),
    "tanh": lambda x, *_: np.tanh(x),
    "sigmoid": lambda x, *_: 1 / (1 + np.exp(-x)),
    "flatten": lambda x, *_: x.ravel(),
}
