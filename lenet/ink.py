"""Convert a picture to 28×28 pixels like those of the data set.

For MNIST, the ink is scaled so that its longer side has 20 pixels, and moved by whole pixels so that its centre of mass
is at (14, 14), counted from 0. LeCun et al. (1998, section III.A) describe this for MNIST, and its images show the
details. lenet/report/ink.js does the same with drawings on the report's page.
"""

import math

import numpy as np
import torch
from scipy import ndimage
from torch.nn.functional import interpolate

from lenet.data import dataset
from lenet.errors import PipelineError

# Before the ink is detected, larger pictures are reduced so that their longer side has this many pixels.
_SIDE = 400
# The smallest difference in brightness, from 0 to 1, between ink and paper.
_CONTRAST = 0.12
# Pieces of ink smaller than this fraction of the largest one are specks, and removed.
_SPECK = 0.05


def convert(grey: np.ndarray) -> np.ndarray:
    """Return the picture `grey` (uint8 H×W, 0: black) as 28×28 pixels, uint8, as the data set has it.

    Raises PipelineError if it should show ink and there is none.
    """
    return like_mnist(grey) if dataset.LIKE_MNIST else _resized(grey)


def _resized(grey: np.ndarray) -> np.ndarray:
    """Return the whole picture as 28×28 pixels, with 0 for its background, the colour of most of its border."""
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    image = _resize((255 - grey if np.median(border) > 127 else grey) / 255, 28)
    top, left = ((28 - length) // 2 for length in image.shape)
    page = np.zeros((28, 28))
    page[top : top + image.shape[0], left : left + image.shape[1]] = image
    return (255 * page).round().astype(np.uint8)


def like_mnist(grey: np.ndarray) -> np.ndarray:
    """Return the digit in `grey` (uint8 H×W, 0: black) as 28×28 pixels, uint8 from 0 (paper) to 255 (ink).

    The ink may be dark on light paper or light on dark paper, unevenly lit. Raises PipelineError if there is no ink.
    """
    ink = _ink(grey / 255)
    rows, columns = (np.flatnonzero(ink.max(axis)) for axis in (1, 0))
    cut = _resize(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 20)
    page = np.zeros((3 * 28, 3 * 28))  # with margins for ink that will be cut off
    top, left = (28 + math.floor(14 - centre + 0.5) for centre in ndimage.center_of_mass(cut))
    page[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
    return (255 * page[28:56, 28:56]).round().astype(np.uint8)


def _ink(image: np.ndarray) -> np.ndarray:
    """Return the amount of ink in each pixel of `image` (float H×W, 0 to 1): float, 0 to 1."""
    if max(image.shape) > _SIDE:
        image = _resize(image, _SIDE)
    if np.median(image) - image.min() < image.max() - np.median(image):
        image = 1 - image  # light ink on dark paper
    # The brightness of the paper: everything narrower than a third of the picture is filled from its surroundings.
    paper = ndimage.grey_closing(image, max(3, max(image.shape) // 3), mode="nearest")
    ink = paper - image
    if ink.max() < _CONTRAST:
        raise PipelineError("shows no ink (dark on light paper or light on dark paper)")
    ink = ((ink / ink.max() - 0.15) / 0.7).clip(0, 1)
    pieces, n = ndimage.label(ink, np.ones((3, 3)))
    sizes = ndimage.sum_labels(ink, pieces, range(1, n + 1))
    kept = 1 + np.flatnonzero(sizes >= _SPECK * sizes.max())
    return np.where(np.isin(pieces, kept), ink, 0)


def _resize(image: np.ndarray, side: int) -> np.ndarray:
    """Return `image` (float H×W, 0 to 1) resized to the longer side `side`."""
    scale = side / max(image.shape)
    size = [max(1, round(length * scale)) for length in image.shape]
    resized = interpolate(torch.from_numpy(image)[None, None], size, mode="bilinear", antialias=True)
    return resized[0, 0].clamp(0, 1).numpy()
