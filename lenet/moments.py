"""The mean and standard deviation that standardise the images."""

import math

import numpy as np


def mean_and_std(images: np.ndarray) -> tuple[float, float]:
    """Return the mean and the (population) standard deviation of pixels / 255 over all of `images`, uint8 of any shape.

    Exact but for the last rounding: both follow from the histogram of the 256 grey values, summed in whole numbers. (A
    mean over batches would depend on the batches, and a mean over their standard deviations would be wrong.)
    """
    counts = [int(count) for count in np.bincount(images.ravel(), minlength=256)]
    n = sum(counts)
    total = sum(value * count for value, count in enumerate(counts))
    squares = sum(value * value * count for value, count in enumerate(counts))
    # Var = E[x²] - E[x]², on one denominator, so that nothing cancels.
    return total / (255 * n), math.sqrt(n * squares - total * total) / (255 * n)
