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

from lenet import digit
from lenet.data import dataset
from lenet.errors import PipelineError

# Before the ink is detected, larger pictures are reduced so that their longer side has this many pixels.
_SIDE = 400
# The longer side, in pixels, at which strokes are measured and thickened; and how thick they must at least be, of 20
# pixels: three quarters of MNIST's digits have thicker ones, and what is thinner is but a shade at 28×28.
_DETAIL, _STROKE = 200, 2.0


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

    The ink may be dark on light paper or light on dark paper, unevenly lit. Raises PipelineError if there is no ink, or
    more than one digit.
    """
    image = grey / 255
    ink = digit.find(_resize(image, _SIDE) if max(image.shape) > _SIDE else image)
    if ink is None:
        raise PipelineError("shows no ink (dark on light paper or light on dark paper)")
    cut = _resize(_thicken(ink), 20)
    page = np.zeros((3 * 28, 3 * 28))  # with margins for ink that will be cut off
    top, left = (28 + math.floor(14 - centre + 0.5) for centre in ndimage.center_of_mass(cut))
    page[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
    return (255 * page[28:56, 28:56]).round().astype(np.uint8)


def _thicken(ink: np.ndarray) -> np.ndarray:
    """Return `ink` (float H×W, 0 to 1) with strokes at least `_STROKE` thick."""
    ink = np.pad(_resize(ink, _DETAIL), _DETAIL // 10)
    thickness = 2 * ink.sum() / np.hypot(*np.gradient(ink)).sum()  # of a stroke: its area by half its outline
    grow = (_STROKE * _DETAIL / 20 - thickness) / 2
    if grow > 0:
        ink = np.maximum(ink, (grow + 0.5 - ndimage.distance_transform_edt(ink < 0.5)).clip(0, 1))
    cut: np.ndarray = ink[ndimage.find_objects((ink > 0).astype(int))[0]]
    return cut


def _resize(image: np.ndarray, side: int) -> np.ndarray:
    """Return `image` (float H×W, 0 to 1) resized to the longer side `side`."""
    scale = side / max(image.shape)
    size = [max(1, round(length * scale)) for length in image.shape]
    resized = interpolate(torch.from_numpy(image)[None, None], size, mode="bilinear", antialias=True)
    return resized[0, 0].clamp(0, 1).numpy()
