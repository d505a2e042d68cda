"""Is a model as sure as it is right? Of the answers given with 90 % confidence, 90 % should be correct."""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np

from lenet.config import Range


@dataclass(frozen=True)
class EvaluateConfig:
    """The section `evaluate` of params.yaml."""

    calibration_bins: Annotated[int, Range(least=1, most=1000)]


class Reliability(NamedTuple):
    """Predictions in bins of confidence: how many, their mean confidence and their accuracy (NaN in an empty bin)."""

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


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
