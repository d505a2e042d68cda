"""The layers of a model, whichever it is: what they are called, what they do, and their outputs for an image."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

# What is said of a layer, by its kind; of a layer of another kind, the name of its class.
KINDS: dict[type[nn.Module], str] = {
    nn.Conv2d: "convolution",
    nn.MaxPool2d: "max-pooling",
    nn.AvgPool2d: "average pooling",
    nn.Linear: "fully connected",
}
# Kinds that are described together with the layer before them.
FOLLOWING: dict[type[nn.Module], str] = {
    nn.BatchNorm1d: "batch normalisation",
    nn.BatchNorm2d: "batch normalisation",
    nn.ReLU: "ReLU",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.Dropout: "",
    nn.Dropout2d: "",
    nn.Flatten: "",
    nn.Identity: "",
}


class Layer(NamedTuple):
    """A layer and those that are described together with it.

    `name` is the first one's name in the model, `modules` are their names and themselves in order, `kind` says what
    they do, and `output` is the last one's output for an image: maps (float C×H×W), units (float N), or None if it is
    neither.
    """

    name: str
    modules: list[tuple[str, nn.Module]]
    kind: str
    output: Tensor | None


def layers(model: nn.Module, image: Tensor) -> list[Layer]:
    """Return the layers of `model`, in the order in which they run for one `image` (uint8 28×28), in eval mode.

    What `forward` does without a module, such as a call of `torch.nn.functional.relu`, is not seen.
    """
    found: list[Layer] = []

    def record(name: str, module: nn.Module, output: Any) -> None:
        following, kind = _look_up(FOLLOWING, module), _look_up(KINDS, module)
        if found and following is not None:
            last = found[-1]
            words = ", ".join(filter(None, (last.kind, following)))
            shown = last.output if isinstance(module, nn.Flatten) else _shown(output)
            found[-1] = Layer(last.name, [*last.modules, (name, module)], words, shown)
        else:
            found.append(Layer(name, [(name, module)], kind or following or type(module).__name__, _shown(output)))

    hooks = [
        module.register_forward_hook(lambda module, _, output, name=name: record(name, module, output))
        for name, module in _leaves(model)
    ]
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(image[None, None])
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return found


def _leaves(model: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """Return the layers of `model` with their names, also those in an nn.Sequential of it."""
    children = [(prefix + name, child) for name, child in model.named_children()]
    return [
        leaf
        for name, child in children
        for leaf in (_leaves(child, f"{name}.") if type(child) is nn.Sequential else [(name, child)])
    ]


def _look_up(words: dict[type[nn.Module], str], module: nn.Module) -> str | None:
    return next((word for kind, word in words.items() if isinstance(module, kind)), None)


def _shown(output: Any) -> Tensor | None:
    if not isinstance(output, Tensor) or output.ndim not in (2, 4):
        return None
    values = output[0]
    return values.flatten() if values.shape[1:] == (1, 1) else values
