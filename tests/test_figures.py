import fakes
import numpy as np
import pandas as pd
import pytest

from lenet import figures
from lenet.figures import PlotConfig

CONFIG = PlotConfig(dpi=50, misread=40)
IMAGES, LABELS = fakes.digits(100)
HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2],
        "lr": [0.1, 0.05],
        "train_loss": [1.0, 0.5],
        "train_accuracy": [0.5, 0.9],
        "val_loss": [0.9, 0.4],
        "val_accuracy": [0.6, 1.0],
    }
)


def predictions(errors: int) -> pd.DataFrame:
    predicted = LABELS.copy()
    predicted[:errors] = (predicted[:errors] + 1) % 10
    return pd.DataFrame({"actual": LABELS, "predicted": predicted, "confidence": np.linspace(0.2, 1, 100)})


FIGURES = {
    "samples": lambda: figures.samples(IMAGES, LABELS),
    "samples of one class": lambda: figures.samples(IMAGES[LABELS == 3], LABELS[LABELS == 3]),
    "learning curves": lambda: figures.learning_curves(HISTORY),
    "learning curves without validation": lambda: figures.learning_curves(
        HISTORY.assign(val_loss=np.nan, val_accuracy=np.nan)
    ),
    "learning curves of one perfect epoch": lambda: figures.learning_curves(
        HISTORY.assign(train_accuracy=1.0, val_accuracy=1.0).head(1)
    ),
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


def test_misread_shows_the_most_confident_errors_first():
    axes = figures.misread(IMAGES, predictions(50), 3).axes[0]
    assert [text.get_text() for text in axes.texts] == ["9 → 0  60%", "8 → 9  59%", "7 → 8  58%"]
    assert "the 3 most confident of 50" in axes.get_title()


def test_confusion_counts():
    axes = figures.confusion(predictions(5)).axes[0]
    assert axes.get_title() == "5 of 100 test digits misread"
    assert [text.get_text() for text in axes.texts][:2] == ["9\n90.0%", "1"]
