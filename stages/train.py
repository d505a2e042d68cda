"""Stage train: fit LeNet-5 to the training images, watching the held-out fold."""

from stages.runner import run  # first, to note the sources before they are read

# isort: split
import json
import math
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from lenet import weights
from lenet.compute import ComputeConfig, prepare
from lenet.errors import PipelineError
from lenet.folds import SplitConfig, split
from lenet.model import LeNet5
from lenet.train import TrainConfig, fit
from stages import mnist, params
from stages.files import read, write, write_json


def main() -> None:
    """Write models/lenet5.safetensors, models/history.csv and metrics/train.json."""
    config = params.read("train", TrainConfig)
    split_config = params.read("split", SplitConfig)
    device = prepare(params.read("compute", ComputeConfig))

    digits = mnist.read("train")
    images = torch.tensor(digits.images, device=device).unsqueeze(1)  # N×1×28×28
    labels = torch.tensor(digits.labels, device=device).long()
    train, val = (torch.from_numpy(index).to(device) for index in split(len(images), split_config))

    torch.manual_seed(config.seed)
    model = LeNet5(*_mean_and_std()).to(device)
    history = []
    epochs = fit(model, images[train], labels[train], images[val], labels[val], config)
    # `disable=None`: no bar where the output is no terminal; the lines are the same in both.
    for row in tqdm(epochs, total=config.epochs, unit="epoch", disable=None, leave=False):
        history.append(row)
        tqdm.write(_line(row, config.epochs))

    write(Path("models/lenet5.safetensors"), weights.to_bytes(model))
    write(Path("models/history.csv"), pd.DataFrame(history).to_csv(index=False, lineterminator="\n").encode())
    last = history[-1]
    metrics = {
        "train": {"images": len(train), "loss": last["train_loss"], "accuracy": last["train_accuracy"]},
    }
    if len(val):
        metrics["val"] = {"images": len(val), "loss": last["val_loss"], "accuracy": last["val_accuracy"]}
    write_json(Path("metrics/train.json"), metrics)


def _mean_and_std() -> tuple[float, float]:
    path = Path("metrics/stats.json")
    try:
        stats = json.loads(read(path, "run dvc repro stats"))
        mean, std = float(stats["mean"]), float(stats["std"])
    except (ValueError, KeyError, TypeError):
        mean, std = math.nan, math.nan
    if not (math.isfinite(mean) and 0 < std < math.inf):
        raise PipelineError(f"{path} holds no mean and positive standard deviation; run dvc repro stats")
    return mean, std


def _line(row: dict[str, float | None], epochs: int) -> str:
    line = (
        f"epoch {row['epoch']:{len(str(epochs))}}/{epochs}  lr {row['lr']:.4f}  "
        f"train loss {row['train_loss']:.4f} accuracy {row['train_accuracy']:.2%}"
    )
    if row["val_loss"] is not None:
        line += f"  val loss {row['val_loss']:.4f} accuracy {row['val_accuracy']:.2%}"
    return line


if __name__ == "__main__":
    run(main)
