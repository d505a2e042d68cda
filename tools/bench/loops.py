"""The ways to train that are compared: the tutorial's loop, a plain one, and ours without one of its tricks."""

from typing import Any, cast
from unittest import mock

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lenet import training
from lenet.model import LeNet5
from lenet.training import TrainConfig
from tools.bench.common import DATA, MEAN, STD, ours, pytorchs_threads, recipe
from tools.recipes import TUTORIAL


def tutorial_model() -> nn.Sequential:
    """Return LeNet-5 as the tutorial builds it: standardised images to log-probabilities."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 120, 5), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(120, 84), nn.ReLU()),
        *(nn.Linear(84, 10), nn.LogSoftmax(1)),
    )


def tutorial_loader(train: bool, workers: int) -> DataLoader[Any]:
    """Return MNIST as the tutorial reads it."""
    from torchvision import datasets, transforms  # only here: this import takes longer than all of ours

    class FromHere(datasets.MNIST):  # type: ignore[misc] # torchvision tells no types
        raw_folder = str(DATA)

    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))])
    digits = FromHere("", train=train, transform=transform)
    return DataLoader(digits, batch_size=64 if train else 1000, shuffle=train, num_workers=workers)


@pytorchs_threads()
def tutorial_epoch(workers: int) -> None:
    """Train a new network for an epoch, as the tutorial does."""
    model, config = tutorial_model(), recipe(**TUTORIAL)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=config.momentum)
    tutorial_steps(model, optimizer, tutorial_loader(train=True, workers=workers))


def tutorial_steps(model: nn.Module, optimizer: torch.optim.Optimizer, loader: DataLoader[Any]) -> None:
    """Train for an epoch, as the tutorial does."""
    for images, labels in loader:
        optimizer.zero_grad()
        nn.functional.nll_loss(model(images), labels).backward()
        optimizer.step()


@pytorchs_threads()
def plain_epoch(images: Tensor, labels: Tensor, layout: torch.memory_format) -> None:
    """Train for an epoch on `images`, standardised (float32 N×1×28×28), with no trick but, if asked for, the layout."""
    model = tutorial_model().to(memory_format=layout)
    config = recipe(**TUTORIAL)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=config.momentum)
    for index in torch.randperm(len(images)).split(config.batch_size):
        optimizer.zero_grad()
        nn.functional.nll_loss(model(images[index]), labels[index]).backward()
        optimizer.step()


class Nchw(LeNet5):
    """Ours, each channel an image of its own in memory."""

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__(mean, std)
        self.to(memory_format=torch.contiguous_format)


class C5Convolution(LeNet5):
    """Ours, with C5 as the convolution that it is called."""

    def forward(self, images: Tensor) -> Tensor:
        """See LeNet5."""
        s2 = F.max_pool2d(F.relu(self.C1(self.standardise(images))), 2)
        s4 = F.max_pool2d(F.relu(self.C3(s2)), 2)
        return cast(Tensor, self.F7(F.relu(self.F6(F.relu(self.C5(s4)).flatten(1)))))


def our_epoch(images: Tensor, labels: Tensor, config: TrainConfig, kind: type[LeNet5] = LeNet5) -> None:
    """Train for an epoch, as the stage train does."""
    list(ours(images, labels, config, kind=kind))


@pytorchs_threads()
def shared_epoch(images: Tensor, labels: Tensor, config: TrainConfig) -> None:
    """Train for an epoch on PyTorch's threads instead of ours."""
    list(ours(images, labels, config, threads=1))


def unfused_epoch(images: Tensor, labels: Tensor, config: TrainConfig) -> None:
    """Train for an epoch with PyTorch's usual SGD, which takes several passes over the weights."""

    def new_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), config.lr, config.momentum)

    with mock.patch.object(training, "new_optimizer", new_optimizer):
        our_epoch(images, labels, config)
