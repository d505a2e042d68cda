"""Training: batches of distorted images, an optimiser, a learning rate that rises and falls."""

import math
from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import Field, model_validator
from torch import Tensor, nn

from lenet.augment import AugmentConfig, distort, random_warps, warp_basis
from lenet.config import Config
from lenet.data.dataset import CLASSES
from lenet.errors import PipelineError
from lenet.metrics import accuracy, cross_entropy
from lenet.model import predict
from lenet.provenance import fingerprint, fixed_images, fixed_model


class TrainConfig(Config):
    """The section `train` of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    epochs: Annotated[int, Field(ge=1, le=1000)]
    batch_size: Annotated[int, Field(ge=1, le=60_000)]
    optimizer: Literal["sgd", "adam", "adamw", "adagrad", "rmsprop"]
    lr: Annotated[float, Field(gt=0, le=100)]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    nesterov: bool
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    schedule: Literal["constant", "linear", "cosine"]
    warmup: Annotated[float, Field(ge=0, le=1)]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    augment: AugmentConfig

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.momentum and self.optimizer not in ("sgd", "rmsprop"):
            raise ValueError(
                f"train.momentum is {self.momentum:g}, but train.optimizer is {self.optimizer}, which takes none: "
                "set train.momentum to 0, or train.optimizer to sgd or rmsprop"
            )
        if self.nesterov and not (self.optimizer == "sgd" and self.momentum):
            raise ValueError(
                f"train.nesterov is true, but train.optimizer is {self.optimizer} with a train.momentum of "
                f"{self.momentum:g}: set train.nesterov to false, or use sgd with a train.momentum above 0"
            )
        return self


class Epoch(NamedTuple):
    """What is known after an epoch, in the order of the columns of models/history.csv.

    `epoch` counts from 1, `lr` is the learning rate of its last step. `train_loss` and `train_accuracy` are means over
    the epoch's images, distorted as they were, each scored just before the step that learns from it. `val_loss` and
    `val_accuracy` are of the model as it is after the epoch; None where no image validates. Losses are mean
    cross-entropies in nats, without label smoothing, so that they can be compared.
    """

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None


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
    parameters, lr, decay = model.parameters(), config.lr, config.weight_decay
    match config.optimizer:
        case "sgd":
            return torch.optim.SGD(
                parameters, lr, config.momentum, weight_decay=decay, nesterov=config.nesterov, fused=True
            )
        case "adam":
            return torch.optim.Adam(parameters, lr, weight_decay=decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(parameters, lr, weight_decay=decay, fused=True)
        case "adagrad":
            return torch.optim.Adagrad(parameters, lr, weight_decay=decay)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, lr, weight_decay=decay, momentum=config.momentum)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Let the next step of `optimizer` have the learning rate `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def fit(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    val_images: Tensor,
    val_labels: Tensor,
    config: TrainConfig,
) -> Iterator[Epoch]:
    """Train `model` in place on `images` (uint8 N×1×28×28) and `labels` (int64 N); yield a row after each epoch.

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
    starts = range(0, n, batch_size)  # of the batches
    steps = config.epochs * len(starts)
    step = 0
    model.train()
    for epoch in range(1, config.epochs + 1):
        order = torch.randperm(n, generator=generator).to(images.device)
        targets = labels[order]
        warps = None
        if config.augment.enabled:
            warps = random_warps(n, size, config.augment, generator).to(images.device)
        logits = torch.empty(n, len(CLASSES), device=images.device)
        for start in starts:
            part = slice(start, start + batch_size)
            set_lr(optimizer, config.lr * lr_factor(step, steps, config))
            batch = images.index_select(0, order[part])  # images[order[part]] is slower
            if warps is not None:
                batch = distort(batch, warps[part], basis)
            scores = model(batch)
            optimizer.zero_grad()
            F.cross_entropy(scores, targets[part], label_smoothing=config.label_smoothing).backward()
            optimizer.step()
            logits[part] = scores.detach()
            step += 1
        _check_finite(logits, targets, step - len(starts), config)
        val_loss = val_accuracy = None
        if len(val_images):
            val_logits = predict(model, val_images)
            val_loss, val_accuracy = cross_entropy(val_logits, val_labels), accuracy(val_logits, val_labels)
        # The last step was checked by none after it: does the model that it made still work?
        last = slice(starts[-1], n)
        loss = val_loss if val_loss is not None else cross_entropy(predict(model, images[order[last]]), targets[last])
        if not math.isfinite(loss):
            raise _diverged("after", step, loss, config)
        lr = config.lr * lr_factor(step - 1, steps, config)
        yield Epoch(epoch, lr, cross_entropy(logits, targets), accuracy(logits, targets), val_loss, val_accuracy)


def fingerprint_of_training(config: TrainConfig, device: torch.device) -> str:
    """Return the fingerprint of a training on `device` in the batches of `config`: of two steps on fixed images.

    It depends on no other param that is set below: runs of another learning rate or seed can be compared.
    """
    distortions = {"rotation": 10, "shift": 2, "scale": 0.1, "shear": 0.1, "elastic": 0.3}
    fixed = {
        "seed": 0,
        "epochs": 1,
        "optimizer": "sgd",
        "lr": 0.1,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 0.001,
        "schedule": "linear",
        "warmup": 0.5,
        "label_smoothing": 0.1,
        "augment": config.augment.model_copy(update=distortions),
    }
    model = fixed_model(device)
    images, labels = fixed_images(2 * config.batch_size, device)
    list(fit(model, images, labels, images[:0], labels[:0], config.model_copy(update=fixed)))
    return fingerprint(model.state_dict().values())


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
