"""How fast is training, and compared with what? `make bench` prints it, all from one run on one machine.

The yardstick is the loop of PyTorch tutorials: torchvision's data set, each image through PIL, ToTensor and Normalize,
a DataLoader, one batch at a time. Its mathematics and ours are the same here: LeNet-5, batches of 64, SGD with a
learning rate of 0.01 and a momentum of 0.5, no augmentation (tests/test_train.py compares the losses).
"""

import stages.runner  # noqa: F401 - first: as in each stage, it sets what PyTorch reads when it is imported

# isort: split
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from statistics import median

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lenet.augment import AugmentConfig
from lenet.compute import ComputeConfig, prepare
from lenet.model import LeNet5
from lenet.score import accuracy, predict
from lenet.train import TrainConfig, fit
from stages import mnist, params

REPEATS = 5
TARGET = 0.99  # test accuracy
TUTORIAL_EPOCHS = 6  # at most, on the way to TARGET
MEAN, STD = 0.1307, 0.3081
PLAIN = AugmentConfig(rotation=0, shift=0, scale=0, shear=0, elastic=0)
TUTORIAL = TrainConfig(
    seed=0,
    epochs=1,
    batch_size=64,
    optimizer="sgd",
    lr=0.01,
    momentum=0.5,
    nesterov=False,
    weight_decay=0,
    schedule="constant",
    warmup=0,
    label_smoothing=0,
    augment=PLAIN,
)
DEFAULT = params.read("train", TrainConfig)
AUGMENTED = replace(TUTORIAL, augment=DEFAULT.augment)
FAST = replace(DEFAULT, epochs=3)

# Multiplications and additions for one image, forward: 2 · outputs · inputs of each.
FLOPS = {
    "C1": 2 * (6 * 28 * 28) * (1 * 5 * 5),
    "C3": 2 * (16 * 10 * 10) * (6 * 5 * 5),
    "C5": 2 * 120 * (16 * 5 * 5),
    "F6": 2 * 84 * 120,
    "F7": 2 * 10 * 84,
}
# Backward costs each layer as much again for its weights and once more for its input, which C1 does not need.
STEP_FLOPS = 3 * sum(FLOPS.values()) - FLOPS["C1"]


def tutorial_model() -> nn.Sequential:
    """Return LeNet-5 as the tutorial builds it: standardised images to log-probabilities."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 120, 5), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(120, 84), nn.ReLU()),
        *(nn.Linear(84, 10), nn.LogSoftmax(1)),
    )


def tutorial_loader(train: bool, workers: int) -> DataLoader:
    """Return MNIST as the tutorial reads it."""
    from torchvision import datasets, transforms  # only here: this import takes longer than all of ours

    class FromHere(datasets.MNIST):
        raw_folder = str(mnist.FOLDER)

    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))])
    digits = FromHere("", train=train, transform=transform)
    return DataLoader(digits, batch_size=64 if train else 1000, shuffle=train, num_workers=workers)


def tutorial_epoch(model: nn.Module, optimizer: torch.optim.Optimizer, loader: DataLoader) -> None:
    """Train for an epoch, as the tutorial does."""
    for images, labels in loader:
        optimizer.zero_grad()
        nn.functional.nll_loss(model(images), labels).backward()
        optimizer.step()


def tensors(split: str) -> tuple[Tensor, Tensor]:
    """Return the images, uint8 N×1×28×28, and labels, int64 N, of `split` (train or t10k)."""
    digits = mnist.read(split)
    return torch.tensor(digits.images).unsqueeze(1), torch.tensor(digits.labels).long()


def ours(images: Tensor, labels: Tensor, config: TrainConfig) -> Iterator[tuple[LeNet5, dict]]:
    """Train; yield the model and fit's row after each epoch."""
    torch.manual_seed(config.seed)
    model = LeNet5(MEAN, STD)
    for row in fit(model, images, labels, images[:0], labels[:0], config):
        yield model, row


def throughput() -> None:
    """Print 1: images a second in training, and 2: how near to the processor's limit that is."""
    images, labels = tensors("train")
    seconds: dict[str, list[float]] = {}
    for _ in range(REPEATS):
        for workers in (0, 4):
            torch.manual_seed(0)
            model = tutorial_model()
            optimizer = torch.optim.SGD(model.parameters(), lr=TUTORIAL.lr, momentum=TUTORIAL.momentum)
            loader = tutorial_loader(train=True, workers=workers)
            start = time.perf_counter()
            tutorial_epoch(model, optimizer, loader)
            seconds.setdefault(f"the tutorial's loop, {workers} workers", []).append(time.perf_counter() - start)
        for name, config in (("ours", TUTORIAL), ("ours, with augmentation", AUGMENTED)):
            start = time.perf_counter()
            list(ours(images, labels, config))
            seconds.setdefault(name, []).append(time.perf_counter() - start)
    print(f"training, an epoch of 60,000 images, median of {REPEATS} in turn (fastest to slowest)")
    for name, times in seconds.items():
        spread = f"({min(times):.2f} to {max(times):.2f})"
        print(f"  {name:32}{median(times):6.2f} s {spread:18}{60_000 / median(times):8,.0f} images/s")
    best = min(median(times) for name, times in seconds.items() if name.startswith("the"))
    print(f"  ours is {best / median(seconds['ours']):.1f} times as fast\n")

    a, b = torch.rand(2, 2048, 2048)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - start)
    achieved = STEP_FLOPS * 60_000 / median(seconds["ours"])
    print("how near to the limit")
    print(f"  ours, {STEP_FLOPS / 1e6:.2f} MFLOP an image    {achieved / 1e9:6.0f} GFLOP/s")
    print(f"  a matrix product, 2048×2048 {2 * 2048**3 / median(times) / 1e9:6.0f} GFLOP/s\n")


def until_target(name: str) -> None:
    """Train until the test accuracy reaches TARGET; print the epochs and the accuracy. Runs as a process of its own."""
    if name == "ours":
        images, labels = tensors("t10k")
        scores = (accuracy(predict(model, images), labels) for model, _ in ours(*tensors("train"), FAST))
    else:
        scores = tutorial_scores()
    for epoch, score in enumerate(scores, 1):
        if score >= TARGET or (name != "ours" and epoch == TUTORIAL_EPOCHS):
            break
    print(f"{epoch} epochs, {score:.2%}" + ("" if score >= TARGET else ": not reached"))


def tutorial_scores() -> Iterator[float]:
    """Train as the tutorial does; yield the test accuracy after each epoch."""
    torch.manual_seed(0)
    model = tutorial_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=TUTORIAL.lr, momentum=TUTORIAL.momentum)
    loader, test = tutorial_loader(train=True, workers=0), tutorial_loader(train=False, workers=0)
    while True:
        tutorial_epoch(model, optimizer, loader)
        with torch.no_grad():
            hits = [model(images).argmax(1) == labels for images, labels in test]
        yield torch.cat(hits).double().mean().item()


def time_to_target() -> None:
    """Print 3: the seconds from the start of a process, imports and all, to TARGET on the test set.

    Here each has its own recipe: ours the default's for 3 epochs, the tutorial's loop the tutorial's settings.
    """
    print(f"from the start of the process to a test accuracy of {TARGET:.0%}")
    for name in ("ours", "tutorial"):
        start = time.perf_counter()
        command = [sys.executable, "-m", "tests.bench", name]
        result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        print(f"  {name:10}{time.perf_counter() - start:7.1f} s  {result}", flush=True)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message="This DataLoader will create 4 worker processes")
    prepare(ComputeConfig(device="cpu", threads=2))
    if len(sys.argv) > 1:
        until_target(sys.argv[1])
    else:
        throughput()
        time_to_target()
