"""What the benchmarks have in common: MNIST, the trainings that are measured, and the table of what was found."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, cast

import pandas as pd
import torch
from tabulate import tabulate
from torch import Tensor

from lenet import arithmetic
from lenet.checking import check
from lenet.compute import ComputeConfig, prepare
from lenet.config import Config
from lenet.data import folds, idx
from lenet.data.folds import SplitConfig
from lenet.model import LeNet5
from lenet.training import Epoch, TrainConfig, fit
from tools import pipeline
from tools.recipes import changed

DATA = Path("data/mnist")
MEAN, STD = 0.1307, 0.3081
THREADS = 2
REPEATS = 5
TARGET = 0.99  # test accuracy
EPOCHS_TO_TARGET = 3  # of ours, whose learning rate has come down to 0 by then


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
    images: Tensor,
    labels: Tensor,
    config: TrainConfig,
    val: tuple[Tensor, Tensor] | None = None,
    kind: type[LeNet5] = LeNet5,
    threads: int = THREADS,
) -> Iterator[tuple[LeNet5, Epoch]]:
    """Train, and validate with the images and labels `val`; yield the model and fit's row after each epoch."""
    torch.manual_seed(config.seed)
    model = kind(MEAN, STD).to(images.device)
    for row in fit(model, images, labels, *(val or (images[:0], labels[:0])), config, threads):
        yield model, row


@contextmanager
def pytorchs_threads() -> Iterator[None]:
    """Have PyTorch share each operation between THREADS threads, as it does if it is not told otherwise."""
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(1)


def prepare_for(device: str) -> torch.device:
    """Prepare to compute on `device`, and return it."""
    return prepare(_config(ComputeConfig, "compute", {"compute.device": device, "compute.threads": THREADS}))


def recipe(**changes: Any) -> TrainConfig:
    """Return the training of params.yaml with `changes`, named as in `train.lr`."""
    return cast(TrainConfig, _config(TrainConfig, "train", changes))


def _config(kind: type[Config], section: str, changes: dict[str, Any]) -> Any:
    params = changed(pipeline.load(Path("params.yaml")), changes)
    return check(params, {section: kind}, "params.yaml")[section]


def restart() -> None:
    """Start this command again if it was started without the variables of lenet/arithmetic.py.

    As in the stages: they decide bits, and so also speed, and have to be set before Python starts. Other values of
    them, such as those of another instruction set, stay.
    """
    wanted = arithmetic.environment() | os.environ
    if os.environ != wanted:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)  # noqa: S606


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
