"""What a model makes of images, and how good that is."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

# Images in a forward pass: enough to keep the processor busy, few enough for the activations to stay in its cache.
_BATCH = 500


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Return the model's logits, float32 N×10, for `images`, N×1×28×28. The model is left in the mode it was in."""
    training = model.training
    model.eval()
    logits = torch.cat([model(batch) for batch in images.split(_BATCH)])
    model.train(training)
    return logits


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the fraction of `labels` (int64, N) whose logit (N×10) is the largest."""
    return (logits.argmax(1) == labels).double().mean().item()


def cross_entropy(logits: Tensor, labels: Tensor) -> float:
    """Return the mean cross-entropy, in nats, of `labels` (int64, N) under `logits` (N×10), summed in float64."""
    return F.cross_entropy(logits.double(), labels).item()
