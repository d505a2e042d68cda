"""How does training share the processor with others? `python -m tools.bench.busy FILE` prints it, and writes a CSV.

An epoch of 60,000 images by the default's recipe, in two threads: ours, each with a part of each batch, and PyTorch's,
which share each operation. Beside it run processes that do nothing but keep a core busy, more and more of them; and
then another such training.
"""

import argparse
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from lenet.errors import run
from lenet.provenance import machine
from tools.bench.common import Table, prepare_for, recipe, restart, tensors
from tools.bench.loops import our_epoch, shared_epoch

WAYS = ("ours", "PyTorch's threads")
COMPETITORS = (0, 1, 2, 4)
REPEATS = 3
LIMIT = 30  # seconds for an epoch, which takes some 3 on an idle machine


def _spin() -> None:
    while True:
        pass


@contextmanager
def competitors(n: int) -> Iterator[None]:
    """Keep `n` processes busy, each with one thread."""
    processes = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(n)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def epoch(way: str) -> None:
    """Print the seconds that an epoch takes here and now."""
    images, labels = tensors("train")
    config = recipe(**{"train.epochs": 1})
    train = our_epoch if way == "ours" else shared_epoch
    train(images[:128], labels[:128], config)  # the first step waits for imports
    start = time.perf_counter()
    train(images, labels, config)
    print(time.perf_counter() - start)


def measure(way: str) -> float:
    """Return the seconds of an epoch, or infinity if that is more than the limit."""
    command = [sys.executable, "-m", "tools.bench.busy", "--epoch", way]
    try:
        done = subprocess.run(command, check=True, timeout=LIMIT, stdout=subprocess.PIPE, text=True)
    except subprocess.TimeoutExpired:
        return float("inf")
    return float(done.stdout)


def add(table: Table, beside: str, times: Callable[[str], list[float]]) -> None:
    """Measure all ways in turn by `times`, which returns seconds."""
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(REPEATS):
        for way in WAYS:
            found[way] += times(way)
    for way in WAYS:
        table.add(f"beside {beside}: {way}", "s", found[way])


def main() -> None:
    """Measure both ways in turn, on an idle machine and beside others."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.busy", description="Measure training beside others.")
    parser.add_argument("csv", nargs="?", type=Path, help="a file for the table")
    parser.add_argument("--epoch", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = prepare_for("cpu")
    if options.epoch:
        epoch(options.epoch)
        return
    table = Table(machine(device))
    for n in COMPETITORS:
        with competitors(n):
            add(table, f"{n} busy processes", lambda way: [measure(way)])
    with ThreadPoolExecutor(2) as both:
        add(table, "another such training", lambda way: list(both.map(measure, [way, way])))
    table.show(options.csv)


if __name__ == "__main__":
    restart()
    run(main)
