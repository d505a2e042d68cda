"""How fast is training, and compared with what? `make bench` prints it, all from one run on one machine.

One yardstick is the loop of PyTorch tutorials: torchvision's data set, each image through PIL, ToTensor and Normalize,
a DataLoader, one batch at a time. Another is the plain loop that one would write next: the images are one tensor,
standardised beforehand, and the network is an nn.Sequential. Their mathematics and ours are the same here: LeNet-5,
batches of 64, SGD with a learning rate of 0.01 and a momentum of 0.5, no augmentation (tests/test_training.py compares
the losses). Each instruction set has a process of its own, because libraries choose it when they are loaded.

`python -m tools.bench FILE` also writes what it prints as a CSV.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, cast
from unittest import mock

import pandas as pd
import torch
import torch.nn.functional as F  # noqa: N812
from tabulate import tabulate
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lenet import arithmetic, training
from lenet.checking import check
from lenet.compute import ComputeConfig, prepare
from lenet.config import Config
from lenet.data import folds, idx
from lenet.data.folds import SplitConfig
from lenet.errors import PipelineError, run
from lenet.metrics import accuracy
from lenet.model import LeNet5, predict, rows
from lenet.provenance import machine
from lenet.training import Epoch, TrainConfig, fit
from tools import pipeline
from tools.recipes import NO_DISTORTIONS, TUTORIAL, changed

DATA = Path("data/mnist")
THREADS = 2
REPEATS = 5
RATE = "rate"
TARGET = 0.99  # test accuracy
TUTORIAL_EPOCHS = 6  # at most, on the way to TARGET
EPOCHS_TO_TARGET = 3  # of ours, whose learning rate has come down to 0 by then
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


def tensors(split: str) -> tuple[Tensor, Tensor]:
    """Return the images, uint8 N×1×28×28, and labels, int64 N, of `split` (train or t10k)."""
    images, labels = (
        torch.tensor(idx.decode((DATA / name).read_bytes(), name))
        for name in (f"{split}-images-idx3-ubyte", f"{split}-labels-idx1-ubyte")
    )
    return images.unsqueeze(1), labels.long()


def parts(images: Tensor, labels: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the images and labels that train, and those that validate, by the split of params.yaml."""
    split: SplitConfig = _config(SplitConfig, "split", {})
    train, val = (torch.from_numpy(index) for index in folds.split(len(images), split))
    return (images[train], labels[train]), (images[val], labels[val])


def ours(
    images: Tensor, labels: Tensor, config: TrainConfig, val: tuple[Tensor, Tensor] | None = None
) -> Iterator[tuple[LeNet5, Epoch]]:
    """Train, and validate with the images and labels `val`; yield the model and fit's row after each epoch."""
    torch.manual_seed(config.seed)
    model = LeNet5(MEAN, STD).to(images.device)
    for row in fit(model, images, labels, *(val or (images[:0], labels[:0])), config):
        yield model, row


class Table:
    """What was measured, a row each, and on what."""

    def __init__(self, machine: dict[str, str]) -> None:
        self.machine = machine
        self.rows: list[dict[str, str | float]] = []

    def add(self, what: str, unit: str, values: list[float]) -> None:
        """Add the median of `values` and their range, and print it."""
        spread = {"n": len(values), "median": median(values), "lowest": min(values), "highest": max(values)}
        self.rows.append({"measured": what, "unit": unit, **spread})
        print(f"{what}: {median(values):.4g} {unit}", file=sys.stderr, flush=True)

    def show(self, file: Path | None) -> None:
        """Print the table, and write it into `file` as a CSV, with a column for each fact about the machine."""
        rows = pd.DataFrame(self.rows)
        print(tabulate(rows, headers="keys", showindex=False, floatfmt=".4g"))
        if file:
            rows.assign(**self.machine).to_csv(file, index=False, float_format="%.4g", lineterminator="\n")


def prepare_for(device: str) -> torch.device:
    """Prepare to compute on `device`, and return it."""
    return prepare(_config(ComputeConfig, "compute", {"compute.device": device, "compute.threads": THREADS}))


def recipe(**changes: Any) -> TrainConfig:
    """Return the training of params.yaml with `changes`, named as in `train.lr`."""
    return cast(TrainConfig, _config(TrainConfig, "train", changes))


def _config(kind: type[Config], section: str, changes: dict[str, Any]) -> Any:
    params = changed(pipeline.load(Path("params.yaml")), changes)
    return check(params, {section: kind}, "params.yaml")[section]


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


class ReluFirst(LeNet5):
    """Ours, with each ReLU before the pooling."""

    def forward(self, images: Tensor) -> Tensor:
        """See LeNet5."""
        standardised = (images / 255 - self.mean) / self.std
        s2 = F.max_pool2d(F.relu(self.C1(standardised)), 2)
        s4 = F.max_pool2d(F.relu(self.C3(s2)), 2)
        c5 = F.relu(F.linear(rows(s4), rows(self.C5.weight), self.C5.bias))
        return cast(Tensor, self.F7(F.relu(self.F6(c5))))


class C5Convolution(LeNet5):
    """Ours, with C5 as the convolution that it is called."""

    def forward(self, images: Tensor) -> Tensor:
        """See LeNet5."""
        standardised = (images / 255 - self.mean) / self.std
        s2 = F.relu(F.max_pool2d(self.C1(standardised), 2))
        s4 = F.relu(F.max_pool2d(self.C3(s2), 2))
        return cast(Tensor, self.F7(F.relu(self.F6(F.relu(self.C5(s4)).flatten(1)))))


def our_epoch(images: Tensor, labels: Tensor, config: TrainConfig, kind: type[LeNet5] = LeNet5) -> None:
    """Train a network of `kind`, ours or ours without one of its tricks, for an epoch."""
    with mock.patch.object(sys.modules[__name__], "LeNet5", kind):
        list(ours(images, labels, config))


def unfused_epoch(images: Tensor, labels: Tensor, config: TrainConfig) -> None:
    """Train for an epoch with PyTorch's usual SGD, which takes several passes over the weights."""

    def new_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), config.lr, config.momentum)

    with mock.patch.object(training, "new_optimizer", new_optimizer):
        list(ours(images, labels, config))


def epochs() -> dict[str, list[float]]:
    """Return the seconds of an epoch of 60,000 images in each way, measured in turn; and the rate of matrix products.

    That rate (GFLOP/s, 2048×2048 in float32) is the limit of what the processor can do.
    """
    images, labels = tensors("train")
    standardised = (images / 255 - MEAN) / STD
    tutorial = recipe(**TUTORIAL)
    distorted = recipe(**{name: value for name, value in TUTORIAL.items() if name not in NO_DISTORTIONS})
    ways: dict[str, Callable[[], None]] = {
        "the tutorial's loop": lambda: tutorial_epoch(workers=0),
        "the tutorial's loop, 4 workers": lambda: tutorial_epoch(workers=4),
        "a plain loop": lambda: plain_epoch(standardised, labels, torch.contiguous_format),
        "a plain loop, channels_last": lambda: plain_epoch(standardised, labels, torch.channels_last),
        "ours": lambda: our_epoch(images, labels, tutorial),
        "ours without channels_last": lambda: our_epoch(images, labels, tutorial, Nchw),
        "ours without ReLU after the pooling": lambda: our_epoch(images, labels, tutorial, ReluFirst),
        "ours without C5 as a product": lambda: our_epoch(images, labels, tutorial, C5Convolution),
        "ours without the fused optimiser": lambda: unfused_epoch(images, labels, tutorial),
        "ours with distortions": lambda: our_epoch(images, labels, distorted),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, epoch in ways.items():
            torch.manual_seed(0)
            start = time.perf_counter()
            epoch()
            seconds[name].append(time.perf_counter() - start)
    a, b = torch.rand(2, 2048, 2048)
    rates = []
    for _ in range(4 * REPEATS):
        start = time.perf_counter()
        a @ b
        rates.append(2 * 2048**3 / (time.perf_counter() - start) / 1e9)
    return seconds | {RATE: rates}


def compare(table: Table) -> None:
    """Add an epoch in each way, and how near ours is to the processor's limit, with each instruction set there is."""
    instruction_sets = {"AVX2": arithmetic.environment()}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and " avx512f " in cpuinfo.read_text():
        instruction_sets["AVX-512"] = {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}
    for name, variables in instruction_sets.items():
        command = [sys.executable, "-m", "tools.bench", "--epochs"]
        done = subprocess.run(command, env=os.environ | variables, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout)
        rates = found.pop(RATE)
        for way, seconds in found.items():
            table.add(f"epoch, {name}, {way}", "s", seconds)
        ours = [STEP_FLOPS * 60_000 / seconds / 1e9 for seconds in found["ours"]]
        table.add(f"rate, {name}, ours", "GFLOP/s", ours)
        table.add(f"rate, {name}, a matrix product, 2048×2048", "GFLOP/s", rates)


def until_target(name: str, device: str, seed: int) -> None:
    """Train until the test accuracy reaches TARGET, or give up; print the epochs and the accuracy.

    Here each has its own recipe: ours the default's for three epochs, the tutorial's loop the tutorial's settings.
    """
    if name == "ours":
        images, labels = (tensor.to(device) for tensor in tensors("t10k"))
        train_images, train_labels = (tensor.to(device) for tensor in tensors("train"))
        scores = []
        for model, _ in ours(
            train_images, train_labels, recipe(**{"train.epochs": EPOCHS_TO_TARGET, "train.seed": seed})
        ):
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
        tutorial_steps(model, optimizer, loader)
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
    parser.add_argument("csv", nargs="?", type=Path, help="a file for the table")
    parser.add_argument("--until-target", choices=["ours", "tutorial"], help=argparse.SUPPRESS)
    parser.add_argument("--epochs", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not DATA.is_dir():
        raise PipelineError(f"there is no {DATA}: run dvc repro first")
    warnings.filterwarnings("ignore", message="This DataLoader will create 4 worker processes")
    device = prepare_for(options.device)
    if options.until_target:
        until_target(options.until_target, options.device, options.seed)
        return
    if options.epochs:
        print(json.dumps(epochs()))
        return
    table = Table(machine(device))
    compare(table)
    processes(table)
    table.show(options.csv)


def restart() -> None:
    """Start this command again if it was started without the variables of lenet/arithmetic.py.

    As in the stages: they decide bits, and so also speed, and have to be set before Python starts. Other values of
    them, such as those of another instruction set, stay.
    """
    wanted = arithmetic.environment() | os.environ
    if os.environ != wanted:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)  # noqa: S606


if __name__ == "__main__":
    restart()
    run(main)
