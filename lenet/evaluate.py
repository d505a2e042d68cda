"""How good a model's predictions are."""

from torch import Tensor

from lenet.calibration import EvaluateConfig, calibration_error, reliability
from lenet.score import accuracy, cross_entropy


def report(logits: Tensor, labels: Tensor, config: EvaluateConfig) -> dict[str, float]:
    """Return the metrics of `logits` (float32 N×10) against `labels` (int64 N).

    `accuracy` is a fraction, `errors` a count, `loss` the mean cross-entropy in nats, `calibration_error` a fraction.
    """
    confidence, predicted = confidences(logits)
    correct = predicted == labels
    return {
        "accuracy": accuracy(logits, labels),
        "errors": int((~correct).sum()),
        "loss": cross_entropy(logits, labels),
        "calibration_error": calibration_error(reliability(confidence.numpy(), correct.numpy(), config)),
    }


def confidences(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each row of `logits` (N×10) the largest probability (float64 N) and its class (int64 N)."""
    confidence, predicted = logits.double().softmax(1).max(1)
    return confidence, predicted
