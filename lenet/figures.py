"""The pictures: from tables and arrays to matplotlib figures, and from those to bytes."""

import io
from typing import Annotated, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter
from matplotlib.transforms import Bbox
from pydantic import Field
from scipy.ndimage import binary_dilation, correlate, find_objects

from lenet.config import Config
from lenet.data.dataset import CLASSES, ITEM
from lenet.evaluation import Reliability, calibration_error, wilson

# Two of the colours of Okabe and Ito (2008), which colour-blind people can tell apart, too.
BLUE, ORANGE = "#0072B2", "#D55E00"
# Paper, and 0, are light grey: an image's edge shows without a frame.
INK = LinearSegmentedColormap.from_list("ink", ["0.93", "black"])
SIGNED = LinearSegmentedColormap.from_list("signed", [ORANGE, "0.93", BLUE])
ERRORS = LinearSegmentedColormap.from_list("errors", ["white", ORANGE])

INCHES = 9  # the width of a figure


class PlotConfig(Config):
    """The section `plot` of params.yaml."""

    dpi: Annotated[int, Field(ge=100, le=400)]
    misread: Annotated[int, Field(ge=1, le=200)]
    digit: Annotated[int, Field(ge=0, lt=10_000)]


def use_defaults() -> None:
    """Start from matplotlib's own settings: a user's matplotlibrc must not change the pictures."""
    mpl.rcdefaults()


def png(figure: Figure, config: PlotConfig) -> bytes:
    """Return `figure` as a PNG; equal figures give equal bytes."""
    buffer = io.BytesIO()
    # Matplotlib would write its version into the file.
    figure.savefig(buffer, format="png", dpi=config.dpi, metadata={"Software": None})
    return buffer.getvalue()


def samples(images: np.ndarray, labels: np.ndarray, test_labels: np.ndarray, per_class: int = 10) -> Figure:
    """Draw the first `per_class` of the `images` (uint8 N×28×28) of each class, a row a class, and count the classes.

    `labels` and `test_labels` are those of the whole training and test set (uint8 N).
    """
    classes, step = len(CLASSES), 30
    edge, longest = per_class * step + 4, 104  # where the bars begin, and how long the longest is
    figure, axes = _sheet(edge + longest + 34, classes * step)
    for label in range(classes):
        for column, image in enumerate(images[labels == label][:per_class]):
            _place(axes, image, column * step, label * step, 28)
    scale = longest / np.bincount(labels).max()
    parts = (("training", labels, 9.5, 14, BLUE), ("test", test_labels, 21, 8, ORANGE))
    for name, part, middle, thickness, colour in parts:
        counts = np.bincount(part, minlength=classes)
        places = step * np.arange(classes) + middle
        bars = axes.barh(places, scale * counts, thickness, left=edge, color=colour, label=name)
        axes.bar_label(bars, [f"{count:,}" for count in counts], padding=2, size=9)
    axes.set_title(f"The first {per_class} training images of each {ITEM}", loc="left")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 0.99), ncols=2, handlelength=1, frameon=False)
    return figure


def tensor(image: np.ndarray, label: int, index: int) -> Figure:
    """Draw one test `image` (uint8 28×28), number `index` of them, and the part that holds the ink as numbers."""
    inked = binary_dilation(image > 0)  # with a margin of one pixel
    whole = (slice(0, 28), slice(0, 28))
    rows, columns = next(iter(find_objects(inked.astype(int))), whole)
    part = image[rows, columns]
    height, width = part.shape
    figure = Figure(figsize=(INCHES, 6.8), layout="constrained")
    picture, numbers = figure.subplots(1, 2, width_ratios=[1, 2])
    _fit(figure, picture, 28, 28)
    _place(picture, image, 0, 0, 28)
    frame = Rectangle((columns.start, rows.start), width, height, fill=False, edgecolor=ORANGE, clip_on=False)
    picture.add_patch(frame)
    picture.set_title(f"Test image {index}: a {CLASSES[label]}")
    _fit(figure, numbers, width, height)
    _place(numbers, (part / 2.5).astype(np.uint8), 0, 0, width)  # pale, for the numbers to stand out
    size = min(10, 200 / max(part.shape))
    for (row, column), value in np.ndenumerate(part):
        _write(numbers, column + 0.5, row + 0.5, str(value), size=size, color="black" if value else "0.5")
    numbers.set_title("What the network gets of the frame: 0 is paper, 255 ink")
    return figure


def learning_curves(history: pd.DataFrame) -> Figure:
    """Draw loss, error rate and learning rate by epoch, from a table of the rows that `lenet.training.fit` yields."""
    figure = Figure(figsize=(INCHES, 3.8), layout="constrained")
    loss, error, rate = figure.subplots(1, 3, sharex=True)
    losses = history[["train_loss", "val_loss"]]
    errors = 1 - history[["train_accuracy", "val_accuracy"]]
    ends = sorted({0, len(history) - 1})  # the first and the last row
    for axes, table, number in ((loss, losses, "{:.3g}"), (error, errors, "{:.2%}")):
        # Nothing at all has no place on a logarithmic axis: less than one error in 60,000 stands for it.
        drawn = table.clip(lower=1e-5)
        for column, name, colour in zip(table, ("training", "validation"), (BLUE, ORANGE), strict=True):
            if table[column].notna().any():
                label = f"{name}: {' → '.join(number.format(value) for value in table[column].iloc[ends])}"
                axes.plot(history["epoch"], drawn[column], "o-", color=colour, markersize=3, label=label)
        # The first epoch begins with random weights. Where others follow, they fill the axis, and it may lie beyond.
        later = drawn.iloc[min(1, ends[-1]) :].stack()
        span = max(2, later.max() / later.min())
        axes.set(yscale="log", ylim=(later.min() / span**0.1, later.max() * span**0.45))  # above: the legend
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if span < 30 else (1,)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        title = f"epoch {' → '.join(map(str, history['epoch'].iloc[ends]))}"
        axes.legend(loc="upper right", title=title, fontsize=9, title_fontsize=9)
    loss.yaxis.set_major_formatter("{x:g}")
    error.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    rate.plot(history["epoch"], history["lr"], "o-", color="black", markersize=3, clip_on=False)
    rate.set_ylim(0, None)
    for axes, title in ((loss, "Mean cross-entropy (nats)"), (error, "Error rate"), (rate, "Learning rate")):
        axes.set(title=title, xlabel="epoch", xlim=(0, history["epoch"].max() + 1))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10], integer=True))
        axes.grid(alpha=0.3)
    return figure


def confusion(predictions: pd.DataFrame) -> Figure:
    """Draw how often each digit was taken for each, and totals, from a table with columns `actual` and `predicted`.

    The diagonal, which holds nearly everything, stands apart: only the errors are coloured.
    """
    classes = len(CLASSES)
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (predictions["actual"], predictions["predicted"]), 1)
    errors = counts * ~np.eye(classes, dtype=bool)
    figure = Figure(figsize=(7.2, 7.2), layout="constrained")
    axes = figure.subplots()
    axes.imshow(errors, cmap=ERRORS, vmin=0, vmax=max(1, errors.max()))
    for actual, predicted in np.ndindex(classes, classes):
        count = counts[actual, predicted]
        if actual == predicted:
            rate = count / max(1, counts[actual].sum())
            _write(axes, predicted, actual, f"{count:,}\n{rate:.1%}", size=9, color=BLUE)
        elif count:
            _write(axes, predicted, actual, f"{count:,}")
    for label in range(classes):
        _write(axes, classes, label, f"{counts[label].sum():,}")
        _write(axes, label, classes, f"{counts[:, label].sum():,}")
    _write(axes, classes, classes, f"{counts.sum():,}")
    axes.set(
        title=f"{errors.sum():,} of {len(predictions):,} test {ITEM}s misread",
        xlabel=f"predicted {ITEM}",
        ylabel=f"actual {ITEM}",
        xlim=(-0.5, classes + 0.5),
        ylim=(classes + 0.5, -0.5),
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(range(classes + 1), [*CLASSES, "all"])
        axis.set_ticks(np.arange(classes) + 0.5, minor=True)
    axes.tick_params(which="both", length=0)
    axes.grid(which="minor", color="0.85", linewidth=0.6)
    axes.axhline(classes - 0.5, color="black", linewidth=0.8)
    axes.axvline(classes - 0.5, color="black", linewidth=0.8)
    return figure


def misread(images: np.ndarray, predictions: pd.DataFrame, most: int) -> Figure:
    """Draw up to `most` of the `images` (uint8 N×28×28) that `predictions` (N rows) misreads.

    The most confident errors come first.
    """
    wrong = predictions[predictions["actual"] != predictions["predicted"]]
    shown = wrong.sort_values("confidence", ascending=False, kind="stable").head(most)
    columns, across, down = 8, 34, 40  # from one image to the next
    figure, axes = _sheet(columns * across - 6, max(1, -(-len(shown) // columns)) * down - 4)
    for place, row in enumerate(shown.itertuples()):
        left, top = place % columns * across, place // columns * down + 8
        _place(axes, images[row.Index], left, top, 28)
        words = f"{CLASSES[row.actual]} → {CLASSES[row.predicted]}  {row.confidence:.0%}"
        _write(axes, left + 14, top - 1, words, va="bottom")
    which = "all" if len(shown) == len(wrong) else f"the {len(shown)} most confident"
    axes.set_title(f"Misread test {ITEM}s, {which} of {len(wrong)}: is → taken for, confidence")
    return figure


def calibration(bins: Reliability) -> Figure:
    """Draw accuracy against confidence, bin by bin, with 95 % intervals and the expected calibration error."""
    figure = Figure(figsize=(INCHES, 4.2), layout="constrained")
    diagram, histogram = figure.subplots(1, 2)
    counts, confidence, accuracy = (values[bins.counts > 0] for values in bins)
    diagram.plot([0, 1], [0, 1], color="0.5", linestyle="--", label="perfect calibration")
    diagram.plot(confidence, accuracy, "o", color=BLUE, markersize=5, label="accuracy in a bin of confidence")
    diagram.vlines(confidence, *wilson(accuracy * counts, counts), color=BLUE, label="its 95% interval")
    # A point at 0 or 1 needs room beyond.
    diagram.set(ylabel="accuracy", xlim=(-0.04, 1.04), ylim=(-0.04, 1.04))
    diagram.yaxis.set_major_formatter(PercentFormatter(1))
    edges = np.linspace(0, 1, len(bins.counts) + 1)
    histogram.bar(edges[:-1], bins.counts, width=np.diff(edges), align="edge", color=BLUE, edgecolor="white")
    histogram.set(ylabel=f"test {ITEM}s", yscale="log", xlim=(-0.04, 1.04), ylim=(0.5, None))
    histogram.yaxis.set_major_formatter("{x:,.0f}")
    for axes in (diagram, histogram):
        axes.set_xlabel("confidence")
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(f"Calibration on the test set: expected calibration error {calibration_error(bins):.2%}")
    return figure


# The horizontal and the vertical derivative of an image, smoothed across it: each answers to edges of one direction.
SOBEL = {"Sobel x": np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])}
SOBEL["Sobel y"] = SOBEL["Sobel x"].T


def filters(image: np.ndarray, c1: np.ndarray, maps: np.ndarray) -> Figure:
    """Draw the learnt kernels of layer C1 (`c1`, float 6×5×5), and under each what it makes of one `image`.

    `maps` are those of C1 before ReLU (float 6×28×28). The Sobel kernels, made by hand for the same purpose, stand
    beside them with what they make of `image` (uint8 28×28).
    """
    pairs = {name: (kernel, correlate(image.astype(float), kernel, mode="constant")) for name, kernel in SOBEL.items()}
    pairs |= {f"C1, {number}": pair for number, pair in enumerate(zip(c1, maps, strict=True))}
    step = 34  # from one kernel to the next
    figure, axes = _sheet(step * len(pairs) - 6, 82)
    for number, (name, (kernel, made)) in enumerate(pairs.items()):
        left = number * step
        _write(axes, left + 14, 4, name)
        _place(axes, kernel, left, 8, 28)
        _place(axes, made, left, 38, 28)
    for number, kernel in enumerate(SOBEL.values()):
        for (row, column), value in np.ndenumerate(kernel):
            _write(axes, number * step + 28 / 3 * (column + 0.5), 8 + 28 / 3 * (row + 0.5), f"{value:g}")
    words = "Orange: below 0; grey: 0; blue: above 0; each on a scale of its own, and before ReLU."
    # Where the weights have a negative sum, paper gives more than ink, whatever the bias.
    negative = [name for name, (kernel, _) in pairs.items() if kernel.sum() < -0.8 * np.abs(kernel).sum()]
    if negative:
        names = "; ".join(negative)
        words += f"\nNearly all negative ({names}): paper, which is below 0 once standardised, gives more than ink."
    _write(axes, 0, 70, words, ha="left", va="top", linespacing=1.4)
    axes.set_title(f"Kernels, and what they make of the {ITEM}: Sobel's, made by hand, and those that C1 learnt")
    return figure


def feature_maps(image: np.ndarray, layers: dict[str, np.ndarray], probabilities: np.ndarray) -> Figure:
    """Draw what the network makes of one `image` (uint8 28×28), layer by layer, up to its answer.

    `layers` holds by name what each layer gives after ReLU (float maps×height×width, or float N of N units),
    `probabilities` those of the classes (float 10).
    """
    edge, width, gap, bar = 26, 240, 8, 26  # the names stand left of the edge
    rows = [(f"the {ITEM}\n28×28", image[None], 28, 28, 28)]
    for name, values in layers.items():
        words = f"{name}\n{'×'.join(map(str, values.shape))}"
        if values.ndim == 3:  # maps, in a row with room for eight or more
            step = width // max(8, len(values))
            rows.append((words, values, step, step * 14 // 15, step * 14 // 15))
        else:  # units, as a strip
            rows.append((words, np.tile(values, (1, 4, 1)), 0, 2 * len(values), 8))
    figure, axes = _sheet(edge + width, sum(height + gap for *_, height in rows) + bar + 11)
    top = 0
    for words, maps, step, across, down in rows:
        _write(axes, edge - 3, top + down / 2, words, ha="right")
        for number, shown in enumerate(maps):
            _place(axes, shown, edge + number * step, top, across)
        top += down + gap
    base = top + bar + 4  # of the bars
    _write(axes, edge - 3, base - bar / 2, "F7\nsoftmax", ha="right")
    places = edge + width / len(CLASSES) * (np.arange(len(CLASSES)) + 0.5)
    axes.bar(places, -bar * probabilities, width=14, bottom=base, color=BLUE)
    axes.hlines(base, edge, edge + width, color="black", linewidth=0.8)
    for place, name, probability in zip(places, CLASSES, probabilities, strict=True):
        _write(axes, place, base - bar * probability - 1, f"{probability:.1%}", va="bottom", size=9)
        _write(axes, place, base + 1, name, va="top")
    words = (
        "Each layer computes from the one above it. Grey is 0, blue is more, on a\n"
        "scale of its own for each map; ReLU has turned all that was below 0 into 0.\n"
        "Softmax turns the numbers of the last layer, F7, into probabilities."
    )
    _write(axes, edge + 36, 14, words, ha="left", linespacing=1.4)
    axes.set_title(f"One {ITEM} on its way through the network")
    return figure


def _sheet(width: int, height: int) -> tuple[Figure, Axes]:
    """Return a figure and its axes, as `_fit` makes them, to draw images and words on."""
    figure = Figure(figsize=(INCHES, INCHES * height / width + 0.4), layout="constrained")
    axes = figure.subplots()
    _fit(figure, axes, width, height)
    return figure, axes


def _fit(figure: Figure, axes: Axes, width: int, height: int) -> None:
    """Make `axes` a plane of `width` × `height` units from the upper left, each a whole number of screen pixels.

    So no pixel of an image comes out larger than another. The dpi are known only when the figure is drawn.
    """

    def place(*_: object) -> Bbox:
        room = axes.get_position(original=True).transformed(figure.transFigure)
        unit = max(1, int(min(room.width / width, room.height / height)))
        left, top = round(room.x0 + (room.width - unit * width) / 2), round(room.y1)
        box = Bbox.from_bounds(left, top - unit * height, unit * width, unit * height)
        return box.transformed(figure.transFigure.inverted())

    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    axes.set_axes_locator(place)


def _place(axes: Axes, image: np.ndarray, left: float, top: float, width: float) -> None:
    """Draw `image`, ink if of bytes, else of both signs, `width` units wide. An axes for each would take seconds."""
    ink = image.dtype == np.uint8
    largest = 255 if ink else np.abs(image).max() or 1
    axes.imshow(
        image,
        cmap=INK if ink else SIGNED,
        vmin=0 if ink else -largest,
        vmax=largest,
        extent=(left, left + width, top + width * image.shape[0] / image.shape[1], top),
        aspect="auto",
        interpolation="nearest",
    )


def _write(axes: Axes, x: float, y: float, words: str, **style: Any) -> None:
    """Write `words` on `axes`, their middle at (x, y) unless `style` says otherwise."""
    axes.text(x, y, words, **{"ha": "center", "va": "center"} | style)
