"""The pictures of the plot stage: matplotlib figures drawn from tables and arrays."""

import io
from typing import Annotated, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox
from pydantic import Field
from scipy.ndimage import binary_dilation, correlate, find_objects

from lenet import evaluation
from lenet.config import Config
from lenet.data.dataset import A_ITEM, CLASSES, ITEM
from lenet.evaluation import Reliability, calibration_error, wilson
from lenet.layers import Layer
from lenet.palette import BLUE, ERROR_OPACITY, LOG_FLOOR, ORANGE, opacity

# Blank paper, or 0, is light grey, so that the edges of an image show without a frame.
INK = LinearSegmentedColormap.from_list("ink", ["0.93", "black"])
SIGNED = LinearSegmentedColormap.from_list("signed", [ORANGE, "0.93", BLUE])
ERRORS = LinearSegmentedColormap.from_list("errors", [to_rgba(ORANGE, share) for share in ERROR_OPACITY])
PERCENT = FuncFormatter(lambda share, _: f"{100 * share:.12g}%")

INCHES = 9  # the width of a figure

# The horizontal and vertical derivatives of an image, each smoothed in the other direction, respond to edges.
SOBEL = {"Sobel x": np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])}
SOBEL["Sobel y"] = SOBEL["Sobel x"].T

MOST_KERNELS, MOST_MAPS, MAPS_IN_A_ROW = 6, 64, 16

# Long names of classes need more room, and are slanted where they stand side by side.
LONG_NAMES = max(map(len, CLASSES)) > 4
SLANTED = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if LONG_NAMES else {}


class PlotConfig(Config):
    """The section `plot` of params.yaml."""

    dpi: Annotated[int, Field(ge=100, le=400)]
    misread: Annotated[int, Field(ge=1, le=200)]
    digit: Annotated[int, Field(ge=0, lt=10_000)]


def use_defaults() -> None:
    """Reset matplotlib's settings, so that a user's matplotlibrc does not change the pictures."""
    mpl.rcdefaults()


def png(figure: Figure, config: PlotConfig) -> bytes:
    """Return `figure` as a PNG file; equal figures give equal bytes."""
    buffer = io.BytesIO()
    # Without this, matplotlib writes its version into the file.
    figure.savefig(buffer, format="png", dpi=config.dpi, metadata={"Software": None})
    return buffer.getvalue()


def samples(images: np.ndarray, labels: np.ndarray, test_labels: np.ndarray, per_class: int = 10) -> Figure:
    """Draw the first `per_class` of the `images` (uint8 N×28×28) of each class in a row, and the sizes of the classes.

    `labels` and `test_labels` (uint8 N) belong to the whole training set and the whole test set.
    """
    classes, step = len(CLASSES), 30
    edge, longest = per_class * step + 4, 104  # where the bars begin, and the length of the longest
    figure, axes = _sheet(edge + longest + 34, classes * step)
    for label in range(classes):
        for column, image in enumerate(images[labels == label][:per_class]):
            _place(axes, image, column * step, label * step, 28)
    scale = longest / np.bincount(labels).max()
    parts = (("training images", labels, 9.5, 14, BLUE), ("test images", test_labels, 21, 8, ORANGE))
    for name, part, middle, thickness, colour in parts:
        counts = np.bincount(part, minlength=classes)
        places = step * np.arange(classes) + middle
        bars = axes.barh(places, scale * counts, thickness, left=edge, color=colour, label=name)
        axes.bar_label(bars, [f"{count:,}" for count in counts], padding=2, size=9)
    axes.set_title(f"The first {per_class} training images of each {ITEM}", loc="left")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 0.99), ncols=2, handlelength=1, frameon=False)
    return figure


def tensor(image: np.ndarray, label: int, index: int) -> Figure:
    """Draw test image number `index` (uint8 28×28) and, as numbers, the part of it that contains ink."""
    inked = binary_dilation(image > 0)  # with a margin of one pixel
    whole = (slice(0, 28), slice(0, 28))
    rows, columns = next(iter(find_objects(inked.astype(int))), whole)
    part = image[rows, columns]
    height, width = part.shape
    figure = _figure(6.8)
    picture, numbers = figure.subplots(1, 2, width_ratios=[1, 2])
    _fit(figure, picture, 28, 28)
    _place(picture, image, 0, 0, 28)
    frame = Rectangle((columns.start, rows.start), width, height, fill=False, edgecolor=ORANGE, clip_on=False)
    picture.add_patch(frame)
    picture.set_title(f"Test image {index}, labelled {CLASSES[label]}")
    _fit(figure, numbers, width, height)
    _place(numbers, (part / 2.5).astype(np.uint8), 0, 0, width)  # pale, to keep the numbers legible
    size = min(10, 200 / max(part.shape))
    for (row, column), value in np.ndenumerate(part):
        _write(numbers, column + 0.5, row + 0.5, str(value), size=size, color="black" if value else "0.45")
    numbers.set_title("The pixels in the frame, from 0 (paper) to 255 (ink)")
    return figure


def learning_curves(history: pd.DataFrame) -> Figure:
    """Draw the loss, error rate and learning rate by epoch, from the rows that `lenet.training.fit` yields."""
    figure = _figure(3.8)
    loss, error, rate = figure.subplots(1, 3, sharex=True)
    table = history.dropna(axis="columns", how="all")  # drops the validation columns if there was no validation
    losses, accuracies = table.filter(like="_loss"), table.filter(like="_accuracy")
    for axes, values in ((loss, losses), (error, 1 - accuracies)):
        axes.set_prop_cycle(color=[BLUE, ORANGE])
        lines = axes.plot(table["epoch"], values.clip(lower=LOG_FLOOR), "o-", markersize=3)
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 1000 else (1,)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    loss.yaxis.set_major_formatter("{x:g}")
    error.yaxis.set_major_formatter(PERCENT)
    rate.plot(history["epoch"], history["lr"], "o-", color="black", markersize=3, clip_on=False)
    rate.set_ylim(0, None)
    for axes, title in ((loss, "Mean cross-entropy (nats)"), (error, "Error rate"), (rate, "Learning rate")):
        axes.set(title=title, xlabel="epoch", xlim=(0, history["epoch"].max() + 1))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10], integer=True))
        axes.grid(alpha=0.3)
    names = ["training", "validation"][: len(lines)]
    figure.legend(lines, names, loc="outside lower center", ncols=2, frameon=False)
    return figure


def confusion(predictions: pd.DataFrame) -> Figure:
    """Draw the confusion matrix, with totals, of a table with the columns `actual` and `predicted`.

    Nearly everything is on the diagonal, so only the errors are coloured.
    """
    classes = len(CLASSES)
    counts = evaluation.confusion(predictions["actual"].to_numpy(), predictions["predicted"].to_numpy())
    errors = counts * ~np.eye(classes, dtype=bool)
    figure = _figure(7.2, width=7.2)
    axes = figure.subplots()
    axes.imshow(np.ma.masked_equal(errors, 0), cmap=ERRORS, vmin=0, vmax=max(1, errors.max()))
    table = np.block([[counts, counts.sum(1, keepdims=True)], [counts.sum(0), counts.sum()]])
    for (actual, predicted), count in np.ndenumerate(table):
        if actual == predicted < classes:
            rate = count / max(1, counts[actual].sum())
            _write(axes, predicted, actual, f"{count:,}\n{rate:.1%}", size=9, color=BLUE)
        elif count or classes in (actual, predicted):
            _write(axes, predicted, actual, f"{count:,}")
    axes.set_title(f"{errors.sum():,} of {len(predictions):,} test {ITEM}s misread")
    axes.set(xlabel=f"predicted {ITEM}", ylabel=f"actual {ITEM}")
    axes.set(xlim=(-0.5, classes + 0.5), ylim=(classes + 0.5, -0.5))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(range(classes + 1), [*CLASSES, "total"])
        axis.set_ticks(np.arange(classes) + 0.5, minor=True)
    axes.tick_params(which="both", length=0)
    for label in axes.get_xticklabels():
        label.set(**SLANTED)
    axes.grid(which="minor", color="0.85", linewidth=0.6)
    axes.axhline(classes - 0.5, color="black", linewidth=0.8)
    axes.axvline(classes - 0.5, color="black", linewidth=0.8)
    return figure


def misread(images: np.ndarray, predictions: pd.DataFrame, most: int) -> Figure:
    """Draw up to `most` of the `images` (uint8 N×28×28) that `predictions` (N rows) gets wrong.

    The most confident errors come first.
    """
    wrong = evaluation.misread(predictions)
    shown = wrong.head(most)
    columns, across, down = (6, 46, 46) if LONG_NAMES else (8, 34, 46)  # from one image to the next
    figure, axes = _sheet(columns * across - across + 28, max(1, -(-len(shown) // columns)) * down - 4)
    for place, row in enumerate(shown.itertuples()):
        left, top = place % columns * across, place // columns * down + 13
        _place(axes, images[row.Index], left, top, 28)
        labels = f"labelled {CLASSES[row.actual]}\npredicted {CLASSES[row.predicted]}"
        _write(axes, left + 14, top - 1, f"{labels}\nconfidence {row.confidence:.0%}", va="bottom", size=8)
    which = "All" if len(shown) == len(wrong) else f"The {len(shown)} most confident of"
    axes.set_title(f"{which} {len(wrong)} misread test {ITEM}s")
    return figure


def calibration(bins: Reliability) -> Figure:
    """Draw the accuracy in each bin of confidence with its 95 % interval, and the number of images in each bin."""
    figure = _figure(4.2)
    diagram, histogram = figure.subplots(1, 2)
    counts, confidence, accuracy = (values[bins.counts > 0] for values in bins)
    colours = [to_rgba(BLUE, alpha) for alpha in opacity(counts)]
    words = "accuracy with its 95% interval, fainter for fewer images"
    diagram.plot([0, 1], [0, 1], color="0.5", linestyle="--", label="perfect calibration")
    diagram.plot([], [], "o-", color=BLUE, label=words)
    diagram.scatter(confidence, accuracy, color=colours)
    diagram.vlines(confidence, *wilson(accuracy * counts, counts), color=colours)
    diagram.set(ylabel="accuracy", ylim=(-0.05, 1.05))  # with room for points at 0 and 1
    diagram.yaxis.set_major_formatter(PERCENT)
    edges = np.linspace(0, 1, len(bins.counts) + 1)
    histogram.bar(edges[:-1], bins.counts, width=np.diff(edges), align="edge", color=BLUE, edgecolor="white")
    histogram.set(ylabel=f"test {ITEM}s", yscale="log", ylim=(0.5, None))
    histogram.yaxis.set_major_formatter("{x:,.0f}")
    for axes in (diagram, histogram):
        axes.set(xlabel="confidence", xlim=(-0.05, 1.05))
        axes.xaxis.set_major_formatter(PERCENT)
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(f"Calibration on the test set: the expected calibration error is {calibration_error(bins):.2%}")
    return figure


def filters(image: np.ndarray, name: str, kernels: np.ndarray, maps: np.ndarray) -> Figure:
    """Draw kernels of layer `name` (float C×H×W), and below each its response to one `image` (uint8 28×28).

    `maps` are the responses before any activation (float C×H'×W'). The hand-designed Sobel kernels come first, for
    comparison. Only the first kernels of many are drawn.
    """
    pairs = {name: (kernel, correlate(image.astype(float), kernel, mode="constant")) for name, kernel in SOBEL.items()}
    learned = list(zip(kernels, maps, strict=True))[:MOST_KERNELS]
    pairs |= {f"{name} kernel {number}": pair for number, pair in enumerate(learned)}
    step = 34  # from one kernel to the next
    figure, axes = _sheet(step * (len(SOBEL) + MOST_KERNELS) - 6, 80)
    for number, (title, (kernel, response)) in enumerate(pairs.items()):
        left, cell = number * step, 28 / len(kernel)
        _write(axes, left + 14, 4, title)
        _place(axes, kernel, left, 8, 28)
        _place(axes, response, left, 38, 28)
        for (row, column), value in np.ndenumerate(kernel if title in SOBEL else np.empty((0, 0))):
            _write(axes, left + cell * (column + 0.5), 8 + cell * (row + 0.5), f"{value:g}")
    words = "Responses: orange is negative, grey is 0, blue is positive. Each panel has its own scale."
    _write(axes, 0, 71, words, ha="left")
    if learned:
        words = "A kernel of mostly negative weights responds to blank paper, which is negative once standardised."
        _write(axes, 0, 76, words, ha="left")
    which = f" and learned kernels of {name}" if learned else ""
    axes.set_title(f"Sobel's hand-designed kernels{which}, with their responses to {A_ITEM}")
    return figure


def feature_maps(image: np.ndarray, layers: list[Layer], probabilities: np.ndarray) -> Figure:
    """Draw the output of each of `layers` for one `image` (uint8 28×28), and the prediction in place of the last one's.

    `probabilities` (float N) are those of the classes. Layers whose outputs are neither maps nor units are left out.
    """
    edge, width, gap, bar = 80, 240, 8, 26  # the names are to the left of the edge
    rows = [("input image\n28×28 pixels", image[None], 30, 28, 28)]  # with the step, the width and the height of a map
    for layer in layers[:-1]:
        if layer.output is None:
            continue
        values = layer.output.numpy()
        words = f"{layer.name}: {layer.kind}\n"
        if values.ndim == 3:
            words += "{} maps of {}×{}".format(*values.shape)
            step = width // min(MAPS_IN_A_ROW, max(8, len(values)))
            rows.append((words, values[:MOST_MAPS], step, step * 14 // 15, step * 14 // 15))
        else:  # units, in a strip
            words += f"{len(values)} units"
            rows.append((words, np.tile(values, (1, 4, 1)), width, min(width, 2 * len(values)), 8))
    lines = [-(-len(maps) // MAPS_IN_A_ROW) for _, maps, *_ in rows]
    heights = [(n - 1) * step + down for n, (_, _, step, _, down) in zip(lines, rows, strict=True)]
    figure, axes = _sheet(edge + width, sum(heights) + gap * len(rows) + bar + (40 if LONG_NAMES else 11))
    top = 0
    for height, (words, maps, step, across, _) in zip(heights, rows, strict=True):
        _write(axes, edge - 4, top + height / 2, words, ha="right")
        for number, shown in enumerate(maps):
            line, column = divmod(number, MAPS_IN_A_ROW)
            _place(axes, shown, edge + column * step, top + line * step, across)
        top += height + gap
    last = layers[-1]
    words = f"{last.name}: {last.kind}\n{len(CLASSES)} units, softmax"
    _write(axes, edge - 4, top + 4 + bar / 2, words, ha="right")
    _probabilities(axes, probabilities, edge, width, top + 4, bar)
    words = (
        "Each layer takes the one above it as its input.\n"
        "Orange is negative, grey is 0, blue is positive.\n"
        "Each map has its own scale."
    )
    _write(axes, edge + 36, 14, words, ha="left", linespacing=1.4)
    axes.set_title(f"The output of each layer for one {ITEM}")
    return figure


def _probabilities(axes: Axes, probabilities: np.ndarray, left: float, width: float, top: float, height: float) -> None:
    """Draw a bar for the probability of each class; a bar for 100 % is `height` units high."""
    base = top + height
    places = left + width / len(CLASSES) * (np.arange(len(CLASSES)) + 0.5)
    axes.bar(places, -height * probabilities, width=14, bottom=base, color=BLUE)
    axes.hlines(base, left, left + width, color="black", linewidth=0.8)
    for place, name, probability in zip(places, CLASSES, probabilities, strict=True):
        _write(axes, place, base - height * probability - 1, f"{probability:.1%}", va="bottom", size=9)
        _write(axes, place, base + (8 if LONG_NAMES else 1), name, **{"va": "top"} | SLANTED)


def _figure(height: float, width: float = INCHES) -> Figure:
    """Return an empty figure of this size, in inches, that leaves a margin around what is drawn."""
    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06))


def _sheet(width: int, height: int) -> tuple[Figure, Axes]:
    """Return a figure and its axes, prepared by `_fit`, for images and text."""
    figure = _figure(INCHES * height / width + 0.4)
    axes = figure.subplots()
    _fit(figure, axes, width, height)
    return figure, axes


def _fit(figure: Figure, axes: Axes, width: int, height: int) -> None:
    """Give `axes` a coordinate system of `width` × `height` units with the origin at the upper left.

    A unit is a whole number of screen pixels, so that all pixels of an image are drawn at the same size. It is computed
    when the figure is drawn, because only then is the resolution known.
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
    """Draw `image`, `width` units wide: bytes as ink, other numbers as signed values.

    This is much faster than separate axes for each image.
    """
    limit = np.abs(image).max() or 1
    low, high, colours = (0, 255, INK) if image.dtype == np.uint8 else (-limit, limit, SIGNED)
    extent = (left, left + width, top + width * image.shape[0] / image.shape[1], top)
    axes.imshow(image, colours, vmin=low, vmax=high, extent=extent, aspect="auto", interpolation="nearest")


def _write(axes: Axes, x: float, y: float, words: str, **style: Any) -> None:
    """Write `words` on `axes`, centred at (x, y) unless `style` says otherwise; the layout ignores them."""
    options: dict[str, Any] = {"ha": "center", "va": "center", "in_layout": False}
    axes.text(x, y, words, **options | style)
