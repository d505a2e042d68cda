"""How good a model's predictions are, and whether it is as sure as it is right.

Of the answers given with 90 % confidence, 90 % should be correct.
"""

from statistics import NormalDist
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field
from torch import Tensor

from lenet.config import Config
from lenet.metrics import accuracy, cross_entropy


class EvaluateConfig(Config):
    """The section `evaluate` of params.yaml."""

    calibration_bins: Annotated[int, Field(ge=1, le=1000)]


class Reliability(NamedTuple):
    """Predictions in bins of confidence: how many, their mean confidence and their accuracy (NaN in an empty bin)."""

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def scores(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Return how well `logits` (float32 N×10) fit `labels` (int64 N).

    `accuracy` is a fraction, `loss` the mean cross-entropy in nats.
    """
    return {"accuracy": accuracy(logits, labels), "loss": cross_entropy(logits, labels)}


def confidences(logits: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row of `logits` (N×10) the largest probability (float64 N) and its class (int64 N)."""
    confidence, predicted = logits.double().softmax(1).max(1)
    return confidence.numpy(), predicted.numpy()


def reliability(confidence: np.ndarray, correct: np.ndarray, config: EvaluateConfig) -> Reliability:
    """Sort predictions by `confidence` (float N, 0 to 1) into equal bins, and average it and `correct` (bool N) there.

    The bins are (0, 1/M], (1/M, 2/M] and so on (Guo et al., "On Calibration of Modern Neural Networks", 2017, section
    2, with their M = `calibration_bins`).
    """
    bins = config.calibration_bins
    index = np.ceil(confidence * bins).astype(int).clip(1, bins) - 1
    counts = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 in an empty bin
        means = [np.bincount(index, weights, bins) / counts for weights in (confidence, correct)]
    return Reliability(counts, *means)


def calibration_error(bins: Reliability) -> float:
    """Return the expected calibration error, a fraction: by how much confidence and accuracy differ in the mean.

    The absolute differences of the bins are averaged, weighted by the number of predictions (Guo et al., equation 3).
    """
    return float(np.nansum(np.abs(bins.accuracy - bins.confidence) * bins.counts) / bins.counts.sum())


def wilson(successes: np.ndarray, trials: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and the upper end of the 95 % interval, two fractions, for the chance of a success.

    `successes` and `trials` are counts (arrays of one shape, or numbers), with 0 <= successes <= trials. The interval
    stays within 0 and 1, and is all of that without a trial (Wilson, "Probable inference, the law of succession, and
    statistical inference", 1927).
    """
    z = NormalDist().inv_cdf(0.975)
    failures = trials - successes
    half = z * np.sqrt(successes * failures / np.maximum(trials, 1) + z**2 / 4)
    low, high = ((successes + z**2 / 2 + side * half) / (trials + z**2) for side in (-1, 1))
    return np.clip(low, 0, 1), np.clip(high, 0, 1)
