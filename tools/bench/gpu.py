"""How fast is training on a GPU, and does it compute there what it computes on the CPU? `make gpu` prints it.

`python -m tools.bench.gpu FILE` also writes what it prints as a CSV. It needs no DVC: only data/mnist, PyTorch, and
what lenet/ imports.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from lenet import training
from lenet.augment import random_warps
from lenet.errors import PipelineError, run
from lenet.metrics import accuracy
from lenet.model import predict
from lenet.provenance import fixed_model, machine
from lenet.training import STEPS, TrainConfig, lr_factor, new_steps
from tools.bench.common import (
    DATA,
    EPOCHS_TO_TARGET,
    REPEATS,
    Table,
    ours,
    parts,
    prepare_for,
    recipe,
    restart,
    tensors,
)
from tools.recipes import NO_DISTORTIONS, TUTORIAL

SEEDS = range(10)
COMPARED = 100  # steps


def seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return how long `function` and all that it starts on the GPU take, and what it returns."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    result = function()
    torch.cuda.synchronize()
    return time.perf_counter() - start, result


@contextmanager
def launched_one_by_one() -> Iterator[None]:
    """Let Python launch each kernel, instead of a CUDA graph ten steps."""
    with mock.patch.object(training, "CudaGraph", lambda function, *_: function):
        yield


def epochs(table: Table, images: Tensor, labels: Tensor) -> None:
    """Measure an epoch of 60,000 images in batches of 64, as tools.bench does on the CPU."""
    tutorial = recipe(**TUTORIAL)
    distorted = recipe(**{name: value for name, value in TUTORIAL.items() if name not in NO_DISTORTIONS})
    list(ours(images, labels, tutorial))  # CUDA and its libraries are loaded when they are first used
    for name, config in (("epoch", tutorial), ("epoch with distortions", distorted)):
        table.add(name, "s", [seconds(lambda c=config: list(ours(images, labels, c)))[0] for _ in range(REPEATS)])  # type: ignore[misc]
    with launched_one_by_one():
        table.add("epoch, kernels launched one by one", "s", [seconds(lambda: list(ours(images, labels, tutorial)))[0]])
    torch.cuda.reset_peak_memory_stats()
    wall, _ = seconds(lambda: list(ours(images, labels, distorted)))
    table.add("memory, epoch with distortions", "MiB", [torch.cuda.max_memory_reserved() / 2**20])
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        seconds(lambda: list(ours(images, labels, distorted)))
    busy = sum(event.self_device_time_total for event in profiled.key_averages()) / 1e6
    table.add("share of that epoch in which the GPU waits", "", [1 - busy / wall])


def trainings(table: Table, images: Tensor, labels: Tensor, test_images: Tensor, test_labels: Tensor) -> None:
    """Train with each seed: the default, as the stage does, and on all images until the target can be reached."""
    train, val = parts(images, labels)
    times, scores, short_times, short_scores = [], [], [], []
    for seed in SEEDS:
        config = recipe(**{"train.seed": seed})
        time_taken, rows = seconds(lambda c=config: list(ours(*train, c, val)))  # type: ignore[misc]
        times.append(time_taken)
        scores.append(rows[-1][1].val_accuracy)
        config = recipe(**{"train.seed": seed, "train.epochs": EPOCHS_TO_TARGET})
        time_taken, rows = seconds(lambda c=config: list(ours(images, labels, c)))  # type: ignore[misc]
        short_times.append(time_taken)
        short_scores.append(accuracy(predict(rows[-1][0], test_images), test_labels))
    table.add("the default, training and validation", "s", times)
    table.add("the default, validation accuracy", "", scores)
    table.add(f"{EPOCHS_TO_TARGET} epochs on 60,000 images, training", "s", short_times)
    table.add(f"{EPOCHS_TO_TARGET} epochs on 60,000 images, test accuracy", "", short_scores)


def losses(device: str, config: TrainConfig) -> Tensor:
    """Return the mean loss of the batch of each of the first steps, before the step."""
    images, labels = (tensor.to(device) for tensor in tensors("train"))
    generator = torch.Generator().manual_seed(config.seed)
    order = torch.randperm(len(images), generator=generator).to(device)
    warps = random_warps(len(images), images.shape[-1], config.augment, generator).to(device)
    rates = [config.lr * lr_factor(step, COMPARED, config) for step in range(COMPARED)]
    lrs = torch.tensor(rates, device=device) if device == "cuda" else rates
    take_steps = new_steps(fixed_model(torch.device(device)), images, labels, config)
    found = []
    for first in range(0, COMPARED, STEPS):
        part = slice(first * config.batch_size, (first + STEPS) * config.batch_size)
        logits = take_steps(lrs[first : first + STEPS], order[part], warps[part])
        each = F.cross_entropy(logits.double(), labels[order[part]], reduction="none")
        found.append(each.view(STEPS, config.batch_size).mean(1).cpu())
    return torch.cat(found)


def processes(table: Table) -> None:
    """Measure whole processes, imports and all, from their start to the target accuracy on the test set."""
    times, scores = [], []
    for seed in SEEDS:
        start = time.perf_counter()
        command = [sys.executable, "-m", "tools.bench", "--until-target", "ours", "--device", "cuda"]
        printed = subprocess.run([*command, "--seed", str(seed)], check=True, stdout=subprocess.PIPE, text=True).stdout
        times.append(time.perf_counter() - start)
        scores.append(float(printed.split()[1]))
    table.add("process, from its start to 99 %", "s", times)
    table.add("process, test accuracy", "", scores)


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.gpu", description="Measure training on a GPU.")
    parser.add_argument("csv", nargs="?", type=Path, help="a file for the table")
    options = parser.parse_args()
    if not DATA.is_dir():
        raise PipelineError(f"there is no {DATA}: run dvc repro first")
    device = prepare_for("cuda")
    print(*machine(device).values(), sep=", ", file=sys.stderr)
    images, labels, *test = (tensor.to(device) for split in ("train", "t10k") for tensor in tensors(split))
    table = Table(machine(device))
    try:
        epochs(table, images, labels)
        cpu, gpu = (losses(where, recipe()) for where in ("cpu", "cuda"))
        off = (gpu / cpu - 1).abs().tolist()
        table.add("loss of step 1, relative difference from the CPU's", "", off[:1])
        table.add(f"losses of steps 1 to {COMPARED}, likewise", "", off)
        trainings(table, images, labels, *test)
        processes(table)
    finally:
        table.show(options.csv)


if __name__ == "__main__":
    restart()
    run(main)
