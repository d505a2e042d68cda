"""Models that people may make of LeNet-5."""

import torch
from torch import Tensor, nn

from lenet.model import LeNet5


def variant(**layers: nn.Module) -> LeNet5:
    """Return an untrained model with the buffers and the forward pass of LeNet5, but with these `layers`."""
    model = LeNet5(0.13, 0.31)
    for name in [name for name, _ in model.named_children()]:
        delattr(model, name)
    for name, layer in layers.items():
        model.add_module(name, layer)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):  # as after training
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, -1, 1)
    return model.eval()


def lenet5(**changes: nn.Module) -> LeNet5:
    """Return LeNet-5 with other layers in place of those that `changes` names."""
    return variant(**dict(LeNet5().named_children()) | changes)


def activation(kind: type[nn.Module]) -> dict[str, nn.Module]:
    """Return the changes that replace ReLU."""
    return {name: kind() for name, layer in LeNet5().named_children() if isinstance(layer, nn.ReLU)}


# On the page, they are alive.
ALIVE = {
    "LeNet-5": lambda: lenet5(),
    "tanh": lambda: lenet5(**activation(nn.Tanh)),
    "sigmoid": lambda: lenet5(**activation(nn.Sigmoid)),
    "average pooling": lambda: lenet5(S2=nn.AvgPool2d(2), S4=nn.AvgPool2d(2)),
    "more channels": lambda: lenet5(
        C1=nn.Conv2d(1, 20, 5, padding=2), C3=nn.Conv2d(20, 32, 5), C5=nn.Conv2d(32, 120, 5)
    ),
    "batch normalisation": lambda: lenet5(S2_relu=nn.Sequential(nn.BatchNorm2d(6), nn.ReLU())),
    "dropout": lambda: lenet5(F6_relu=nn.Sequential(nn.ReLU(), nn.Dropout(0.5))),
    "three convolutions": lambda: variant(
        first=nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False),
        normalised=nn.BatchNorm2d(8),
        relu1=nn.ReLU(),
        second=nn.Conv2d(8, 16, 3, padding=1),
        relu2=nn.ReLU(),
        pool=nn.MaxPool2d(3, 2, 1),
        third=nn.Conv2d(16, 100, (7, 5)),
        relu3=nn.ReLU(),
        average=nn.AvgPool2d((1, 3)),
        flatten=nn.Flatten(),
        last=nn.Linear(100, 10),
    ),
    "normalised pixels": lambda: variant(pixels=nn.BatchNorm2d(1), **dict(LeNet5().named_children())),
    "an MLP": lambda: variant(
        flatten=nn.Flatten(),
        hidden=nn.Linear(784, 300),
        normalised=nn.BatchNorm1d(300),
        relu=nn.ReLU(),
        last=nn.Linear(300, 10),
    ),
}


class Attention(nn.Module):
    """Self-attention of the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.MultiheadAttention(28, 4, batch_first=True)

    def forward(self, images: Tensor) -> Tensor:
        return self.heads(*3 * [images[:, 0]])[0][:, None]


class Residual(LeNet5):
    """LeNet-5 whose forward pass does more than its layers."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + images.flatten(1)[:, :10]


# The page says why it can't run them.
LEFT_OUT = {
    "attention": (
        lambda: variant(attention=Attention(), **dict(LeNet5().named_children())),
        "attention is a Attention",
    ),
    "a convolution in groups": (lambda: lenet5(S2_relu=nn.Conv2d(6, 6, 1, groups=2)), "S2_relu is a Conv2d(6, 6, "),
    "GELU": (lambda: lenet5(F6_relu=nn.GELU()), "F6_relu is a GELU"),
    "a residual connection": (lambda: Residual(0.13, 0.31).eval(), "its layers alone"),
    "layers that form no chain": (
        lambda: variant(first=nn.Conv2d(1, 6, 5), rows=nn.Linear(24, 1), flatten=nn.Flatten(), last=nn.Linear(144, 10)),
        "its layers alone",
    ),
}


def make(name: str) -> LeNet5:
    """Return the model `name`, the same at each call."""
    torch.manual_seed(0)
    return (ALIVE.get(name) or LEFT_OUT[name][0])()
