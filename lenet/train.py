"""Training: batches of distorted images, an optimiser, a learning rate that rises and falls."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Annotated, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from lenet.augment import AugmentConfig, distort, random_warps, warp_basis
from lenet.config import Range
from lenet.errors import PipelineError
from lenet.model import CLASSES
from lenet.score import accuracy, cross_entropy, predict


@dataclass(frozen=True)
class TrainConfig:
    """The section `train` of params.yaml."""

    seed: Annotated[int, Range(least=0, below=2**63)]
    epochs: Annotated[int, Range(least=1, most=1000)]
    batch_size: Annotated[int, Range(least=1, most=60_000)]
    optimizer: Literal["sgd", "adam", "adamw", "adagrad", "rmsprop"]
    lr: Annotated[float, Range(above=0, most=100)]
    momentum: Annotated[float, Range(least=0, below=1)]
    nesterov: bool
    weight_decay: Annotated[float, Range(least=0, most=1)]
    schedule: Literal["constant", "linear", "cosine"]
    warmup: Annotated[float, Range(least=0, most=1)]
    label_smoothing: Annotated[float, Range(least=0, below=1)]
    augment: AugmentConfig

    def __post_init__(self):
        if self.momentum and self.optimizer not in ("sgd", "rmsprop"):
            raise PipelineError(
                f"train.momentum is {self.momentum:g}, but train.optimizer is {self.optimizer}, which takes none: "
                "set train.momentum to 0, or train.optimizer to sgd or rmsprop"
            )
        if self.nesterov and not (self.optimizer == "sgd" and self.momentum):
            raise PipelineError(
                f"train.nesterov is true, but train.optimizer is {self.optimizer} with a train.momentum of "
                f"{self.momentum:g}: set train.nesterov to false, or use sgd with a train.momentum above 0"
            )


def lr_factor(step: int, steps: int, config: TrainConfig) -> float:
    """Return what multiplies `lr` in step `step` of 0 to `steps` - 1.

    It rises in equal parts to 1 over the first `warmup` of the steps; then it stays (constant), falls in a straight
    line (linear) or along half a cosine wave (cosine) towards 0, which it would reach one step after the last.
    """
    warmup_steps = config.warmup * steps
    if step < warmup_steps:
        return min(1.0, (step + 1) / warmup_steps)
    left = (steps - step) / (steps - warmup_steps)
    return {"constant": 1.0, "linear": left, "cosine": (1 - math.cos(math.pi * left)) / 2}[config.schedule]


def new_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimiser that `config` names for the parameters of `model`."""
    parameters, common = model.parameters(), {"lr": config.lr, "weight_decay": config.weight_decay}
    match config.optimizer:
        case "sgd":
            return torch.optim.SGD(parameters, momentum=config.momentum, nesterov=config.nesterov, fused=True, **common)
        case "adam":
            return torch.optim.Adam(parameters, fused=True, **common)
        case "adamw":
            return torch.optim.AdamW(parameters, fused=True, **common)
        case "adagrad":
            return torch.optim.Adagrad(parameters, **common)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, momentum=config.momentum, **common)
    raise AssertionError(config.optimizer)


def fit(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    val_images: Tensor,
    val_labels: Tensor,
    config: TrainConfig,
) -> Iterator[dict[str, float | None]]:
    """Train `model` in place on `images` (uint8 N×1×28×28) and `labels` (int64 N); yield a row after each epoch.

    A row holds `epoch` (from 1), `lr` (of the epoch's last step), `train_loss` and `train_accuracy` (means over the
    epoch's images, distorted as they were, each scored just before the step that learns from it), `val_loss` and
    `val_accuracy` (of the model as it is after the epoch; None if `val_images` is empty). Losses are mean
    cross-entropies in nats, without label smoothing, so that they can be compared.

    Everything lies on one device, and nothing leaves it within an epoch, so that a GPU never waits for Python. All
    random numbers are drawn on the CPU: a seed means the same order and distortions on every device.

    Raises PipelineError if a batch is larger than the training set, and (status 1) at the end of an epoch in which a
    loss was not finite.
    """
    n, batch_size = len(images), config.batch_size
    if batch_size > n:
        raise PipelineError(
            f"train.batch_size is {batch_size}, but only {n} images train: set it to {n} or less, or raise split.folds"
        )
    generator = torch.Generator().manual_seed(config.seed)
    size = images.shape[-1]
    basis = warp_basis(size).to(images.device)
    optimizer = new_optimizer(model, config)
    steps = config.epochs * math.ceil(n / batch_size)
    step = 0
    model.train()
    for epoch in range(1, config.epochs + 1):
        order = torch.randperm(n, generator=generator).to(images.device)
        targets = labels[order]
        warps = repeat(None)
        if config.augment.enabled:
            warps = random_warps(n, size, config.augment, generator).to(images.device).split(batch_size)
        logits = torch.empty(n, CLASSES, device=images.device)
        first_step = step
        batches = (tensor.split(batch_size) for tensor in (order, targets, logits))
        for index, target, out, warp in zip(*batches, warps, strict=False):  # repeat(None) has no end
            lr = config.lr * lr_factor(step, steps, config)
            for group in optimizer.param_groups:
                group["lr"] = lr
            batch = images.index_select(0, index)  # images[index] is slower
            if warp is not None:
                batch = distort(batch, warp, basis)
            scores = model(batch)
            optimizer.zero_grad()
            F.cross_entropy(scores, target, label_smoothing=config.label_smoothing).backward()
            optimizer.step()
            out.copy_(scores.detach())
            step += 1
        _check_finite(logits, targets, first_step, config)
        row = {
            "epoch": epoch,
            "lr": lr,
            "train_loss": cross_entropy(logits, targets),
            "train_accuracy": accuracy(logits, targets),
            "val_loss": None,
            "val_accuracy": None,
        }
        if len(val_images):
            logits = predict(model, val_images)
            row["val_loss"], row["val_accuracy"] = cross_entropy(logits, val_labels), accuracy(logits, val_labels)
        # The last step was checked by none after it: does the model that it made still work?
        loss = row["val_loss"] if len(val_images) else cross_entropy(predict(model, images[index]), target)
        if not math.isfinite(loss):
            raise _diverged("after", step, loss, config)
        yield row


def _check_finite(logits: Tensor, labels: Tensor, first_step: int, config: TrainConfig) -> None:
    losses = F.cross_entropy(logits, labels, reduction="none")
    bad = (~losses.isfinite()).nonzero()
    if len(bad):
        step = first_step + int(bad[0]) // config.batch_size
        raise _diverged("of", step + 1, losses[bad[0]].item(), config)


def _diverged(when: str, step: int, loss: float, config: TrainConfig) -> PipelineError:
    return PipelineError(
        f"training diverged: the loss {when} step {step} is {loss}; train.lr is {config.lr:g}: set it lower", status=1
    )
