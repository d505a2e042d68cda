"""The mean and standard deviation that standardise the images."""

import math

import numpy as np


def mean_and_std(images: np.ndarray) -> tuple[float, float]:
    """Return the mean and the (population) standard deviation of pixels / 255 over all of `images`, uint8 of any shape.

    Exact but for the last rounding, because the sums are whole numbers. (A mean over batches would depend on the
    batches, and a mean over their standard deviations would be wrong.)
    """
    n = images.size
    total = int(images.sum(dtype=np.int64))
    squares = int(np.square(images, dtype=np.uint16).sum(dtype=np.int64))  # 255² just fits in 16 bits
    # Var = E[x²] - E[x]², on one denominator, so that nothing cancels.
    return total / (255 * n), math.sqrt(n * squares - total * total) / (255 * n)
