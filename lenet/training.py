"""Training: batches of distorted images, an optimiser, a learning rate that rises and falls."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Annotated, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import Field, model_validator
from torch import Tensor, nn

from lenet.augment import AugmentConfig, coordinates, distort, random_warps
from lenet.config import Config
from lenet.cuda_graph import CudaGraph
from lenet.data.dataset import CLASSES
from lenet.errors import PipelineError
from lenet.metrics import accuracy, cross_entropy
from lenet.model import predict
from lenet.parallel import Threads
from lenet.provenance import fingerprint, fixed_images, fixed_model

# A GPU is given so many steps at a time.
STEPS = 10


class TrainConfig(Config):
    """The section `train` of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    epochs: Annotated[int, Field(ge=1, le=1000)]
    batch_size: Annotated[int, Field(ge=1, le=60_000)]
    optimizer: Literal["sgd", "adam", "adamw", "adagrad", "rmsprop"]
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
                f"train.momentum is {self.momentum:g}, but train.optimizer is {self.optimizer}, which takes none: "
                "set train.momentum to 0, or train.optimizer to sgd or rmsprop"
            )
        return self


class Epoch(NamedTuple):
    """What is known after an epoch, in the order of the columns of models/history.csv.

    `epoch` counts from 1, `lr` is the learning rate of its last step. `train_loss` and `train_accuracy` are means over
    the epoch's images, distorted as they were, each scored just before the step that learns from it. `val_loss` and
    `val_accuracy` are of the model as it is after the epoch; None where no image validates. Losses are mean
    cross-entropies in nats.
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
    parameters, lr, decay = list(model.parameters()), config.lr, config.weight_decay
    # On a GPU, all that a step changes lies there, the number of steps, too.
    capturable = parameters[0].is_cuda
    match config.optimizer:
        case "sgd":
            return torch.optim.SGD(parameters, lr, config.momentum, weight_decay=decay, fused=True)
        case "adam":
            return torch.optim.Adam(parameters, lr, weight_decay=decay, fused=True, capturable=capturable)
        case "adamw":
            return torch.optim.AdamW(parameters, lr, weight_decay=decay, fused=True, capturable=capturable)
        case "adagrad":
            return torch.optim.Adagrad(parameters, lr, weight_decay=decay)
        case "rmsprop":
            momentum = config.momentum
            return torch.optim.RMSprop(parameters, lr, weight_decay=decay, momentum=momentum, capturable=capturable)


def new_steps(
    model: nn.Module, images: Tensor, labels: Tensor, config: TrainConfig, threads: int = 1
) -> Callable[..., Tensor]:
    """Return the function that takes steps of training: (lrs, index, warps) to logits, float32 N×10.

    It takes a step with each of `lrs` (S numbers; on a GPU float32 S), on `batch_size` images at a time: those at
    `index` (int64 N) in `images`, distorted by `warps` (N×2×3; left out without distortions). It changes `model` in
    place. The logits are those before each step. On a processor, each of `threads` computes the gradient of a part of
    the batch. On a GPU the next call overwrites the logits, and S is STEPS, or as many as are left at the end of an
    epoch.
    """
    optimizer = new_optimizer(model, config)
    pixels = coordinates(images.shape[-1]).to(images.device)
    workers = Threads(threads, images.device)
    models = [model] + [_twin(model) for _ in range(workers.n - 1)]

    def differentiate(model: nn.Module, size: int, logits: Tensor, index: Tensor, *warps: Tensor) -> list[Tensor]:
        """Write the logits of a part of a batch of `size` images, and return what it adds to the batch's gradient."""
        batch = images[index]
        if warps:
            batch = distort(batch, warps[0], pixels)
        scores = model(batch)
        model.zero_grad()
        loss = F.cross_entropy(scores, labels[index])
        loss.backward(torch.full_like(loss, len(index) / size))
        logits.copy_(scores.detach())
        return [weight.grad for weight in model.parameters() if weight.grad is not None]

    def take(lrs: Sequence[float] | Tensor, index: Tensor, *warps: Tensor) -> Tensor:
        logits = torch.empty(len(index), len(CLASSES), device=index.device)
        batches = (tensor.split(config.batch_size) for tensor in (logits, index, *warps))
        for lr, *batch in zip(lrs, *batches, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = lr
            parts = (tensor.chunk(workers.n) for tensor in batch)
            gradient, *others = workers.map(differentiate, models, repeat(len(batch[0])), *parts)
            for other in others:
                for ours, theirs in zip(gradient, other, strict=True):
                    ours += theirs  # in place: it is that of `model`
            optimizer.step()
        return logits

    # PyTorch's Adagrad counts its steps on the CPU, where a graph can't.
    if not images.is_cuda or config.optimizer == "adagrad":
        return take
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    graphs, whole = {}, STEPS * config.batch_size
    for n in {min(whole, len(images)), len(images) % whole} - {0}:
        index = torch.arange(n, device=images.device)
        warps = [torch.zeros(n, 2, 3, device=images.device)] if config.augment.enabled else []
        lrs = torch.zeros(math.ceil(n / config.batch_size), device=images.device)
        graphs[n] = CudaGraph(take, lrs, index, *warps)
    model.load_state_dict(kept)
    for state in optimizer.state.values():  # all of it begins at 0
        for tensor in state.values():
            tensor.zero_()
    return lambda lrs, index, *warps: graphs[len(index)](lrs, index, *warps)


def _twin(model: nn.Module) -> nn.Module:
    """Return a copy of `model` with the same weights, also after they have changed, but gradients of its own."""
    twin = copy.deepcopy(model)
    twin.load_state_dict(model.state_dict(), assign=True)
    return twin


def fit(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    val_images: Tensor,
    val_labels: Tensor,
    config: TrainConfig,
    threads: int = 1,
) -> Iterator[Epoch]:
    """Train `model` in place on `images` (uint8 N×1×28×28) and `labels` (int64 N); yield a row after each epoch.

    Everything lies on one device, and nothing goes there or leaves it within an epoch, so that a GPU never waits for
    Python. All random numbers are drawn on the CPU: a seed means the same order and distortions on every device. A
    processor computes in so many `threads`; each number of them rounds differently.

    Raises PipelineError if a batch is larger than the training set, and (status 1) at the end of an epoch in which a
    loss was not finite.
    """
    n, batch_size, device = len(images), config.batch_size, images.device
    if batch_size > n:
        raise PipelineError(
            f"train.batch_size is {batch_size}, but only {n} images train: set it to {n} or less, or raise split.folds"
        )
    generator = torch.Generator().manual_seed(config.seed)
    starts = range(0, n, batch_size)  # of the batches
    steps = config.epochs * len(starts)
    lrs = [config.lr * lr_factor(step, steps, config) for step in range(steps)]
    rates = torch.tensor(lrs, device=device) if images.is_cuda else lrs
    model.train()
    take_steps = new_steps(model, images, labels, config, threads)
    drawn = _draw(images, config, generator)
    for epoch in range(1, config.epochs + 1):
        first = (epoch - 1) * len(starts)
        order, *warps = (tensor.to(device) for tensor in drawn)
        logits = _train_epoch(take_steps, rates[first : first + len(starts)], batch_size, order, *warps)
        if epoch < config.epochs:
            drawn = _draw(images, config, generator)  # while a GPU still computes
        targets = labels[order]
        _check_finite(logits, targets, first, config)
        val_loss = val_accuracy = None
        if len(val_images):
            val_logits = predict(model, val_images, threads)
            val_loss, val_accuracy = cross_entropy(val_logits, val_labels), accuracy(val_logits, val_labels)
        # The last step was checked by none after it: does the model that it made still work?
        last = slice(starts[-1], n)
        loss = val_loss if val_loss is not None else cross_entropy(predict(model, images[order[last]]), targets[last])
        step = first + len(starts)
        if not math.isfinite(loss):
            raise _diverged("after", step, loss, config)
        train = cross_entropy(logits, targets), accuracy(logits, targets)
        yield Epoch(epoch, lrs[step - 1], *train, val_loss, val_accuracy)


def _draw(images: Tensor, config: TrainConfig, generator: torch.Generator) -> list[Tensor]:
    """Draw on the CPU what is random in an epoch: the order of the images and, if there are any, the distortions."""
    n, size = len(images), images.shape[-1]
    order = torch.randperm(n, generator=generator)
    return [order, *([random_warps(n, size, config.augment, generator)] if config.augment.enabled else [])]


def _train_epoch(
    take_steps: Callable[..., Tensor], lrs: Sequence[float] | Tensor, batch_size: int, order: Tensor, *warps: Tensor
) -> Tensor:
    """Take a step with each of `lrs`, and return the logits of all images, in the order in which they were drawn."""
    logits = torch.empty(len(order), len(CLASSES), device=order.device)
    for first in range(0, len(lrs), STEPS):
        part = slice(first * batch_size, (first + STEPS) * batch_size)
        logits[part] = take_steps(lrs[first : first + STEPS], order[part], *(warp[part] for warp in warps))
    return logits


def fingerprint_of_training(config: TrainConfig, device: torch.device, threads: int = 1) -> str:
    """Return the fingerprint of a training on `device` in the batches of `config`: of two steps on fixed images.

    It depends on no other param that is set below: runs of another learning rate or seed can be compared.
    """
    distortions = {"rotation": 10, "shift": 2, "scale": 0.1, "shear": 0.1}
    fixed = {
        "seed": 0,
        "epochs": 1,
        "optimizer": "sgd",
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 0.001,
        "schedule": "linear",
        "warmup": 0.5,
        "augment": config.augment.model_copy(update=distortions),
    }
    model = fixed_model(device)
    images, labels = fixed_images(2 * config.batch_size, device)
    list(fit(model, images, labels, images[:0], labels[:0], config.model_copy(update=fixed), threads))
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
