"""Evaluation: accuracy, loss, confusion and calibration.

A model is calibrated if, of its predictions with 90 % confidence, 90 % are correct.
"""

from statistics import NormalDist
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field
from torch import Tensor

from lenet.config import Config
from lenet.data.dataset import CLASSES
from lenet.metrics import accuracy, cross_entropy


class EvaluateConfig(Config):
    """The section `evaluate` of params.yaml."""

    calibration_bins: Annotated[int, Field(ge=1, le=1000)]


class Reliability(NamedTuple):
    """Predictions in bins of confidence: the number, mean confidence and accuracy in each bin (NaN if it is empty)."""

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def scores(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the `accuracy`, a fraction, and the `loss`, in nats, of `logits` (float32 N×10) for `labels` (int64 N)."""
    return {"accuracy": accuracy(logits, labels), "loss": cross_entropy(logits, labels)}


def confidences(logits: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row of `logits` (N×10) the largest probability (float64 N) and its class (int64 N)."""
    confidence, predicted = logits.double().softmax(1).max(1)
    return confidence.numpy(), predicted.numpy()


def confusion(actual: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the confusion matrix, int, with a row for each actual class; both arrays are int N."""
    counts = np.zeros((len(CLASSES), len(CLASSES)), int)
    np.add.at(counts, (actual, predicted), 1)
    return counts


def misread(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `predictions` whose `actual` and `predicted` class differ, the highest `confidence` first."""
    wrong = predictions[predictions["actual"] != predictions["predicted"]]
    return wrong.sort_values("confidence", ascending=False, kind="stable")


def reliability(confidence: np.ndarray, correct: np.ndarray, config: EvaluateConfig) -> Reliability:
    """Bin predictions by `confidence` (float N, 0 to 1); return each bin's mean confidence and accuracy.

    The M = `calibration_bins` bins are (0, 1/M], (1/M, 2/M] and so on (Guo et al., "On Calibration of Modern Neural
    Networks", 2017, section 2).
    """
    bins = config.calibration_bins
    index = np.ceil(confidence * bins).astype(int).clip(1, bins) - 1
    counts = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 in an empty bin
        means = [np.bincount(index, weights, bins) / counts for weights in (confidence, correct)]
    return Reliability(counts, *means)


def calibration_error(bins: Reliability) -> float:
    """Return the expected calibration error, a fraction (Guo et al., equation 3).

    It is the absolute difference between confidence and accuracy in each bin, averaged over all predictions.
    """
    return float(np.nansum(np.abs(bins.accuracy - bins.confidence) * bins.counts) / bins.counts.sum())


def wilson(successes: np.ndarray, trials: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper ends of Wilson's 95 % interval for a proportion, as fractions.

    `successes` and `trials` are counts (numbers, or arrays of one shape) with 0 <= successes <= trials. Without trials
    the interval is 0 to 1.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    z = NormalDist().inv_cdf(0.975)
    failures = trials - successes
    half = z * np.sqrt(successes * failures / np.maximum(trials, 1) + z**2 / 4)
    low, high = ((successes + z**2 / 2 + side * half) / (trials + z**2) for side in (-1, 1))
    return np.clip(low, 0, 1), np.clip(high, 0, 1)
