"""Measure what each ingredient of the recipe is worth, by training with it changed.

    python -m tools.dev.ablation FILE.csv     train each recipe below with ten seeds; write a row for each run

Runs on the GPU if there is one; on a CPU, it takes hours. It needs what tools/bench.py needs.
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from lenet.data import folds
from lenet.numerics import machine
from tools import bench
from tools.errors import run
from tools.recipes import NO_DISTORTIONS

SEEDS = range(10)
# The recipe as it was when docs/ablation.csv was measured. The default differs in this, because of what was measured.
BASE = {"train.init": "kaiming"}
MILD = {"train.augment.scale": 0, "train.augment.shear": 0}
NO_SMOOTHING = {"train.label_smoothing": 0}
RECIPES: dict[str, dict[str, Any]] = {
    "the recipe": {},
    **{f"without {name.removeprefix('train.augment.')}": {name: 0} for name in NO_DISTORTIONS},
    "without label smoothing": NO_SMOOTHING,
    "without weight decay": {"train.weight_decay": 0},
    "without warm-up": {"train.warmup": 0},
    "without a schedule": {"train.schedule": "constant"},
    "without momentum": {"train.momentum": 0},
    "with PyTorch's initial weights": {"train.init": "pytorch"},
    "without scale and shear": MILD,
    "without scale, shear and label smoothing": MILD | NO_SMOOTHING,
    "without distortions": NO_DISTORTIONS,
    "with twice the epochs": {"train.epochs": 50},
}


def main() -> None:
    """Train each of RECIPES with each of SEEDS; write a row for each run as soon as it has ended."""
    parser = argparse.ArgumentParser("python -m tools.dev.ablation", description=__doc__.splitlines()[0])
    parser.add_argument("file", metavar="FILE.csv", type=Path)
    path = parser.parse_args().file
    device = bench.prepare_for("auto")
    images, labels = bench.tensors("train", device.type)
    split = folds.split(len(images), bench.section(folds.SplitConfig, "split", {}))
    fit_on, val = ((images[index], labels[index]) for index in map(torch.from_numpy, split))
    rows = []
    for name, changes in RECIPES.items():
        for seed in SEEDS:
            _, row = bench.train(*fit_on, bench.recipe(**BASE | changes | {"train.seed": seed}), *val)
            rows.append({"recipe": name, "seed": seed, "val_accuracy": row.val_accuracy} | machine(device))
            print(f"{name}, seed {seed}: {row.val_accuracy:.4f}", flush=True)
            pd.DataFrame(rows).to_csv(path, index=False, lineterminator="\n")


if __name__ == "__main__":
    bench.restart()
    run(main)
