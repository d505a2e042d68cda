"""How fast is training, and compared with what? `make bench` prints it, all from one run on one machine.

One yardstick is the loop of PyTorch tutorials: torchvision's data set, each image through PIL, ToTensor and Normalize,
a DataLoader, one batch at a time. Another is the plain loop that one would write next: the images are one tensor,
standardised beforehand, and the network is an nn.Sequential. Their mathematics and ours are the same here: LeNet-5,
batches of 64, SGD with a learning rate of 0.01 and a momentum of 0.5, no augmentation (tests/test_training.py compares
the losses). Each instruction set has a process of its own, because libraries choose it when they are loaded.

`python -m tools.bench FILE` also writes what it prints as a CSV.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from lenet import arithmetic
from lenet.errors import PipelineError, run
from lenet.metrics import accuracy
from lenet.model import predict
from lenet.provenance import machine
from tools import pipeline
from tools.bench.common import (
    DATA,
    EPOCHS_TO_TARGET,
    MEAN,
    REPEATS,
    STD,
    TARGET,
    Table,
    ours,
    prepare_for,
    pytorchs_threads,
    recipe,
    restart,
    tensors,
)
from tools.bench.loops import (
    C5Convolution,
    Nchw,
    our_epoch,
    plain_epoch,
    shared_epoch,
    tutorial_epoch,
    tutorial_loader,
    tutorial_model,
    tutorial_steps,
    unfused_epoch,
)
from tools.recipes import NO_DISTORTIONS, TUTORIAL

RATE = "rate"
TUTORIAL_EPOCHS = 6  # at most, on the way to TARGET
# Multiplications and additions for one image, forward: 2 · outputs · inputs of each.
FLOPS = {
    "C1": 2 * (6 * 28 * 28) * (1 * 5 * 5),
    "C3": 2 * (16 * 10 * 10) * (6 * 5 * 5),
    "C5": 2 * 120 * (16 * 5 * 5),
    "F6": 2 * 84 * 120,
    "F7": 2 * 10 * 84,
}
# Backward costs each layer as much again for its weights and once more for its input, which C1 does not need.
STEP_FLOPS = 3 * sum(FLOPS.values()) - FLOPS["C1"]

# What a stage waits for before it computes: what runs before, and what is timed.
STARTS = {
    "PyTorch": ("pass", "import torch"),
    "PyTorch's compiler, by its first optimiser": ("import torch", "torch.optim.SGD([torch.zeros(1)])"),
    "pandas": ("import torch", "import pandas"),
    "pydantic": ("import torch", "import pydantic"),
}


def epochs() -> dict[str, list[float]]:
    """Return the seconds of an epoch of 60,000 images in each way, measured in turn; and the rate of matrix products.

    That rate (GFLOP/s, 2048×2048 in float32) is the limit of what the processor can do.
    """
    images, labels = tensors("train")
    standardised = (images / 255 - MEAN) / STD
    tutorial = recipe(**TUTORIAL)
    distorted = recipe(**{name: value for name, value in TUTORIAL.items() if name not in NO_DISTORTIONS})

    ways: dict[str, Callable[[], None]] = {
        "the tutorial's loop": lambda: tutorial_epoch(workers=0),
        "the tutorial's loop, 4 workers": lambda: tutorial_epoch(workers=4),
        "a plain loop": lambda: plain_epoch(standardised, labels, torch.contiguous_format),
        "a plain loop, channels_last": lambda: plain_epoch(standardised, labels, torch.channels_last),
        "ours": lambda: our_epoch(images, labels, tutorial),
        "ours without channels_last": lambda: our_epoch(images, labels, tutorial, Nchw),
        "ours without C5 as a product": lambda: our_epoch(images, labels, tutorial, C5Convolution),
        "ours on PyTorch's threads": lambda: shared_epoch(images, labels, tutorial),
        "ours without the fused optimiser": lambda: unfused_epoch(images, labels, tutorial),
        "ours with distortions": lambda: our_epoch(images, labels, distorted),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, epoch in ways.items():
            torch.manual_seed(0)
            start = time.perf_counter()
            epoch()
            seconds[name].append(time.perf_counter() - start)
    a, b = torch.rand(2, 2048, 2048)
    rates = []
    with pytorchs_threads():
        for _ in range(4 * REPEATS):
            start = time.perf_counter()
            a @ b
            rates.append(2 * 2048**3 / (time.perf_counter() - start) / 1e9)
    return seconds | {RATE: rates}


def compare(table: Table) -> None:
    """Add an epoch in each way, and how near ours is to the processor's limit, with each instruction set there is."""
    instruction_sets = {"AVX2": arithmetic.environment()}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and " avx512f " in cpuinfo.read_text():
        instruction_sets["AVX-512"] = {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}
    for name, variables in instruction_sets.items():
        command = [sys.executable, "-m", "tools.bench", "--epochs"]
        found = json.loads(_printed(command, os.environ | variables))
        rates = found.pop(RATE)
        for way, seconds in found.items():
            table.add(f"epoch, {name}, {way}", "s", seconds)
        ours = [STEP_FLOPS * 60_000 / seconds / 1e9 for seconds in found["ours"]]
        table.add(f"rate, {name}, ours", "GFLOP/s", ours)
        table.add(f"rate, {name}, a matrix product, 2048×2048", "GFLOP/s", rates)


def until_target(name: str, device: str, seed: int) -> None:
    """Train until the test accuracy reaches TARGET, or give up; print the epochs and the accuracy.

    Here each has its own recipe: ours the default's for three epochs, the tutorial's loop the tutorial's settings.
    """
    if name == "ours":
        images, labels = (tensor.to(device) for tensor in tensors("t10k"))
        train_images, train_labels = (tensor.to(device) for tensor in tensors("train"))
        scores = []
        for model, _ in ours(
            train_images, train_labels, recipe(**{"train.epochs": EPOCHS_TO_TARGET, "train.seed": seed})
        ):
            scores.append(accuracy(predict(model, images), labels))
            if scores[-1] >= TARGET:
                break
    else:
        scores = tutorial_scores()
    print(len(scores), scores[-1])


@pytorchs_threads()
def tutorial_scores() -> list[float]:
    """Train as the tutorial does; return the test accuracy after each epoch, at most until TARGET."""
    torch.manual_seed(0)
    config, model = recipe(**TUTORIAL), tutorial_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=config.momentum)
    loader, test = tutorial_loader(train=True, workers=0), tutorial_loader(train=False, workers=0)
    scores: list[float] = []
    while len(scores) < TUTORIAL_EPOCHS and max(scores, default=0) < TARGET:
        tutorial_steps(model, optimizer, loader)
        with torch.no_grad():
            hits = [model(images).argmax(1) == labels for images, labels in test]
        scores.append(torch.cat(hits).double().mean().item())
    return scores


def processes(table: Table) -> None:
    """Measure whole processes: imports, training to TARGET on the test set, and each stage of the pipeline."""
    for name, (before, statement) in STARTS.items():
        script = f"import time; {before}; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
        table.add(f"start, {name}", "s", [float(_printed([sys.executable, "-c", script])) for _ in range(REPEATS)])
    for name in ("ours", "tutorial"):
        start = time.perf_counter()
        printed = _printed([sys.executable, "-m", "tools.bench", "--until-target", name])
        table.add(f"process of {name}", "s", [time.perf_counter() - start])
        epochs, score = map(float, printed.split())
        table.add(f"process of {name}, epochs", "", [epochs])
        table.add(f"process of {name}, test accuracy", "", [score])
    for stage in pipeline.read(Path()):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "stages", stage], check=True, stdout=subprocess.DEVNULL)
        table.add(f"stage {stage}", "s", [time.perf_counter() - start])


def _printed(command: list[str], env: dict[str, str] | None = None) -> str:
    return subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    """Measure everything, or train once until the target where this module calls itself to do so."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description="Measure the speed of training.")
    parser.add_argument("csv", nargs="?", type=Path, help="a file for the table")
    parser.add_argument("--until-target", choices=["ours", "tutorial"], help=argparse.SUPPRESS)
    parser.add_argument("--epochs", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not DATA.is_dir():
        raise PipelineError(f"there is no {DATA}: run dvc repro first")
    warnings.filterwarnings("ignore", message="This DataLoader will create 4 worker processes")
    device = prepare_for(options.device)
    if options.until_target:
        until_target(options.until_target, options.device, options.seed)
        return
    if options.epochs:
        print(json.dumps(epochs()))
        return
    table = Table(machine(device))
    compare(table)
    processes(table)
    table.show(options.csv)


if __name__ == "__main__":
    restart()
    run(main)
