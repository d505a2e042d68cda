"""Accuracy and loss, the same in training and evaluation."""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the fraction of `labels` (int64, N) whose logit (N×10) is the largest."""
    return (logits.argmax(1) == labels).double().mean().item()


def cross_entropy(logits: Tensor, labels: Tensor) -> float:
    """Return the mean cross-entropy, in nats, of `labels` (int64, N) under `logits` (N×10), summed in float64."""
    return F.cross_entropy(logits.double(), labels).item()
