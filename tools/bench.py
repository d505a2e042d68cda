"""Measure the speed of training: on the processor, on a busy machine, or on a GPU.

    python -m tools.bench [cpu] [FILE.csv]    compared with other training loops, and whole processes; `make bench`
    python -m tools.bench busy [FILE.csv]     while other processes compete for the processor
    python -m tools.bench gpu [FILE.csv]      on a GPU, and how far its losses are from the CPU's; `make gpu`

Each prints a table, and writes it to FILE.csv if one is given.

On the processor, our training is compared with the loop of PyTorch's tutorials (torchvision's data set, each image
through PIL, ToTensor and Normalize, and a DataLoader), and with the plain loop one would write next: the images are one
tensor, standardised in advance, and the network is an nn.Sequential. All of them train the same network with the same
settings; tests/test_training.py compares the losses.

The measurements on a GPU don't need DVC, only data/mnist, PyTorch, and what lenet/ and stages/launch/ import.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from typing import Any, cast
from unittest import mock

import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd
from torch.utils.data import DataLoader

from lenet.compute import ComputeConfig, prepare
from lenet.data import folds
from lenet.metrics import accuracy
from lenet.model import LeNet5, predict
from lenet.numerics import machine
from lenet.training import Epoch, TrainConfig, fit
from stages.artifacts import mnist
from stages.launch import numerics, pipeline
from stages.launch.params import check
from tools.errors import ToolError, run
from tools.recipes import NO_DISTORTIONS, QUICK, TUTORIAL, changed

Row = tuple[str, str, list[float]]  # what was measured, its unit, and the values

MEAN, STD = 0.1307, 0.3081
THREADS = 2
REPEATS = 5
ROUNDS, SOME = 16, 12_000  # of the variants of our training, and the images on which each trains
BUSY_REPEATS = 3
LIMIT = 30  # seconds for an epoch on a busy machine; on an idle one it takes about 3
SEEDS = range(10)
QUICK_SEEDS = range(30)
PROCESSES = 5
COMPARED = 100  # steps whose losses are compared
TARGET = 0.99  # test accuracy
TUTORIAL_EPOCHS = 6  # the most that the tutorial's loop trains for
DISTORTED = {name: value for name, value in TUTORIAL.items() if name not in NO_DISTORTIONS}

# Multiplications and additions for one image, forward: 2 · outputs · inputs of each.
C1_FLOPS = 2 * (6 * 28 * 28) * (1 * 5 * 5)
FLOPS = C1_FLOPS + 2 * ((16 * 10 * 10) * (6 * 5 * 5) + 120 * (16 * 5 * 5) + 84 * 120 + 10 * 84)
# Backward costs each layer as much again for its weights and once more for its input, which C1 does not need.
STEP_FLOPS = 3 * FLOPS - C1_FLOPS

START = "import time; {}; start = time.perf_counter(); {}; print(time.perf_counter() - start)"
# Start-up costs of a stage: the code to run first, and the code to time.
STARTS = {
    "PyTorch": ("pass", "import torch"),
    "PyTorch's compiler, by its first optimiser": ("import torch", "torch.optim.SGD([torch.zeros(1)])"),
    "pandas": ("import torch", "import pandas"),
    "pydantic": ("import torch", "import pydantic"),
}


def section(kind: type[Any], name: str, changes: dict[str, Any]) -> Any:
    """Return the section `name` of params.yaml with `changes`, named as in `train.lr`."""
    return check(changed(pipeline.load(Path("params.yaml")), changes), {name: kind}, "params.yaml")[name]


def recipe(**changes: Any) -> TrainConfig:
    """Return the section `train` of params.yaml with `changes`."""
    return cast(TrainConfig, section(TrainConfig, "train", changes))


def prepare_for(device: str) -> torch.device:
    """Prepare to compute on `device`, and return it."""
    return prepare(section(ComputeConfig, "compute", {"compute.device": device, "compute.threads": THREADS}))


def tensors(part: str, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Return the images, uint8 N×1×28×28, and labels, int64 N, of `part` (train or t10k)."""
    images, labels = (torch.tensor(array, device=device) for array in mnist.read(part))
    return images.unsqueeze(1), labels.long()


def timed(function: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[float, Any]:
    """Return the seconds that a call of `function` takes, and its result.

    No synchronisation is needed on a GPU, because training ends with reading a loss, which waits for the GPU.
    """
    start = time.perf_counter()
    result = function(*arguments, **options)
    return time.perf_counter() - start, result


def output(*arguments: str, **options: Any) -> Any:
    """Return what Python prints with `arguments`."""
    return subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def in_process(function: str, *arguments: Any, **options: Any) -> Any:
    """Return what `function`, named as in this module, returns for `arguments` in a process of its own."""
    code = f"import json; from tools import bench; print(json.dumps(bench.{function}(*{arguments!r})))"
    return json.loads(output("-c", code, **options))


@contextmanager
def pytorchs_threads() -> Iterator[None]:
    """Let PyTorch share each operation between THREADS threads, as it does by default."""
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(1)


def ours(
    images: Tensor, labels: Tensor, config: TrainConfig, *val: Tensor, kind: Any = LeNet5, threads: int = THREADS
) -> Iterator[tuple[LeNet5, Epoch]]:
    """Train as the stage does, and validate with the images and labels `val`; yield model and row after each epoch."""
    torch.manual_seed(config.seed)
    model = kind(MEAN, STD, config.init).to(images.device)
    val_images, val_labels = val or (images[:0], labels[:0])
    for row in fit(model, images, labels, val_images, val_labels, config, threads):
        yield model, row


def train(*arguments: Any, **options: Any) -> tuple[LeNet5, Epoch]:
    """Train as `ours` does; return the model and the row of the last epoch."""
    return list(ours(*arguments, **options))[-1]


def train_shared(*arguments: Any) -> None:
    """Train on PyTorch's threads instead of ours."""
    with pytorchs_threads():
        train(*arguments, threads=1)


def train_unfused(*arguments: Any) -> None:
    """Train with an optimiser that makes a few passes over the weights, instead of one."""
    with mock.patch(
        "lenet.optimizers.sgd", lambda *args, fused, **options: cast(Any, sgd)(*args, foreach=False, **options)
    ):
        train(*arguments)


def contiguous(*arguments: Any) -> LeNet5:
    """Return our model in PyTorch's default (contiguous) memory format."""
    return LeNet5(*arguments).to(memory_format=torch.contiguous_format)


def c5_as_convolution(*arguments: Any) -> LeNet5:
    """Return our model with C5 computed as a convolution."""
    model = LeNet5(*arguments)
    model.C5.__class__ = nn.Conv2d
    return model


def relu_first(*arguments: Any) -> LeNet5:
    """Return our model with ReLU before pooling."""
    model = LeNet5(*arguments)
    for name in ("S2", "S4"):
        pool, relu = model.get_submodule(name), model.get_submodule(f"{name}_relu")
        model.set_submodule(name, relu)
        model.set_submodule(f"{name}_relu", pool)
    return model


def tutorial_model() -> nn.Sequential:
    """Return LeNet-5 as the tutorial builds it: standardised images to log-probabilities."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 120, 5), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(120, 84), nn.ReLU()),
        *(nn.Linear(84, 10), nn.LogSoftmax(1)),
    )


def tutorial_loader(train: bool) -> DataLoader[Any]:
    """Return MNIST as the tutorial reads it."""
    from torchvision import datasets, transforms  # only here: this import takes longer than all of ours

    datasets.MNIST.raw_folder = str(mnist.FOLDER)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))])
    digits = datasets.MNIST("", train=train, transform=transform)
    return DataLoader(digits, batch_size=64 if train else 1000, shuffle=train)


def tutorial_training(model: nn.Module, batches: Iterable[Any], epochs: int = 1) -> Iterator[nn.Module]:
    """Train as the tutorial does, on PyTorch's threads; yield the model after each epoch."""
    config = recipe(**TUTORIAL)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=config.momentum)
    with pytorchs_threads():
        for _ in range(epochs):
            for images, labels in batches:
                optimizer.zero_grad()
                nn.functional.nll_loss(model(images), labels).backward()
                optimizer.step()
            yield model


def tutorial_epoch() -> None:
    """Train a new network for an epoch, as the tutorial does."""
    list(tutorial_training(tutorial_model(), tutorial_loader(train=True)))


def plain_epoch(images: Tensor, labels: Tensor, layout: torch.memory_format) -> None:
    """Train a new network for an epoch on standardised `images` (float32 N×1×28×28), in the memory format `layout`."""
    batches = ((images[index], labels[index]) for index in torch.randperm(len(images)).split(64))
    list(tutorial_training(tutorial_model().to(memory_format=layout), batches))


def alternate(rounds: int, ways: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
    """Return the seconds that each of `ways` takes; they take turns, `rounds` times."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            torch.manual_seed(0)
            seconds[name].append(timed(way)[0])
    return seconds


def epochs(*only: str) -> dict[str, list[float]]:
    """Return the seconds of an epoch of 60,000 images in batches of 64, for each loop or `only` some."""
    prepare_for("cpu")
    images, labels = tensors("train")
    standardised = (images / 255 - MEAN) / STD
    tutorial, distorted = recipe(**TUTORIAL), recipe(**DISTORTED)
    ways: dict[str, Callable[[], Any]] = {
        "the tutorial's loop": tutorial_epoch,
        "a plain loop": lambda: plain_epoch(standardised, labels, torch.contiguous_format),
        "a plain loop, channels_last": lambda: plain_epoch(standardised, labels, torch.channels_last),
        "ours": lambda: train(images, labels, tutorial),
        "ours with distortions": lambda: train(images, labels, distorted),
    }
    return alternate(REPEATS, {name: way for name, way in ways.items() if name in (only or ways)})


def variants() -> dict[str, list[float]]:
    """Return the seconds of training on SOME images, as the default does and without each of what makes it fast."""
    prepare_for("cpu")
    images, labels = (tensor[:SOME] for tensor in tensors("train"))
    data = images, labels, recipe(**{"train.epochs": 1})
    return alternate(
        ROUNDS,
        {
            "ours": lambda: train(*data),
            "without channels_last": lambda: train(*data, kind=contiguous),
            "with C5 as a convolution": lambda: train(*data, kind=c5_as_convolution),
            "with ReLU before pooling": lambda: train(*data, kind=relu_first),
            "without the fused optimiser": lambda: train_unfused(*data),
            "on one thread": lambda: train(*data, threads=1),
            "on PyTorch's threads": lambda: train_shared(*data),
        },
    )


def product_rates() -> list[float]:
    """Return the rate of products of two 2048×2048 matrices in float32, in GFLOP/s: what the processor can reach."""
    prepare_for("cpu")
    a, b = torch.rand(2, 2048, 2048)
    with pytorchs_threads():
        return [2 * 2048**3 / timed(torch.mm, a, b)[0] / 1e9 for _ in range(4 * REPEATS)]


def scores(name: str, device: str = "cpu", seed: int = 0) -> list[float]:
    """Return the test accuracy after each epoch of `ours`, with the recipe QUICK, or of the tutorial's loop.

    Training stops after the first epoch that reaches TARGET.
    """
    prepare_for(device)
    torch.manual_seed(seed)
    test: Iterable[Any] = [tensors("t10k", device)] if name == "ours" else tutorial_loader(train=False)
    config = recipe(**QUICK, **{"train.seed": seed})
    models: Iterator[nn.Module] = (model for model, _ in ours(*tensors("train", device), config))
    if name != "ours":
        models = tutorial_training(tutorial_model(), tutorial_loader(train=True), TUTORIAL_EPOCHS)
    found = [0.0]
    while found[-1] < TARGET and (model := next(models, None)):
        found.append(fmean(accuracy(predict(model, images), labels) for images, labels in test))
    return found[1:]


def measure_cpu() -> Iterator[Row]:
    """Measure epochs with each instruction set, and whole processes: imports, training to TARGET, and each stage.

    Each instruction set has a process of its own, because libraries choose it when they are loaded.
    """
    instruction_sets: dict[str, tuple[dict[str, str], list[str]]] = {"AVX2": (numerics.environment(), [])}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and " avx512f " in cpuinfo.read_text():
        variables = {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}
        instruction_sets["AVX-512"] = variables, ["a plain loop, channels_last", "ours"]
    for name, (variables, only) in instruction_sets.items():
        found = in_process("epochs", *only, env=os.environ | variables)
        yield from ((f"epoch, {name}, {way}", "s", seconds) for way, seconds in found.items())
        yield f"rate, {name}, ours", "GFLOP/s", [STEP_FLOPS * 60_000 / seconds / 1e9 for seconds in found["ours"]]
        rates = in_process("product_rates", env=os.environ | variables)
        yield f"rate, {name}, a matrix product, 2048×2048", "GFLOP/s", rates
    ours, *others = in_process("variants").items()
    yield f"{SOME:,} images, the default", "s", ours[1]
    for way, seconds in others:
        yield f"likewise {way}, relative to it", "", [b / a for a, b in zip(ours[1], seconds, strict=True)]
    for name, (before, statement) in STARTS.items():
        yield f"start, {name}", "s", [float(output("-c", START.format(before, statement))) for _ in range(REPEATS)]
    for name in ("ours", "tutorial"):
        seconds, found = timed(in_process, "scores", name)
        yield f"process of {name}", "s", [seconds]
        yield f"process of {name}, epochs", "", [len(found)]
        yield f"process of {name}, test accuracy", "", [found[-1]]
    for stage in pipeline.read(Path()):
        yield f"stage {stage}", "s", [timed(output, "-m", "stages", stage)[0]]


def default_epoch(way: str) -> float:
    """Return the seconds of an epoch of 60,000 images with the default recipe, by `ours` or on PyTorch's threads."""
    prepare_for("cpu")
    images, labels = tensors("train")
    config, function = recipe(**{"train.epochs": 1}), train if way == "ours" else train_shared
    function(images[: config.batch_size], labels[: config.batch_size], config)  # the first step waits for imports
    return timed(function, images, labels, config)[0]


def seconds_within_limit(way: str) -> float:
    """Return the seconds of a default epoch in a process of its own, or infinity if the process exceeds LIMIT."""
    try:
        return cast(float, in_process("default_epoch", way, timeout=LIMIT))
    except subprocess.TimeoutExpired:
        return float("inf")


def measure_busy() -> Iterator[Row]:
    """Measure an epoch with our threads and with PyTorch's in turn, next to busy processes or a second training run."""
    for n, at_once in ((0, 1), (1, 1), (2, 1), (4, 1), (0, 2)):
        found: dict[str, list[float]] = {"ours": [], "PyTorch's threads": []}
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
        try:
            with ThreadPoolExecutor(at_once) as pool:
                for way in list(found) * BUSY_REPEATS:
                    found[way] += pool.map(seconds_within_limit, [way] * at_once)
        finally:
            for other in others:
                other.kill()
        beside = "another such training" if at_once == 2 else f"{n} busy processes"
        yield from ((f"beside {beside}: {way}", "s", seconds) for way, seconds in found.items())


def gpu_epochs(images: Tensor, labels: Tensor) -> Iterator[Row]:
    """Measure an epoch of 60,000 images in batches of 64, as on the processor."""
    tutorial, distorted = ((images, labels, recipe(**changes)) for changes in (TUTORIAL, DISTORTED))
    train(*tutorial)  # CUDA and its libraries are loaded when they are first used
    four = images, labels, recipe(**(TUTORIAL | {"train.epochs": 4}))
    for name, arguments in (("epoch", tutorial), ("epoch with distortions", distorted), ("four epochs", four)):
        yield name, "s", [timed(train, *arguments)[0] for _ in range(REPEATS)]
    with mock.patch("lenet.steps.find_spec", return_value=None):
        yield "epoch, PyTorch's kernels", "s", [timed(train, *tutorial)[0] for _ in range(REPEATS)]
        with mock.patch("lenet.training.CapturedSteps", lambda steps: steps):
            yield "epoch, PyTorch's kernels launched one by one", "s", [timed(train, *tutorial)[0]]
    if find_spec("jax"):
        first, *others = json.loads(output("-m", "tools.dev.jax_scan"))
        yield "epoch, JAX's compiled scan", "s", others
        yield "first epoch, JAX's compiled scan, with compilation", "s", [first]
        _, *ours = (timed(train, *tutorial)[0] for _ in range(REPEATS))
        yield "epoch, relative to JAX's compiled scan", "", [median(ours) / median(others)]
    torch.cuda.reset_peak_memory_stats()
    seconds, _ = timed(train, *distorted)
    yield "memory, epoch with distortions", "MiB", [torch.cuda.max_memory_reserved() / 2**20]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiled:
        train(*distorted)
    busy = sum(event.self_device_time_total for event in profiled.key_averages()) / 1e6
    yield "share of that epoch in which the GPU waits", "", [1 - busy / seconds]


def first_losses(device: str) -> list[float]:
    """Return the mean loss of each of the first batches of the default recipe, before the step on it."""
    config, losses = recipe(**{"train.epochs": 1}), []

    def record(logits: Tensor, labels: Tensor, *_: Any) -> None:
        each = nn.functional.cross_entropy(logits.double(), labels, reduction="none")
        losses.extend(each.view(COMPARED, -1).mean(1).tolist())

    # fit passes it the logits of an epoch's images in the order of the steps.
    with mock.patch("lenet.training._check_finite", record):
        train(*(tensor[: COMPARED * config.batch_size] for tensor in tensors("train", device)), config)
    return losses


def gpu_trainings(images: Tensor, labels: Tensor) -> Iterator[Row]:
    """Train with each seed: the default, as the stage does, and the recipe QUICK."""
    test_images, test_labels = tensors("t10k", "cuda")
    split = folds.split(len(images), section(folds.SplitConfig, "split", {}))
    fit_on, val = ((images[index], labels[index]) for index in map(torch.from_numpy, split))
    default = [timed(train, *fit_on, recipe(**{"train.seed": seed}), *val) for seed in SEEDS]
    yield "the default, training and validation", "s", [seconds for seconds, _ in default]
    yield "the default, validation accuracy", "", [cast(float, row.val_accuracy) for _, (_, row) in default]
    quick = [timed(train, images, labels, recipe(**QUICK, **{"train.seed": seed})) for seed in QUICK_SEEDS]
    scores = [accuracy(predict(model, test_images), test_labels) for _, (model, _) in quick]
    yield "the quick run, training", "s", [seconds for seconds, _ in quick]
    yield "the quick run, test accuracy", "", scores
    yield "the quick run, mean test accuracy", "", [fmean(scores)]


def measure_gpu() -> Iterator[Row]:
    """Measure epochs, losses against the CPU's, training runs, and processes from their start to TARGET."""
    images, labels = tensors("train", "cuda")
    yield from gpu_epochs(images, labels)
    off = [abs(gpu / cpu - 1) for cpu, gpu in zip(first_losses("cpu"), first_losses("cuda"), strict=True)]
    yield "loss of step 1, relative difference from the CPU's", "", off[:1]
    yield f"losses of steps 1 to {COMPARED}, likewise", "", off
    yield from gpu_trainings(images, labels)
    with TemporaryDirectory() as empty:
        cold = timed(in_process, "scores", "ours", "cuda", env=os.environ | {"TRITON_CACHE_DIR": empty})
    yield "process of the quick run, compiling its kernels", "s", [cold[0]]
    found = [timed(in_process, "scores", "ours", "cuda", seed) for seed in range(PROCESSES)]
    yield "process of the quick run", "s", [seconds for seconds, _ in found]
    yield "process of the quick run, test accuracy", "", [scores[-1] for _, scores in found]
    yield "start, PyTorch", "s", [float(output("-c", START.format("pass", "import torch"))) for _ in range(PROCESSES)]


PARTS = {"cpu": measure_cpu, "busy": measure_busy, "gpu": measure_gpu}


def main() -> None:
    """Measure what the command line names; print each row as soon as it is measured, and the table at the end."""
    parser = argparse.ArgumentParser("python -m tools.bench", description="Measure the speed of training.")
    words_help = "what to measure (default: cpu), and a file to write the table to"
    parser.add_argument("words", nargs="*", metavar="[{cpu,busy,gpu}] [FILE.csv]", help=words_help)
    words = parser.parse_args().words
    part = words.pop(0) if words and words[0] in PARTS else "cpu"
    if len(words) > 1 or not all(word.endswith(".csv") for word in words):
        raise ToolError(f"python -m tools.bench takes one of {', '.join(PARTS)} and a FILE.csv, not {words}")
    if not mnist.FOLDER.is_dir():
        raise ToolError(f"there is no {mnist.FOLDER}: run dvc repro first")
    # Without this, a process that measures would outlive a terminated command, and slow whatever comes next.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    facts = machine(prepare_for("cuda" if part == "gpu" else "cpu"))
    print(*facts.values(), sep=", ", file=sys.stderr)
    rows = []
    try:
        for name, unit, values in PARTS[part]():
            spread = {"n": len(values), "median": median(values), "lowest": min(values), "highest": max(values)}
            rows.append({"measured": name, "unit": unit, **spread})
            print(f"{name}: {median(values):.4g} {unit}", file=sys.stderr, flush=True)
    finally:
        print(pd.DataFrame(rows).to_markdown(index=False, tablefmt="simple", floatfmt=".4g"))
    for path in words:
        pd.DataFrame(rows).assign(**facts).to_csv(path, index=False, float_format="%.4g", lineterminator="\n")


def restart() -> None:
    """Start this command again if it was started without the variables of stages/launch/numerics.py.

    As in the stages, these variables determine the numerics, and so the speed, and must be set before Python starts.
    Variables that are already set, for example to another instruction set, are kept.
    """
    wanted = numerics.environment() | os.environ
    if os.environ != wanted:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)  # noqa: S606


if __name__ == "__main__":
    restart()
    run(main)
