"""The report: one HTML file on a run, which needs nothing beside it, with the trained network alive in it."""

import base64
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field

from lenet import palette
from lenet.config import Config
from lenet.data.dataset import CLASSES, ITEM, TITLE
from lenet.evaluation import Reliability, confusion, misread, wilson
from lenet.model import LeNet5, to_bytes

COLOURS = {
    "blue": palette.BLUE,
    "orange": palette.ORANGE,
    "blue_on_dark": palette.BLUE_ON_DARK,
    "orange_on_dark": palette.ORANGE_ON_DARK,
}


class ReportConfig(Config):
    """The section `report` of params.yaml."""

    misread: Annotated[int, Field(ge=1, le=1000)]


def page(
    model: LeNet5,
    params: Mapping[str, Mapping[str, Any]],
    metrics: Mapping[str, Mapping[str, Any]],
    history: pd.DataFrame,
    predictions: pd.DataFrame,
    images: np.ndarray,
    bins: Reliability,
    config: ReportConfig,
) -> bytes:
    """Return the page as UTF-8; equal arguments give equal bytes.

    `params` and `metrics` hold the sections of params.yaml and the metrics files by stage; `history` and `predictions`
    are the tables of training and evaluation, `images` (uint8 N×28×28) the test set.
    """
    classes = range(len(CLASSES))
    counts = confusion(predictions["actual"].to_numpy(), predictions["predicted"].to_numpy())
    total, correct = len(predictions), int(counts.trace())
    first = {label: predictions.index[predictions["actual"] == label].min() for label in classes}
    content = {
        "classes": CLASSES,
        "tiles": _tiles(metrics, total, correct, len(bins.counts)),
        "dataset": _dataset(params, metrics),
        "run": [[name, _words(section)] for name, section in params.items()] + _provenance(metrics),
        "samples": [[label, _text(images[index])] for label, index in first.items() if not pd.isna(index)],
        "confusion": counts.tolist(),
        "errors": total - correct,
        "misread": [
            [row.Index, row.actual, row.predicted, row.confidence, _text(images[row.Index])]
            for row in misread(predictions).head(config.misread).itertuples()
        ],
        "history": _history(history),
        "bins": len(bins.counts),
        "calibration": _calibration(bins),
        "model": _text(to_bytes(model)),
    }
    # An end of the script within it would end it for the browser.
    data = json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    parts = {"title": TITLE, "item": ITEM, "data": data, **COLOURS}
    return re.sub(r"<!--([\w.]+)-->", lambda part: parts.get(part[1]) or _file(part[1]), _file("page.html")).encode()


def _tiles(metrics: Mapping[str, Mapping[str, Any]], total: int, correct: int, bins: int) -> list[list[str]]:
    """Return name, value and a note for each of the numbers at the top."""
    low, high = map(float, wilson(np.array(correct), np.array(total)))
    test = metrics["evaluate"]["test"]
    tiles = [
        ["test accuracy", _percent(correct / total), f"95 % interval {_percent(low)} to {_percent(high)}"],
        ["misread", f"{total - correct:,}", f"of {total:,} test {ITEM}s"],
        ["test loss", f"{test['loss']:.4f}", "mean cross-entropy, in nats"],
        ["calibration error", _percent(test["calibration_error"]), f"expected, in {bins} bins"],
    ]
    if val := metrics["evaluate"].get("val"):
        tiles.insert(1, ["validation accuracy", _percent(val["accuracy"]), "on training images held out"])
    return tiles


def _dataset(params: Mapping[str, Mapping[str, Any]], metrics: Mapping[str, Mapping[str, Any]]) -> str:
    counts, stats, split = metrics["download"], metrics["stats"], params["split"]
    held_out = "none" if split["folds"] == 1 else f"part {split['fold']} of {split['folds']} equal ones (from 0)"
    return (
        f"{TITLE}: {counts['train']['images']:,} training and {counts['test']['images']:,} test images of 28×28 "
        f"pixels, from 0 (paper) to 255 (ink). Of the training images, {held_out} validated, and the others trained. "
        f"Divided by 255, the training pixels have the mean {stats['mean']:.4f} and the standard deviation "
        f"{stats['std']:.4f}."
    )


def _provenance(metrics: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Return a name and the fingerprint of the numerics for each stage that has one."""
    found = {stage: content["numerics"] for stage, content in metrics.items() if "numerics" in content}
    return [[f"numerics of {stage}", *fingerprint] for stage, fingerprint in found.items()]


def _history(history: pd.DataFrame) -> list[dict[str, float | None]]:
    """Return a row for each epoch, with error rates in percent in place of accuracies."""
    table = history[["epoch", "lr"]].copy()
    for part in ("train", "val"):
        table[f"{part}_loss"] = history[f"{part}_loss"].clip(lower=palette.LOG_FLOOR)
        table[f"{part}_error"] = 100 * (1 - history[f"{part}_accuracy"]).clip(lower=palette.LOG_FLOOR)
    return [
        {name: None if pd.isna(value) else float(f"{value:.6g}") for name, value in row.items()}
        for row in table.to_dict("records")
    ]


def _calibration(bins: Reliability) -> list[dict[str, float]]:
    """Return a row for each bin that holds images, with the interval of its accuracy."""
    filled = np.flatnonzero(bins.counts)
    counts, accuracy = bins.counts[filled], bins.accuracy[filled]
    low, high = wilson(np.round(accuracy * counts), counts)
    columns = {"confidence": bins.confidence[filled], "accuracy": accuracy, "low": low, "high": high}
    table = pd.DataFrame(columns).round(6).assign(bin=filled, count=counts)
    return [dict(zip(table, row, strict=True)) for row in table.itertuples(index=False, name=None)]


def _words(section: Mapping[str, Any]) -> str:
    flat = pd.json_normalize(dict(section)).astype(object).iloc[0]
    words = {name: value if isinstance(value, str) else json.dumps(value, default=str) for name, value in flat.items()}
    return ", ".join(f"{name} {value}" for name, value in words.items())


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _text(data: bytes | np.ndarray) -> str:
    return base64.b64encode(data if isinstance(data, bytes) else data.tobytes()).decode()


def _file(name: str) -> str:
    return resources.files("lenet.report").joinpath(name).read_text("utf-8").rstrip("\n")
