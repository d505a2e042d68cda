"""The mean and standard deviation for standardising images."""

import math

import numpy as np


def mean_and_std(images: np.ndarray) -> tuple[float, float]:
    """Return the mean and population standard deviation of pixels / 255 over all of `images`, uint8 of any shape.

    The sums are integers, so the result is exact up to the last rounding and does not depend on batches.
    """
    n = images.size
    total = int(images.sum(dtype=np.int64))
    squares = int(np.square(images, dtype=np.uint16).sum(dtype=np.int64))  # 255² fits in 16 bits
    # Var = E[x²] - E[x]², over a common denominator to avoid cancellation.
    return total / (255 * n), math.sqrt(n * squares - total * total) / (255 * n)
