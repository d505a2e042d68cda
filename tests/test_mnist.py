import fakes
import numpy as np
import pytest

from lenet.data import dataset
from lenet.errors import PipelineError
from stages.artifacts import mnist

IMAGES, LABELS = fakes.digits(10)


def write(images: np.ndarray, labels: np.ndarray) -> None:
    mnist.FOLDER.mkdir(parents=True)
    (mnist.FOLDER / "train-images-idx3-ubyte").write_bytes(fakes.idx(images))
    (mnist.FOLDER / "train-labels-idx1-ubyte").write_bytes(fakes.idx(labels))


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_images_and_labels():
    write(IMAGES, LABELS)
    digits = mnist.read("train")
    np.testing.assert_array_equal(digits.images, IMAGES)
    np.testing.assert_array_equal(digits.labels, LABELS)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES, LABELS[:9], "are 10×28×28 and 9, but must be N×28×28 and N"),
        (IMAGES[:, :27], LABELS, "are 10×27×28 and 10, but must be"),
        (LABELS, LABELS, "are 10 and 10, but must be"),
        (IMAGES[:0], LABELS[:0], "are 0×28×28 and 0, but must be"),
        (IMAGES, LABELS + 2, "train-labels-idx1-ubyte has the label 11, but labels are 0 to 9"),
    ],
)
def test_what_does_not_match_is_refused(images, labels, message):
    write(images, labels)
    with pytest.raises(PipelineError, match=message):
        mnist.read("train")


@pytest.mark.skipif(dataset.TITLE != "MNIST", reason="this is another data set")
def test_the_classes_of_mnist_are_its_labels():
    assert list(dataset.CLASSES) == list("0123456789")


def test_no_files():
    with pytest.raises(PipelineError, match="can't be read: No such file or directory; run dvc repro download"):
        mnist.read("train")
