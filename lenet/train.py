"""Training: batches of distorted images, an optimiser, a learning rate that rises and falls."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from lenet.augment import AugmentConfig, distort, random_maps
from lenet.config import Range
from lenet.errors import PipelineError
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
    cross-entropies in nats.

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
    optimizer = new_optimizer(model, config)
    steps_per_epoch = math.ceil(n / batch_size)
    model.train()
    for epoch in range(1, config.epochs + 1):
        order = torch.randperm(n, generator=generator).to(images.device)
        maps = random_maps(n, images.shape[-1], config.augment, generator).to(images.device)
        losses = torch.zeros(steps_per_epoch, device=images.device)
        hits = torch.zeros(steps_per_epoch, device=images.device)
        first_step = (epoch - 1) * steps_per_epoch
        for step, (index, batch_maps) in enumerate(zip(order.split(batch_size), maps.split(batch_size), strict=True)):
            lr = config.lr * lr_factor(first_step + step, config.epochs * steps_per_epoch, config)
            for group in optimizer.param_groups:
                group["lr"] = lr
            batch, target = images[index], labels[index]
            if config.augment.enabled:
                batch = distort(batch, batch_maps)
            logits = model(batch)
            loss = F.cross_entropy(logits, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[step] = loss.detach()
            hits[step] = (logits.argmax(1) == target).sum()
        _check_finite(losses, first_step, config)
        sizes = torch.full_like(losses, batch_size)
        sizes[-1] = n - batch_size * (steps_per_epoch - 1)
        row = {
            "epoch": epoch,
            "lr": lr,
            "train_loss": ((losses * sizes).double().sum() / n).item(),
            "train_accuracy": (hits.double().sum() / n).item(),
            "val_loss": None,
            "val_accuracy": None,
        }
        if len(val_images):
            logits = predict(model, val_images)
            row["val_loss"], row["val_accuracy"] = cross_entropy(logits, val_labels), accuracy(logits, val_labels)
        yield row


def _check_finite(losses: Tensor, first_step: int, config: TrainConfig) -> None:
    bad = (~losses.isfinite()).nonzero()
    if len(bad):
        step = first_step + int(bad[0])
        raise PipelineError(
            f"training diverged: the loss of step {step + 1} is {losses[bad[0]].item()}; "
            f"train.lr is {config.lr:g}: set it lower",
            status=1,
        )
