"""Training: the learning rate schedule and the training loop; the step itself is in lenet/steps.py."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import repeat
from typing import Annotated, Any, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import Field, model_validator
from torch import Tensor, nn

from lenet.augment import AugmentConfig, random_warps
from lenet.config import Config
from lenet.cuda_graph import CapturedSteps
from lenet.data.dataset import CLASSES
from lenet.errors import PipelineError
from lenet.metrics import accuracy, cross_entropy, temperature
from lenet.model import LeNet5, predict
from lenet.numerics import fingerprint, fixed_images, same_twice
from lenet.optimizers import Optimizer
from lenet.steps import Steps

# step(lr, index, warps) trains on the images at `index`, distorted by `warps`; returns their logits before the update.
Step = Callable[[Any, Tensor, Tensor | None], Tensor]


class TrainConfig(Config):
    """The section `train` of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    epochs: Annotated[int, Field(ge=1, le=1000)]
    batch_size: Annotated[int, Field(ge=1, le=60_000)]
    optimizer: Literal["sgd", "adam", "adamw", "adagrad", "rmsprop"]
    init: Literal["kaiming", "pytorch"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    lr: Annotated[float, Field(gt=0, le=100)]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    schedule: Literal["constant", "linear", "cosine"]
    warmup: Annotated[float, Field(ge=0, le=1)]
    augment: AugmentConfig

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.momentum and self.optimizer not in ("sgd", "rmsprop"):
            raise ValueError(
                f"train.momentum is {self.momentum:g}, but train.optimizer is {self.optimizer}, which uses none: "
                "set train.momentum to 0, or train.optimizer to sgd or rmsprop"
            )
        return self


class Epoch(NamedTuple):
    """The learning curves' values after an epoch.

    `epoch` counts from 1; `lr` is the learning rate of its last step. `train_loss` and `train_accuracy` are means over
    the epoch's distorted images, each scored just before the step that trains on it. `val_loss` and `val_accuracy` are
    computed after the epoch; they are None without validation images. Losses are mean cross-entropies in nats.
    """

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None


def lr_factor(step: int, steps: int, config: TrainConfig) -> float:
    """Return the factor by which the schedule multiplies `lr` in step `step`, from 0 to `steps` - 1.

    It rises linearly to 1 over the first `warmup` of the steps (a fraction). Then it stays at 1 (constant), or decays
    along a straight line (linear) or half a cosine (cosine) that reaches 0 one step after the last.
    """
    warmup_steps = config.warmup * steps
    if step < warmup_steps:
        return min(1.0, (step + 1) / warmup_steps)
    left = (steps - step) / (steps - warmup_steps)
    return {"constant": 1.0, "linear": left, "cosine": (1 - math.cos(math.pi * left)) / 2}[config.schedule]


def new_step(model: nn.Module, images: Tensor, labels: Tensor, config: TrainConfig, threads: int = 1) -> Step:
    """Return a callable that trains `model` in place, one step per call, using CUDA graphs on a GPU."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = Optimizer(weights, config.optimizer, config.momentum, config.weight_decay)
    threads = 1 if threads > 1 and state_changes(model, images) else threads
    steps = Steps(model, optimizer, images, labels, config.label_smoothing, threads)
    return CapturedSteps(steps) if images.is_cuda else steps


def fit(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    val_images: Tensor,
    val_labels: Tensor,
    config: TrainConfig,
    threads: int = 1,
) -> Iterator[Epoch]:
    """Train `model` in place on `images` (uint8 N×1×28×28) and `labels` (int64 N); yield an `Epoch` after each epoch.

    All tensors are on one device, and nothing is copied from or to a GPU within an epoch. Random numbers are drawn on
    the CPU, so that a seed gives the same numbers on every device. The last bits depend on `threads` (on a CPU); one
    thread is used if `state_changes`. Raises PipelineError if a batch is larger than the training set, or (status 1)
    after an epoch with a non-finite loss.
    """
    size = config.batch_size
    _check_batch_size(size, len(images))
    epoch_steps = math.ceil(len(images) / size)
    total_steps = config.epochs * epoch_steps
    lrs = [config.lr * lr_factor(step, total_steps, config) for step in range(total_steps)]
    lrs_on_device = torch.tensor(lrs, device=images.device) if images.is_cuda else lrs
    model.train()
    train_step = new_step(model, images, labels, config, threads)
    generator = torch.Generator().manual_seed(config.seed)
    sample = _sample(images, config, generator)
    for epoch in range(config.epochs):
        first, end = epoch * epoch_steps, (epoch + 1) * epoch_steps
        order, *warps = (tensor.to(images.device) for tensor in sample)
        logits = _train_epoch(train_step, lrs_on_device[first:end], size, order, *warps)
        sample = _sample(images, config, generator)  # while a GPU is still computing
        _check_finite(logits, labels[order], first, config)
        train = cross_entropy(logits, labels[order]), accuracy(logits, labels[order])
        # Each step's loss was computed before its update, so also check the model after the last step.
        last_batch = order[(epoch_steps - 1) * size :]
        checked = (val_images, val_labels) if len(val_images) else (images[last_batch], labels[last_batch])
        loss, score = _evaluate(model, *checked, threads)
        if not math.isfinite(loss):
            raise _diverged("after", end, loss, config)
        val = (loss, score) if len(val_images) else (None, None)
        yield Epoch(epoch + 1, lrs[end - 1], *train, *val)


def _check_batch_size(size: int, n: int) -> None:
    if size > n:
        raise PipelineError(
            f"train.batch_size is {size}, but training has {n} images: set it to {n} or less, or raise split.folds"
        )


def _sample(images: Tensor, config: TrainConfig, generator: torch.Generator) -> list[Tensor]:
    """Draw the random numbers of an epoch, on the CPU: the order of the images and, if there are any, their warps."""
    n, size = len(images), images.shape[-1]
    order = torch.randperm(n, generator=generator)
    return [order, *([random_warps(n, size, config.augment, generator)] if config.augment.enabled else [])]


def _train_epoch(
    train_step: Step, lrs: Sequence[float] | Tensor, batch_size: int, order: Tensor, warps: Tensor | None = None
) -> Tensor:
    """Take a step with each of `lrs`; return the logits of each image before the step that trains on it, in `order`."""
    logits = torch.empty(len(order), len(CLASSES), device=order.device)
    batches = zip(
        *(lrs, order.split(batch_size), repeat(None) if warps is None else warps.split(batch_size)),
        logits.split(batch_size),
        strict=False,
    )
    for lr, index, warp, place in batches:
        try:
            place.copy_(train_step(lr, index, warp))
        except ValueError as error:  # batch normalisation, for one, may need more than one image
            if len(index) > 1:
                raise
            raise PipelineError(
                f"the model can't train on a batch of one image ({error}): with train.batch_size {batch_size}, one of "
                f"{len(order)} images is left over"
            ) from None
    return logits


def _evaluate(model: nn.Module, images: Tensor, labels: Tensor, threads: int) -> tuple[float, float]:
    """Return the loss and the accuracy of `model`."""
    logits = predict(model, images, threads)
    return cross_entropy(logits, labels), accuracy(logits, labels)


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


def calibrate(model: LeNet5, images: Tensor, labels: Tensor, threads: int = 1) -> float:
    """Divide the logits of `model` by the temperature that is best for these images; return it.

    It undoes what label smoothing does to the confidences: no prediction changes, and none has to be undone elsewhere.
    """
    best = temperature(predict(model, images, threads), labels)
    model.divide_logits(best)
    return best


def state_changes(model: nn.Module, images: Tensor) -> str:
    """Return what the forward pass of `model` in training does besides computing logits, or "" if nothing.

    If it draws random numbers (dropout) or changes buffers (batch normalisation), parts of a batch can't be computed
    side by side: which of them comes first would change the result. `images` (uint8 N×1×28×28) has two or more.
    """
    trial = copy.deepcopy(model).train()
    before = [buffer.clone() for buffer in trial.buffers()]
    with torch.random.fork_rng([images.device] if images.is_cuda else []), torch.no_grad():
        generator = torch.cuda.get_rng_state if images.is_cuda else torch.get_rng_state
        state = generator()
        trial(images[:2])
        if not torch.equal(state, generator()):
            return "draws random numbers"
    changed = any(not torch.equal(*pair) for pair in zip(before, trial.buffers(), strict=True))
    return "changes its buffers" if changed else ""


def fingerprint_of_training(config: TrainConfig, device: torch.device, threads: int = 1) -> str:
    """Return the fingerprint of training on `device`: of two steps with `config`, but seed 0, on fixed images.

    So a record of another seed has the same fingerprint, but other bytes, and is found out. Raises PipelineError
    (status 1) if two such trainings differ.
    """
    config = config.model_copy(update={"seed": 0, "epochs": 1})

    def once() -> str:
        images, labels = fixed_images(2 * config.batch_size, device)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(0)
            model = LeNet5(0.1307, 0.3081, config.init).to(device)
            with suppress(PipelineError):  # a learning rate that is too high for noise may be right for digits
                list(fit(model, images, labels, images[:0], labels[:0], config, threads))
        if config.label_smoothing:
            calibrate(model, images, labels, threads)
        return fingerprint(model.state_dict().values())

    return same_twice(once, f"training with compute.threads {threads}")
