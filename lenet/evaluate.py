"""How good a model's predictions are."""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from lenet.config import Range
from lenet.score import accuracy, cross_entropy


@dataclass(frozen=True)
class EvaluateConfig:
    """The section `evaluate` of params.yaml."""

    calibration_bins: Annotated[int, Range(least=1, most=1000)]


def report(logits: Tensor, labels: Tensor, config: EvaluateConfig) -> dict[str, float]:
    """Return the metrics of `logits` (float32 N×10) against `labels` (int64 N).

    `accuracy` is a fraction, `errors` a count, `loss` the mean cross-entropy in nats, `calibration_error` a fraction.
    """
    return {
        "accuracy": accuracy(logits, labels),
        "errors": int((logits.argmax(1) != labels).sum()),
        "loss": cross_entropy(logits, labels),
        "calibration_error": calibration_error(*confidences(logits), labels, config.calibration_bins),
    }


def confidences(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each row of `logits` (N×10) the largest probability (float64 N) and its class (int64 N)."""
    confidence, predicted = logits.double().softmax(1).max(1)
    return confidence, predicted


def calibration_error(confidence: Tensor, predicted: Tensor, labels: Tensor, bins: int) -> float:
    """Return the expected calibration error, a fraction: by how much the confidence differs from the accuracy.

    The range 0 to 1 is cut into `bins` of equal width; in each, the mean confidence is compared with the accuracy, and
    the absolute differences are averaged, weighted by the number of predictions (Guo et al., "On Calibration of Modern
    Neural Networks", 2017, equation 3, with their M = `bins`).
    """
    index = (confidence * bins).ceil().long().clamp(1, bins) - 1  # (0, 1/M], (1/M, 2/M], ...
    # In each bin, |accuracy - mean confidence| times its share of the N is |Σ (correct - confidence)| / N.
    gaps = torch.zeros(bins, dtype=torch.float64).index_add(0, index, (predicted == labels).double() - confidence)
    return (gaps.abs().sum() / len(labels)).item()
