"""How fast is training, and compared with what? `make bench` prints it, all from one run on one machine.

The yardstick is the loop of PyTorch tutorials: torchvision's data set, each image through PIL, ToTensor and Normalize,
a DataLoader, one batch at a time. Its mathematics and ours are the same here: LeNet-5, batches of 64, SGD with a
learning rate of 0.01 and a momentum of 0.5, no augmentation (tests/test_training.py compares the losses).

`python -m tools.bench FILE` also writes what it prints as a CSV.
"""

import argparse
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, cast

import pandas as pd
import torch
from tabulate import tabulate
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lenet import arithmetic
from lenet.checking import check
from lenet.compute import ComputeConfig, prepare
from lenet.config import Config
from lenet.data import idx
from lenet.errors import PipelineError, run
from lenet.metrics import accuracy
from lenet.model import LeNet5, predict
from lenet.training import Epoch, TrainConfig, fit
from tools import pipeline
from tools.recipes import NO_DISTORTIONS, TUTORIAL, changed

DATA = Path("data/mnist")
THREADS = 2
REPEATS = 5
TARGET = 0.99  # test accuracy
TUTORIAL_EPOCHS = 6  # at most, on the way to TARGET
MEAN, STD = 0.1307, 0.3081
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


def tutorial_loader(train: bool, workers: int) -> DataLoader[Any]:
    """Return MNIST as the tutorial reads it."""
    from torchvision import datasets, transforms  # only here: this import takes longer than all of ours

    class FromHere(datasets.MNIST):  # type: ignore[misc] # torchvision tells no types
        raw_folder = str(DATA)

    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))])
    digits = FromHere("", train=train, transform=transform)
    return DataLoader(digits, batch_size=64 if train else 1000, shuffle=train, num_workers=workers)


def tutorial_epoch(model: nn.Module, optimizer: torch.optim.Optimizer, loader: DataLoader[Any]) -> None:
    """Train for an epoch, as the tutorial does."""
    for images, labels in loader:
        optimizer.zero_grad()
        nn.functional.nll_loss(model(images), labels).backward()
        optimizer.step()


def tensors(split: str) -> tuple[Tensor, Tensor]:
    """Return the images, uint8 N×1×28×28, and labels, int64 N, of `split` (train or t10k)."""
    images, labels = (
        torch.tensor(idx.decode((DATA / name).read_bytes(), name))
        for name in (f"{split}-images-idx3-ubyte", f"{split}-labels-idx1-ubyte")
    )
    return images.unsqueeze(1), labels.long()


def ours(images: Tensor, labels: Tensor, config: TrainConfig) -> Iterator[tuple[LeNet5, Epoch]]:
    """Train; yield the model and fit's row after each epoch."""
    torch.manual_seed(config.seed)
    model = LeNet5(MEAN, STD)
    for row in fit(model, images, labels, images[:0], labels[:0], config):
        yield model, row


class Table:
    """What was measured, a row each."""

    def __init__(self) -> None:
        self.rows: list[dict[str, str | float]] = []

    def add(self, what: str, unit: str, values: list[float]) -> None:
        """Add the median of `values` and their range, and print it."""
        spread = {"n": len(values), "median": median(values), "lowest": min(values), "highest": max(values)}
        self.rows.append({"measured": what, "unit": unit, **spread})
        print(f"{what}: {median(values):.4g} {unit}", file=sys.stderr, flush=True)


def recipe(**changes: Any) -> TrainConfig:
    """Return the training of params.yaml with `changes`, named as in `train.lr`."""
    return cast(TrainConfig, _config(TrainConfig, "train", changes))


def _config(kind: type[Config], section: str, changes: dict[str, Any]) -> Any:
    params = changed(pipeline.load(Path("params.yaml")), changes)
    return check(params, {section: kind}, "params.yaml")[section]


def epochs(table: Table) -> None:
    """Measure an epoch of 60,000 images in each way, in turn, and how near ours is to the processor's limit."""
    images, labels = tensors("train")
    seconds: dict[str, list[float]] = {}
    tutorial = recipe(**TUTORIAL)
    distorted = recipe(**{name: value for name, value in TUTORIAL.items() if name not in NO_DISTORTIONS})
    for _ in range(REPEATS):
        for workers in (0, 4):
            torch.manual_seed(0)
            model = tutorial_model()
            optimizer = torch.optim.SGD(model.parameters(), lr=tutorial.lr, momentum=tutorial.momentum)
            loader = tutorial_loader(train=True, workers=workers)
            start = time.perf_counter()
            tutorial_epoch(model, optimizer, loader)
            seconds.setdefault(f"epoch, the tutorial's loop, {workers} workers", []).append(time.perf_counter() - start)
        for name, config in (("epoch, ours", tutorial), ("epoch, ours with distortions", distorted)):
            start = time.perf_counter()
            list(ours(images, labels, config))
            seconds.setdefault(name, []).append(time.perf_counter() - start)
    for name, times in seconds.items():
        table.add(name, "s", times)
    table.add("ours", "GFLOP/s", [STEP_FLOPS * len(images) / time / 1e9 for time in seconds["epoch, ours"]])
    a, b = torch.rand(2, 2048, 2048)
    rates = []
    for _ in range(4 * REPEATS):
        start = time.perf_counter()
        a @ b
        rates.append(2 * 2048**3 / (time.perf_counter() - start) / 1e9)
    table.add("a matrix product, 2048×2048", "GFLOP/s", rates)


def until_target(name: str) -> None:
    """Train until the test accuracy reaches TARGET, or give up; print the epochs and the accuracy.

    Here each has its own recipe: ours the default's for 3 epochs, the tutorial's loop the tutorial's settings.
    """
    if name == "ours":
        images, labels = tensors("t10k")
        scores = []
        for model, _ in ours(*tensors("train"), recipe(**{"train.epochs": 3})):
            scores.append(accuracy(predict(model, images), labels))
            if scores[-1] >= TARGET:
                break
    else:
        scores = tutorial_scores()
    print(len(scores), scores[-1])


def tutorial_scores() -> list[float]:
    """Train as the tutorial does; return the test accuracy after each epoch, at most until TARGET."""
    torch.manual_seed(0)
    config, model = recipe(**TUTORIAL), tutorial_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=config.momentum)
    loader, test = tutorial_loader(train=True, workers=0), tutorial_loader(train=False, workers=0)
    scores: list[float] = []
    while len(scores) < TUTORIAL_EPOCHS and max(scores, default=0) < TARGET:
        tutorial_epoch(model, optimizer, loader)
        with torch.no_grad():
            hits = [model(images).argmax(1) == labels for images, labels in test]
        scores.append(torch.cat(hits).double().mean().item())
    return scores


def processes(table: Table) -> None:
    """Measure whole processes, imports and all: to TARGET on the test set, and each stage of the pipeline."""
    for name in ("ours", "tutorial"):
        start = time.perf_counter()
        command = [sys.executable, "-m", "tools.bench", "--until-target", name]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        table.add(f"process of {name}", "s", [time.perf_counter() - start])
        epochs, score = map(float, printed.split())
        table.add(f"process of {name}, epochs", "", [epochs])
        table.add(f"process of {name}, test accuracy", "", [score])
    for stage in pipeline.read(Path()):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "stages", stage], check=True, stdout=subprocess.DEVNULL)
        table.add(f"stage {stage}", "s", [time.perf_counter() - start])


def main() -> None:
    """Measure everything, or train once until the target where this module calls itself to do so."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description="Measure the speed of training.")
    parser.add_argument("csv", nargs="?", type=argparse.FileType("a"), help="a file for a file for the table")
    parser.add_argument("--until-target", choices=["ours", "tutorial"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not DATA.is_dir():
        raise PipelineError(f"there is no {DATA}: run dvc repro first")
    warnings.filterwarnings("ignore", message="This DataLoader will create 4 worker processes")
    prepare(_config(ComputeConfig, "compute", {"compute.device": "cpu", "compute.threads": THREADS}))
    if options.until_target:
        until_target(options.until_target)
        return
    table = Table()
    epochs(table)
    processes(table)
    rows = pd.DataFrame(table.rows)
    print(tabulate(rows, headers="keys", showindex=False, floatfmt=".4g"))
    if options.csv:
        options.csv.truncate(0)
        rows.to_csv(options.csv, index=False, float_format="%.4g", lineterminator="\n")


if __name__ == "__main__":
    # As in the stages: what decides bits, and so also speed, has to be set before Python starts.
    wanted = os.environ | arithmetic.environment()
    if os.environ != wanted:
        os.execve(sys.executable, [sys.executable, "-m", "tools.bench", *sys.argv[1:]], wanted)  # noqa: S606
    run(main)
