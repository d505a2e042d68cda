"""The report: a self-contained HTML page about a run, in which you can draw a digit for the trained network."""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from lenet import palette
from lenet.config import Config
from lenet.data.dataset import A_ITEM, CLASSES, ITEM, LIKE_MNIST, TITLE
from lenet.doubt import SURE
from lenet.evaluation import Reliability, confusion, misread, wilson
from lenet.layers import Layer, layers
from lenet.model import NAME, LeNet5, predict, to_bytes
from lenet.report import network

Sections = Mapping[str, Mapping[str, Any]]

# The largest difference between PyTorch's logits and the page's, as a share of the largest logit.
TOLERANCE = 1e-4


class ReportConfig(Config):
    """The section `report` of params.yaml."""

    misread: Annotated[int, Field(ge=1, le=1000)]


def page(
    model: LeNet5,
    params: Sections,
    metrics: Sections,
    history: pd.DataFrame,
    predictions: pd.DataFrame,
    images: np.ndarray,
    bins: Reliability,
    config: ReportConfig,
) -> bytes:
    """Return the page as UTF-8; equal arguments give equal bytes.

    `params` are the sections of params.yaml, `metrics` the metrics files by stage, `history` is the table of epochs,
    `predictions` the table of test predictions, and `images` (uint8 N×28×28) are the test images.
    """
    counts = confusion(predictions["actual"].to_numpy(), predictions["predicted"].to_numpy())
    numerics = [
        [f"numerics of {stage}", *values["numerics"]] for stage, values in metrics.items() if "numerics" in values
    ]
    samples = predictions.drop_duplicates("actual").sort_values("actual")
    content = {
        "classes": CLASSES,
        "likeMnist": LIKE_MNIST,
        "sure": SURE,
        "tiles": _tiles(metrics, int(counts.trace()), len(predictions), len(bins.counts)),
        "dataset": _dataset(params["split"], metrics),
        "details": [[name, _flat(section)] for name, section in params.items()] + numerics,
        "samples": [[row.actual, _base64(images[row.Index])] for row in samples.itertuples()],
        "confusion": counts.tolist(),
        "errorOpacity": palette.ERROR_OPACITY,
        "misread": [
            [row.Index, row.actual, row.predicted, row.confidence, _base64(images[row.Index])]
            for row in misread(predictions).head(config.misread).itertuples()
        ],
        "history": _history(history),
        "bins": len(bins.counts),
        "calibration": _calibration(bins),
        "network": _network(model, images[samples.index]),
    }
    # A "</script>" in the data would end the script element.
    data = json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    parts = vars(palette) | {"name": NAME, "title": TITLE, "item": ITEM, "a-item": A_ITEM, "data": data}
    return re.sub(r"<!--([\w.-]+)-->", lambda part: parts.get(part[1]) or _file(part[1]), _file("page.html")).encode()


def _network(model: LeNet5, images: np.ndarray) -> dict[str, Any]:
    """Return what the page needs to run `model`, or the reason why it can't, found with `images` (uint8 N×28×28)."""
    tensors = torch.from_numpy(images)
    found = layers(model, tensors[0])
    try:
        chain = network.operations(found)
        operations = [operation for own in chain for operation in own]
        ours = np.array([network.run(operations, model.state_dict(), image) for image in images])
    except network.Unknown as unknown:
        return {"reason": str(unknown)}
    except (ValueError, KeyError):
        ours = np.array(np.nan)  # these layers do not follow each other
    logits = predict(model, tensors[:, None]).double().numpy()
    if not np.abs(ours - logits).max() <= TOLERANCE * np.abs(logits).max():
        return {"reason": "its layers alone, one after the other, do not compute what it computes"}
    rows: list[Any] = []
    for layer, own in zip(found, chain, strict=True):
        rows.append([layer.name, _description(layer, own, rows[-1][0] if rows else ""), own])
    rows[-1][1] += " These are the logits, which softmax turns into the probabilities above."
    return {"model": _base64(to_bytes(model)), "layers": rows}


def _description(layer: Layer, operations: list[network.Operation], above: str) -> str:
    """Return what the page says of `layer`, whose input is the output of the layer `above`."""
    first, *then = layer.kind.split(", ")
    shape: Sequence[int] = () if layer.output is None else layer.output.shape
    units = len(shape) == 1
    size = "×".join(str(length) for operation in operations for length in operation.get("size", ()))
    what = {
        "convolution": f"Convolution of {f'all maps of {above}' if above else 'the input'}",
        "max-pooling": f"The maximum of each {size} block, which small shifts hardly change",
        "average pooling": f"The mean of each {size} block",
    }
    if units and first in ("convolution", "fully connected"):
        what[first] = f"Each is a weighted sum of all of {above or 'the input'}"
    amount = f"{shape[0]} units" if units else f"{shape[0]} maps of {shape[1]}×{shape[2]}"
    return ", then ".join([f"{amount}. {what.get(first, first)}", *then]) + "."


def _tiles(metrics: Sections, correct: int, total: int, bins: int) -> list[list[str]]:
    """Return the name, the value and a note for each number at the top of the page."""
    low, high = wilson(np.array(correct), np.array(total))
    test, val = metrics["evaluate"]["test"], metrics["evaluate"].get("val")
    return [
        ["test accuracy", f"{correct / total:.2%}", f"95% interval: {low:.2%} to {high:.2%}"],
        *([["validation accuracy", f"{val['accuracy']:.2%}", "on held-out training images"]] if val else []),
        ["test errors", f"{total - correct:,}", f"of {total:,} {ITEM}s"],
        ["test loss", f"{test['loss']:.4f}", "mean cross-entropy (nats)"],
        ["calibration error", f"{test['calibration_error']:.2%}", f"on the test set (ECE, {bins} bins)"],
    ]


def _dataset(split: Mapping[str, Any], metrics: Sections) -> str:
    counts, stats = metrics["download"], metrics["stats"]
    fold = f"Fold {split['fold']} (of {split['folds']}, numbered from 0) of the training images is"
    held_out = "No training images are" if split["folds"] == 1 else fold
    return (
        f"{TITLE}: {counts['train']['images']:,} training and {counts['test']['images']:,} test images of 28×28 "
        f"pixels, from 0 (background) to 255 (ink). {held_out} held out for validation. Divided by 255, the training "
        f"pixels have a mean of {stats['mean']:.4f} and a standard deviation of {stats['std']:.4f}."
    )


def _history(history: pd.DataFrame) -> Any:
    """Return a row for each epoch, with error rates in percent and nothing below the floor of a logarithmic axis."""
    losses, accuracies = history.filter(like="_loss"), history.filter(like="_accuracy")
    errors = (1 - accuracies).rename(columns=lambda name: name.replace("accuracy", "error"))
    floored = losses.join(errors).clip(palette.LOG_FLOOR)
    floored[errors.columns] *= 100
    return json.loads(history[["epoch", "lr"]].join(floored).to_json(orient="records", double_precision=15))


def _calibration(bins: Reliability) -> Any:
    """Return a row for each bin that is not empty, with the 95 % interval of its accuracy."""
    table = pd.DataFrame(bins._asdict()).rename_axis("bin").reset_index().query("counts > 0")
    low, high = wilson(table["accuracy"] * table["counts"], table["counts"])
    return table.assign(low=low, high=high, opacity=palette.opacity(table["counts"])).to_dict("records")


def _flat(section: Mapping[str, Any]) -> str:
    return json.dumps(section, default=str)[1:-1].replace('"', "")


def _base64(data: bytes | np.ndarray) -> str:
    return base64.b64encode(bytes(data)).decode()


def _file(name: str) -> str:
    return resources.files("lenet.report").joinpath(name).read_text("utf-8").rstrip("\n")
