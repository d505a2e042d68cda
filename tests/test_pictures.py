"""The recorded model reads drawn pictures of every kind, and docs/pictures.csv is about these kinds."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT

from lenet.data import dataset, idx
from lenet.errors import PipelineError
from lenet.ink import like_mnist
from lenet.model import LeNet5, from_bytes, predict
from tools.dev.pictures import KINDS, NO_DIGITS, OTHERS, counted, examples

draws_digits = [
    pytest.mark.recorded,
    pytest.mark.skipif(dataset.TITLE != "MNIST", reason="draws digits"),
]


@pytest.fixture(scope="module")
def model() -> LeNet5:
    return from_bytes((ROOT / "models/lenet5.safetensors").read_bytes(), "the model")


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, ...]:
    """The first training images: these are to try the conversion, not the model."""
    names = ("images-idx3", "labels-idx1")
    paths = [ROOT / f"data/mnist/train-{name}-ubyte" for name in names]
    return tuple(idx.decode(path.read_bytes(), path.name)[:2000] for path in paths)


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=draws_digits) for kind in KINDS])
def test_pictures_are_read(kind, model, digits):
    right = sum(
        int(predict(model, torch.from_numpy(like_mnist(image))[None, None]).argmax()) == digit
        for image, digit in examples(kind, 10, *digits)
    )
    assert right >= 8


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=draws_digits) for kind in OTHERS])
def test_there_is_a_message_if_there_is_not_one_digit(kind, digits):
    messages = 0
    for image, _ in examples(kind, 10, *digits):
        try:
            like_mnist(image)
        except PipelineError:
            messages += 1
    assert messages >= 8


def test_the_table_has_every_kind():
    table = pd.read_csv(ROOT / "docs/pictures.csv")
    assert list(table["kind"]) == ["validation images", *KINDS, *OTHERS, *NO_DIGITS]
    assert (table["n"] == table[["right", "wrong", "message"]].sum(axis=1)).all()
    assert list(pd.read_csv(ROOT / "docs/no-digit.csv"))[1:-1] == list(NO_DIGITS)


def test_answers_are_counted():
    sure, unsure = torch.tensor([0.0, 9, 0]), torch.tensor([0.0, 1, 0])
    answers = [(sure, 1), (unsure, 1), (sure, 0), (unsure, None), (None, 1)]
    expected = {"n": 5, "right": 2, "right_doubtful": 1, "wrong": 2, "wrong_doubtful": 1, "message": 1}
    assert counted(answers) == expected
