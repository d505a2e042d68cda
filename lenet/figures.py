"""The pictures: from tables and arrays to matplotlib figures, and from those to bytes."""

import io
from dataclasses import dataclass
from typing import Annotated

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from lenet.config import Range

# Two of the colours of Okabe and Ito (2008), which colour-blind people can tell apart, too.
BLUE, ORANGE = "#0072B2", "#D55E00"


@dataclass(frozen=True)
class PlotConfig:
    """The section `plot` of params.yaml."""

    dpi: Annotated[int, Range(least=50, most=400)]
    misread: Annotated[int, Range(least=1, most=200)]


def use_defaults() -> None:
    """Start from matplotlib's own settings: a user's matplotlibrc must not change the pictures."""
    mpl.rcdefaults()


def png(figure: Figure, config: PlotConfig) -> bytes:
    """Return `figure` as a PNG; equal figures give equal bytes."""
    buffer = io.BytesIO()
    # Matplotlib would write its version into the file.
    figure.savefig(buffer, format="png", dpi=config.dpi, metadata={"Software": None})
    return buffer.getvalue()


def samples(images: np.ndarray, labels: np.ndarray, per_class: int = 14) -> Figure:
    """Draw the first `per_class` of the `images` (uint8 N×28×28) of each class, a row a class."""
    figure = Figure(figsize=(8, 6.0), layout="constrained")
    axes = figure.subplots()
    for digit in range(10):
        for column, image in enumerate(images[labels == digit][:per_class]):
            _place(axes, image, column, digit)
    axes.set(title=f"The first {per_class} training images of each digit", xlim=(0, per_class), ylim=(10, 0))
    axes.set_axis_off()
    return figure


def learning_curves(history: pd.DataFrame) -> Figure:
    """Draw loss, error rate and learning rate by epoch, from the rows that `lenet.train.fit` yields."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    loss, error, rate = figure.subplots(1, 3, sharex=True)
    for part, name, colour in (("train", "training", BLUE), ("val", "validation", ORANGE)):
        if history[f"{part}_loss"].notna().any():
            style = {"color": colour, "label": name, "marker": "o", "markersize": 3}
            loss.plot(history["epoch"], history[f"{part}_loss"], **style)
            # No error at all has no place on a logarithmic axis: less than one in 60,000 stands for it.
            error.plot(history["epoch"], (1 - history[f"{part}_accuracy"]).clip(lower=1e-5), **style)
    rate.plot(history["epoch"], history["lr"], color="black", marker="o", markersize=3)
    loss.set(title="Mean cross-entropy", ylabel="nats", yscale="log")
    error.set(title="Error rate (1 - accuracy)", yscale="log")
    error.yaxis.set_major_formatter(PercentFormatter(1))
    rate.set(title="Learning rate", ylim=(0, None))
    for axes in (loss, error, rate):
        axes.set(xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    loss.legend()
    return figure


def confusion(predictions: pd.DataFrame) -> Figure:
    """Draw how often each digit was taken for each, from a table with the columns `actual` and `predicted`.

    The diagonal, which holds nearly everything, stands apart: only the errors are coloured.
    """
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (predictions["actual"], predictions["predicted"]), 1)
    errors = counts * ~np.eye(10, dtype=bool)
    figure = Figure(figsize=(7.2, 6.6), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(errors, cmap="Oranges", vmin=0, vmax=max(1, errors.max()))
    figure.colorbar(image, label="test images", shrink=0.8)
    for actual, predicted in np.ndindex(10, 10):
        count = counts[actual, predicted]
        if actual == predicted:
            rate = count / max(1, counts[actual].sum())
            axes.text(predicted, actual, f"{count}\n{rate:.1%}", ha="center", va="center", size=8, color=BLUE)
        elif count:
            colour = "white" if count > 0.6 * errors.max() else "black"
            axes.text(predicted, actual, count, ha="center", va="center", color=colour)
    axes.set(
        title=f"{errors.sum()} of {len(predictions):,} test digits misread",
        xlabel="taken for",
        ylabel="is",
        xticks=range(10),
        yticks=range(10),
    )
    return figure


def misread(images: np.ndarray, predictions: pd.DataFrame, most: int) -> Figure:
    """Draw up to `most` of the `images` (uint8 N×28×28) that `predictions` (N rows) misreads.

    The most confident errors come first.
    """
    wrong = predictions[predictions["actual"] != predictions["predicted"]]
    shown = wrong.sort_values("confidence", ascending=False, kind="stable").head(most)
    columns, height = 8, 1.3  # of a cell: one for the image, the rest for the words above it
    rows = max(1, -(-len(shown) // columns))
    figure = Figure(figsize=(8, 0.7 + 1.25 * rows), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(shown.itertuples()):
        top, left = divmod(place, columns)
        _place(axes, images[row.Index], left, top * height + height - 1)
        words = f"{row.actual} → {row.predicted}  {row.confidence:.0%}"
        axes.text(left + 0.5, top * height + height - 1.04, words, ha="center", va="bottom", size=9)
    which = "all" if len(shown) == len(wrong) else f"the {len(shown)} most confident"
    axes.set(
        title=f"Misread test digits, {which} of {len(wrong)}: is → taken for, confidence",
        xlim=(0, columns),
        ylim=(rows * height, 0),
    )
    axes.set_axis_off()
    return figure


def _place(axes: Axes, image: np.ndarray, left: float, top: float) -> None:
    """Draw `image` into a square cell of `axes`, of side 1. An axes for each image would take seconds."""
    extent = (left + 0.03, left + 0.97, top + 0.97, top + 0.03)
    axes.imshow(image, cmap="gray_r", vmin=0, vmax=255, extent=extent)
    axes.add_patch(Rectangle((left + 0.03, top + 0.03), 0.94, 0.94, fill=False, edgecolor="0.7", linewidth=0.5))
