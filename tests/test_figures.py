import io
import re

import fakes
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, configured
from matplotlib.image import imread

from lenet import figures
from lenet.data.dataset import CLASSES, ITEM
from lenet.evaluation import EvaluateConfig, reliability, wilson
from lenet.figures import PlotConfig
from lenet.layers import Layer
from lenet.palette import BLUE, LOG_FLOOR, ORANGE

CONFIG = configured(PlotConfig, "plot", dpi=100)
TEN_BINS = configured(EvaluateConfig, "evaluate", calibration_bins=10)
IMAGES, LABELS = fakes.digits(100)
HISTORY = pd.DataFrame(
    {"epoch": [1, 2], "lr": [0.1, 0.05], "train_loss": [1.0, 0.5], "train_accuracy": [0.5, 0.9]}
    | {"val_loss": [0.9, 0.4], "val_accuracy": [0.6, 1.0]}
)
UNVALIDATED = HISTORY.assign(val_loss=np.nan, val_accuracy=np.nan)
PERFECT = HISTORY.assign(train_accuracy=1.0, val_accuracy=1.0)
BINS = reliability(
    np.linspace(0.2, 1, 100), np.arange(100) % 10 > 3, configured(EvaluateConfig, "evaluate", calibration_bins=15)
)
RESPONSES = np.ones((6, 28, 28))
LAST = Layer("F7", [], "fully connected", torch.zeros(10))
LAYERS = [
    Layer("C1", [], "convolution", torch.ones(6, 28, 28)),
    Layer("C3", [], "convolution, ReLU", torch.arange(4000.0).reshape(40, 10, 10)),
    Layer("attention", [], "Attention", None),
    Layer("F6", [], "fully connected, ReLU", torch.arange(300.0)),
    LAST,
]
PROBABILITIES = np.array([0.91, *9 * [0.01]])
KERNELS = np.linspace(-1, 2, 150).reshape(6, 5, 5)


def predictions(errors: int) -> pd.DataFrame:
    predicted = LABELS.copy()
    predicted[:errors] = (predicted[:errors] + 1) % 10
    return pd.DataFrame({"actual": LABELS, "predicted": predicted, "confidence": np.linspace(0.2, 1, 100)})


FIGURES = {
    "samples": lambda: figures.samples(IMAGES, LABELS, LABELS[:50]),
    "samples of one class": lambda: figures.samples(IMAGES[LABELS == 3], LABELS[LABELS == 3], LABELS),
    "learning curves": lambda: figures.learning_curves(HISTORY),
    "learning curves without validation": lambda: figures.learning_curves(UNVALIDATED),
    "learning curves of one perfect epoch": lambda: figures.learning_curves(PERFECT.head(1)),
    "tensor": lambda: figures.tensor(IMAGES[3], 3, index=3),
    "calibration": lambda: figures.calibration(BINS),
    "learning curves of high losses": lambda: figures.learning_curves(HISTORY.assign(train_loss=[1e6, 1e5])),
    "filters": lambda: figures.filters(IMAGES[3], "C1", KERNELS, RESPONSES),
    "filters without kernels": lambda: figures.filters(IMAGES[3], "F1", KERNELS[:0], RESPONSES[:0]),
    "feature maps": lambda: figures.feature_maps(IMAGES[3], LAYERS, PROBABILITIES),
    "feature maps of an empty image": lambda: figures.feature_maps(0 * IMAGES[3], [LAST, LAST], PROBABILITIES),
    "confusion": lambda: figures.confusion(predictions(5)),
    "confusion without errors": lambda: figures.confusion(predictions(0)),
    "misread": lambda: figures.misread(IMAGES, predictions(50), 40),
    "misread without errors": lambda: figures.misread(IMAGES, predictions(0), 40),
}


@pytest.mark.parametrize("name", FIGURES)
def test_equal_figures_give_equal_pngs(name):
    first, second = (figures.png(FIGURES[name](), CONFIG) for _ in range(2))
    assert first.startswith(b"\x89PNG")
    assert first == second
    assert b"atplotlib" not in first


@pytest.mark.parametrize("dpi", [100, 123, 150])
@pytest.mark.parametrize("name", ["samples", "misread"])
def test_each_pixel_of_an_image_becomes_a_square_of_the_same_size(name, dpi):
    figure = FIGURES[name]()
    figure.set_dpi(dpi)
    picture = (255 * imread(io.BytesIO(figures.png(figure, configured(PlotConfig, "plot", dpi=dpi))))).round()
    images = figure.axes[0].images
    assert images
    for image in images:
        (left, bottom), (right, top) = image.get_window_extent().get_points().round().astype(int)
        factor, rest = divmod(right - left, 28)
        assert factor >= 2
        assert rest == 0
        pixels = image.to_rgba(image.get_array(), bytes=True)
        drawn = picture[len(picture) - top : len(picture) - bottom, left:right]
        np.testing.assert_array_equal(drawn, pixels.repeat(factor, 0).repeat(factor, 1))


def test_misread_shows_the_most_confident_errors_first():
    axes = figures.misread(IMAGES, predictions(50), 3).axes[0]
    assert [text.get_text() for text in axes.texts] == [
        f"labelled {CLASSES[9]}\npredicted {CLASSES[0]}\nconfidence 60%",
        f"labelled {CLASSES[8]}\npredicted {CLASSES[9]}\nconfidence 59%",
        f"labelled {CLASSES[7]}\npredicted {CLASSES[8]}\nconfidence 58%",
    ]
    assert "3 most confident of 50" in axes.get_title()
    for image, index in zip(axes.images, (49, 48, 47), strict=True):
        np.testing.assert_array_equal(image.get_array(), IMAGES[index])


def test_confusion_counts():
    axes = figures.confusion(predictions(5)).axes[0]
    assert axes.get_title() == f"5 of 100 test {ITEM}s misread"
    assert (axes.get_ylabel(), axes.get_xlabel()) == (f"actual {ITEM}", f"predicted {ITEM}")
    words = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in axes.texts}
    assert words[0, 0] == "9\n90.0%"
    assert words[0, 1] == "1"
    assert (0, 2) not in words
    assert [words[10, column] for column in range(11)] == ["9", *4 * ["10"], "11", *4 * ["10"], "100"]
    assert [words[row, 10] for row in range(10)] == 10 * ["10"]


def test_samples_count_the_classes():
    axes = figures.samples(IMAGES, LABELS, LABELS[:55]).axes[0]
    assert [text.get_text() for text in axes.texts] == ["10"] * 10 + ["6"] * 5 + ["5"] * 5
    order = [index for label in range(10) for index in np.flatnonzero(label == LABELS)]
    for image, index in zip(axes.images, order, strict=True):
        np.testing.assert_array_equal(image.get_array(), IMAGES[index])


def test_tensor_shows_the_numbers_of_the_ink_and_a_margin():
    image = np.zeros((28, 28), np.uint8)
    image[4:10, 20:28] = np.arange(1, 49).reshape(6, 8)
    axes = figures.tensor(image, 3, index=7).axes
    assert axes[0].get_title() == f"Test image 7, labelled {CLASSES[3]}"
    assert axes[0].patches[0].get_bbox().extents.tolist() == [19, 3, 28, 11]
    assert [int(text.get_text()) for text in axes[1].texts] == image[3:11, 19:].ravel().tolist()
    assert len(figures.tensor(0 * image, 3, index=7).axes[1].texts) == 28 * 28


def test_learning_curves_show_every_epoch():
    history = pd.concat([HISTORY, HISTORY.tail(1).assign(epoch=3)])
    figure = figures.learning_curves(history)
    assert [text.get_text() for text in figure.legends[0].texts] == ["training", "validation"]
    titles = ["Mean cross-entropy (nats)", "Error rate", "Learning rate"]
    assert [axes.get_title() for axes in figure.axes] == titles
    columns = [["train_loss", "val_loss"], ["train_accuracy", "val_accuracy"]]
    for axes, names in zip(figure.axes, columns, strict=False):
        low, high = axes.get_ylim()
        for line, column in zip(axes.lines, names, strict=True):
            values = history[column] if "loss" in column else (1 - history[column]).clip(lower=LOG_FLOOR)
            assert list(line.get_ydata()) == list(values)
            assert low < min(values) <= max(values) < high
    assert list(figure.axes[2].lines[0].get_ydata()) == list(history["lr"])
    alone = figures.learning_curves(UNVALIDATED.head(1))
    assert [text.get_text() for text in alone.legends[0].texts] == ["training"]


def test_filters_stand_above_their_maps_and_find_an_edge():
    image = np.zeros((28, 28), np.uint8)
    image[:, 14:] = 100  # an edge that only Sobel's x kernel answers to, with 4 times its height
    axes = figures.filters(image, "C1", np.tile(KERNELS, (2, 1, 1)), np.tile(RESPONSES, (2, 1, 1))).axes[0]
    assert len(axes.images) == 2 * (2 + 6)
    x, y = (axes.images[place].get_array()[1:-1, 1:-1] for place in (1, 3))
    assert x.max() == 400
    assert y.max() == 0
    for above, below in zip(axes.images[::2], axes.images[1::2], strict=True):
        assert above.get_extent()[:2] == below.get_extent()[:2]
        assert above.get_extent()[2] < below.get_extent()[3]


def test_feature_maps_give_the_shapes_and_the_answer():
    axes = figures.feature_maps(IMAGES[3], LAYERS, PROBABILITIES).axes[0]
    words = [text.get_text() for text in axes.texts]
    assert words[1:5] == [
        "C1: convolution\n6 maps of 28×28",
        "C3: convolution, ReLU\n40 maps of 10×10",
        "F6: fully connected, ReLU\n300 units",
        "F7: fully connected\n10 units, softmax",
    ]
    assert len(axes.images) == 1 + 6 + 40 + 1
    assert len({image.get_extent()[3] for image in axes.images}) == 1 + 1 + 3 + 1  # 40 maps need three rows
    assert max(image.get_extent()[1] for image in axes.images) <= axes.get_xlim()[1]
    assert words[5:9] == ["91.0%", CLASSES[0], "1.0%", CLASSES[1]]
    lengths = [abs(bar.get_height()) for bar in axes.patches]
    assert lengths / sum(lengths) == pytest.approx(PROBABILITIES)


def test_calibration_shows_every_bin_and_its_interval():
    confidence, correct = np.array([0.05, 0.95, 0.95, 0.95, 1.0]), np.array([False, True, True, True, True])
    figure = figures.calibration(reliability(confidence, correct, TEN_BINS))
    assert figure.get_suptitle().endswith("calibration error is 4.00%")
    diagram = figure.axes[0]
    assert not any(axes.get_title() for axes in figure.axes)
    points = np.asarray(diagram.collections[0].get_offsets())
    assert points == pytest.approx(np.array([[0.05, 0], [0.9625, 1]]))
    for low, high in (diagram.get_xlim(), diagram.get_ylim()):
        assert low <= -0.03  # half a point
        assert high >= 1.03
    intervals = np.array([segment[:, 1] for segment in diagram.collections[1].get_segments()])
    assert intervals == pytest.approx(np.transpose(wilson(np.array([0, 4]), np.array([1, 4]))))
    assert [bar.get_height() for bar in figure.axes[1].patches] == [1, *8 * [0], 4]
    few, many = diagram.collections[0].get_facecolors()[:, 3]
    assert 0 < few < many < 1


def test_the_template_of_dvcs_plots_has_the_same_colours():
    template = (ROOT / ".dvc/plots/errors.json").read_text()
    assert set(re.findall("#[0-9A-Fa-f]{6}", template)) == {"#FFFFFF", BLUE, ORANGE}
