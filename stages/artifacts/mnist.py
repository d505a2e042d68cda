"""The data set, data/mnist: the four files that the download stage wrote."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from lenet.data import idx
from lenet.data.dataset import CLASSES
from lenet.errors import PipelineError
from stages.artifacts import files

FOLDER = Path("data/mnist")


class Digits(NamedTuple):
    """Images, uint8 N×28×28 (0: background, 255: ink), and their labels, uint8 N (0 to 9)."""

    images: np.ndarray
    labels: np.ndarray


def read(part: str) -> Digits:
    """Return the digits of `part`, `train` or `t10k`; raise PipelineError if its files are damaged or don't match."""
    names = [f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"]
    images, labels = (_array(FOLDER / name) for name in names)
    if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1] or not len(images):
        shapes = " and ".join("×".join(map(str, array.shape)) for array in (images, labels))
        raise PipelineError(f"{FOLDER}: {' and '.join(names)} are {shapes}, but must be N×28×28 and N")
    if labels.max() >= len(CLASSES):
        raise PipelineError(f"{FOLDER / names[1]} has the label {labels.max()}, but labels are 0 to {len(CLASSES) - 1}")
    return Digits(images, labels)


def _array(path: Path) -> np.ndarray:
    return idx.decode(files.read(path, "run dvc repro download"), str(path))
