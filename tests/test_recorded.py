"""The model of the last run of the pipeline: it is accurate, and the page reads drawings with it."""

import json

import numpy as np
import pytest
import torch
from browser import needs_browser
from conftest import ROOT
from skimage.morphology import skeletonize
from test_report import visit

from lenet.data import dataset, idx
from lenet.model import from_bytes, predict

pytestmark = [
    pytest.mark.recorded,
    pytest.mark.skipif(dataset.TITLE != "MNIST", reason="draws digits, and expects the accuracy of LeNet-5 on MNIST"),
]

SEVEN = [[(0.3, 0.2), (0.7, 0.2), (0.55, 0.5), (0.45, 0.85)]]
FOUR = [[(0.4, 0.15), (0.3, 0.55), (0.75, 0.55)], [(0.62, 0.3), (0.6, 0.9)]]


def test_the_accuracy():
    accuracy = json.loads((ROOT / "metrics/evaluate.json").read_text())["test"]["accuracy"]
    assert accuracy >= 0.99, "LeNet-5 reaches this on MNIST: change it for another model"


def digits() -> tuple[np.ndarray, np.ndarray]:
    return tuple(
        idx.decode((ROOT / f"data/mnist/t10k-{name}-ubyte").read_bytes(), name)
        for name in ("images-idx3", "labels-idx1")
    )


def strokes(image: np.ndarray) -> list[list[tuple[int, int]]]:
    """Return the skeleton of `image` as strokes: a line between each two pixels of it that touch."""
    pixels = {(int(x), int(y)) for y, x in np.argwhere(skeletonize(image > 127))}
    steps = ((1, 0), (0, 1), (1, 1), (1, -1))
    lines = [[(x, y), (x + dx, y + dy)] for x, y in sorted(pixels) for dx, dy in steps if (x + dx, y + dy) in pixels]
    return lines or [[place] for place in sorted(pixels)]


@needs_browser
def test_the_page_of_the_run(tmp_path):
    images, labels = digits()
    model = from_bytes((ROOT / "models/lenet5.safetensors").read_bytes(), "the model")
    logits = predict(model, torch.tensor(images[:1000])[:, None]).numpy()
    drawn = [strokes(image) for image in images[:500]]
    text = (ROOT / "report.html").read_text()
    seen = visit(text, images[:1000], tmp_path, drawings=[SEVEN, FOUR], strokes=drawn)
    assert np.abs(np.array(seen["logits"]) - logits).max() <= 1e-6 * np.abs(logits).max()
    assert (np.argmax(seen["logits"], 1) == logits.argmax(1)).all()
    assert [drawing["prediction"][0] for drawing in seen["drawings"]] == ["7", "4"]
    assert (np.array(seen["read"]) == labels[:500]).mean() >= 0.97
