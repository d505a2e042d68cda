"""Stage train: train LeNet-5 on the training images without the held-out fold."""

import sys
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from lenet.compute import ComputeConfig, prepare
from lenet.data import folds
from lenet.data.dataset import CLASSES
from lenet.data.folds import SplitConfig
from lenet.model import LeNet5
from lenet.numerics import machine
from lenet.training import Epoch, TrainConfig, calibrate, fingerprint_of_training, fit, state_changes
from stages.artifacts import files, history, mnist, model, stats
from stages.launch.errors import not_a_script


def main(split: SplitConfig, compute: ComputeConfig, train: TrainConfig) -> None:
    """Write models/lenet5.safetensors, metrics/history.csv and metrics/train.json."""
    device = prepare(compute)
    digits = mnist.read("train")
    images = torch.tensor(digits.images, device=device).unsqueeze(1)  # N×1×28×28
    labels = torch.tensor(digits.labels, device=device).long()
    train_set, val_set = ((images[index], labels[index]) for index in folds.split(len(images), split))

    numerics = fingerprint_of_training(train, device, compute.threads)
    print(*(f"{name} {value}" for name, value in (machine(device) | {"numerics": numerics}).items()), sep=", ")
    torch.manual_seed(train.seed)
    lenet5 = LeNet5(*stats.read(), train.init).to(device)
    epochs = []
    if compute.threads > 1 and (change := state_changes(lenet5, train_set[0])):
        message = f"the model {change} in training, so it is trained on one thread instead of {compute.threads}"
        print(f"warning: {message}", file=sys.stderr)
    rows = fit(lenet5, *train_set, *val_set, train, compute.threads)
    # `disable=None`: no bar unless the output is a terminal. The lines are printed either way.
    for row in tqdm(rows, total=train.epochs, unit="epoch", disable=None, leave=False):
        epochs.append(row)
        history.write(pd.DataFrame(epochs))  # after each epoch, so that it can be watched
        tqdm.write(_line(row, train.epochs))

    if train.label_smoothing:
        on, fit_set = ("validation", val_set) if len(val_set[1]) else ("training", train_set)
        temperature = calibrate(lenet5, *fit_set, compute.threads)
        print(f"temperature {temperature}, fitted on the {on} images: all logits are divided by it")
    model.write(lenet5)
    last = epochs[-1]
    score, chance = last.train_accuracy if last.val_accuracy is None else last.val_accuracy, 1 / len(CLASSES)
    if score < 2 * chance:
        print(
            f"warning: the network has hardly learned anything: its accuracy is {score:.2%}, chance is about "
            f"{chance:.0%}; try a lower train.lr, more train.epochs or another train.seed",
            file=sys.stderr,
        )
    # DVC leaves lists out of its tables.
    metrics = {"loss": last.train_loss, "accuracy": last.train_accuracy, "numerics": [numerics]}
    files.write_json(Path("metrics/train.json"), metrics)


def _line(row: Epoch, epochs: int) -> str:
    line = (
        f"epoch {row.epoch:{len(str(epochs))}}/{epochs}  lr {row.lr:.4f}  "
        f"train loss {row.train_loss:.4f} accuracy {row.train_accuracy:.2%}"
    )
    if row.val_loss is not None:
        line += f"  val loss {row.val_loss:.4f} accuracy {row.val_accuracy:.2%}"
    return line


if __name__ == "__main__":
    not_a_script(__file__)
