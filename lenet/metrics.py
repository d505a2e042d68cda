"""Accuracy, loss, and the temperature of logits, the same in training and evaluation."""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the fraction of `labels` (int64, N) whose logit (N×10) is the largest."""
    return (logits.argmax(1) == labels).double().mean().item()


def cross_entropy(logits: Tensor, labels: Tensor) -> float:
    """Return the mean cross-entropy, in nats, of `labels` (int64, N) under `logits` (N×10), summed in float64."""
    return F.cross_entropy(logits.double(), labels).item()


def temperature(logits: Tensor, labels: Tensor) -> float:
    """Return by what to divide `logits` (N×10) to minimise their cross-entropy for `labels` (int64, N).

    The result is between 0.1 and 10, rounded to three decimals.

    Source: Guo et al., "On Calibration of Modern Neural Networks", 2017, section 4.2.
    """
    logits = logits.double()
    low, high = 0.1, 10.0  # of the inverse: in it, the cross-entropy is convex, so its slope changes sign only once
    for _ in range(50):
        middle = (low + high) / 2
        probabilities = (middle * logits).softmax(1)
        slope = (probabilities * logits).sum(1) - logits.gather(1, labels[:, None]).squeeze(1)
        low, high = (low, middle) if slope.mean() > 0 else (middle, high)
    return round(1 / middle, 3)
