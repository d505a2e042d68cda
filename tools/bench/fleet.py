"""What does a sweep cost besides its stages? `python -m tools.bench.fleet FILE` prints it, and writes a CSV.

For 10, 100 and 1,000 experiments, in which the stand-in of the tests takes the place of each stage: queueing them,
running them on a worker of two cores, with Git and DVC remotes in folders, and then showing and comparing them. All of
it happens on this machine, in a temporary folder. It takes some forty minutes on two cores. What FILE holds of other
numbers of experiments stays there.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from lenet.errors import run
from lenet.provenance import machine
from tools import pipeline
from tools.bench.common import Table, prepare_for

COUNTS = (10, 100, 1000)
PORT = 18786
CORES = 2


class Sweep:
    """A project of stand-ins in `folder`, with both remotes, a scheduler and a worker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.env = os.environ | {"HOME": str(folder), "PATH": path}
        self.started: list[subprocess.Popen[bytes]] = []
        self.mine = self.clone(Path.cwd(), "mine")
        for key, value in (("user.name", "Bench"), ("user.email", "bench@example.com")):
            self.run("git", "config", "--global", key, value)
        for stage in pipeline.read(self.mine):
            shutil.copy("tests/standin.py", self.mine / f"stages/{stage}.py")
        self.run("dvc", "repro", "--quiet")
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", "Stand-ins")
        self.run("git", "clone", "--quiet", "--bare", ".", folder / "origin")
        self.run("git", "remote", "set-url", "origin", folder / "origin")
        self.run("dvc", "push", "--quiet")
        theirs = self.clone(folder / "origin", "theirs")
        self.start(self.mine, "scheduler", "--port", str(PORT))
        self.start(theirs, "worker", f"tcp://127.0.0.1:{PORT}", "--cores", str(CORES))

    def clone(self, source: Path, name: str) -> Path:
        """Clone `source`, and give the clone a DVC remote."""
        clone = self.folder / name
        subprocess.run(["git", "clone", "--quiet", source, clone], env=self.env, check=True)
        command = ["dvc", "remote", "add", "--quiet", "--local", "--default", "storage", str(self.folder / "storage")]
        subprocess.run(command, cwd=clone, env=self.env, check=True)
        return clone

    def run(self, *command: str | Path) -> tuple[float, float]:
        """Run `command` in the submitter's clone; return its seconds, and its seconds of CPU."""
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, cwd=self.mine, env=self.env, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return time.perf_counter() - start, cpu

    def start(self, clone: Path, *words: str) -> None:
        """Start a part of the fleet in `clone`."""
        command = [sys.executable, "-m", "tools.fleet", *words]
        self.started.append(subprocess.Popen(command, cwd=clone, env=self.env, stdout=subprocess.DEVNULL))

    def stop(self) -> float:
        """Stop all parts; return the CPU seconds of all that the worker and the scheduler have run."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        for process in reversed(self.started):
            process.terminate()
            process.wait()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def experiments(self) -> int:
        """Return how many experiments have results in the submitter's clone."""
        command = ["git", "for-each-ref", "--format=%(refname)", "refs/exps/??/*/*"]
        listed = subprocess.run(command, cwd=self.mine, env=self.env, check=True, stdout=subprocess.PIPE, text=True)
        return len(listed.stdout.split())

    def git_size(self) -> int:
        """Return the bytes that Git keeps in the remote, packed."""
        subprocess.run(["git", "gc", "--quiet"], cwd=self.folder / "origin", env=self.env, check=True)
        return sum(path.stat().st_size for path in (self.folder / "origin").rglob("*") if path.is_file())


def measure(table: Table, count: int) -> None:
    """Add what `count` experiments cost."""
    with tempfile.TemporaryDirectory() as folder:
        sweep = Sweep(Path(folder))
        try:
            size = sweep.git_size()
            seeds = f"train.seed=range(1,{count + 1})"
            queue, _ = sweep.run("dvc", "exp", "run", "--queue", "-S", "compute.threads=1", "-S", seeds, "evaluate")
            fleet, cpu = sweep.run(sys.executable, "-m", "tools.fleet", "run", f"tcp://127.0.0.1:{PORT}")
            cpu += sweep.stop()
            show, _ = sweep.run("dvc", "exp", "show", "--json")
            again, _ = sweep.run("dvc", "exp", "show", "--json")
            compare, _ = sweep.run(sys.executable, "-m", "tools.compare", "train.number")
            git = sweep.git_size() - size
        finally:
            sweep.stop()
    for name, unit, value in (
        ("queueing", "s", queue),
        (f"running and pushing, {CORES} at a time", "s", fleet),
        ("CPU of submitter, worker and scheduler, each experiment", "s", cpu / count),
        ("the first dvc exp show", "s", show),
        ("the next dvc exp show", "s", again),
        ("tools.compare", "s", compare),
        ("Git, each experiment", "kB", git / count / 1000),
    ):
        table.add(f"{count} experiments: {name}", unit, [value])


def alone(table: Table) -> None:
    """Add what this machine alone takes for a sweep, with the fleet and with DVC's own workers."""
    with tempfile.TemporaryDirectory() as folder:
        sweep = Sweep(Path(folder))
        try:
            for first, name in ((1, "python -m tools.fleet run"), (101, f"dvc queue start -j {CORES}")):
                seeds = f"train.seed=range({first},{first + COUNTS[0]})"
                sweep.run("dvc", "exp", "run", "--queue", "-S", "compute.threads=1", "-S", seeds, "evaluate")
                there = sweep.experiments()
                start = time.perf_counter()
                sweep.run(*(word if word != "python" else sys.executable for word in name.split()))
                while sweep.experiments() < there + COUNTS[0]:  # DVC's workers run in the background
                    time.sleep(0.2)
                table.add(f"{COUNTS[0]} experiments: without remotes, by {name}", "s", [time.perf_counter() - start])
        finally:
            sweep.stop()


def main() -> None:
    """Measure sweeps of several sizes."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.fleet", description="Measure what a sweep costs.")
    parser.add_argument("csv", nargs="?", type=Path, help="a file for the table")
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="how many experiments")
    options = parser.parse_args()
    table = Table(machine(prepare_for("cpu")))
    if options.csv and options.csv.exists():
        again = tuple(f"{count} experiments: " for count in options.counts)
        rows = pd.read_csv(options.csv)[["measured", "unit", "n", "median", "lowest", "highest"]]
        table.rows = rows[~rows["measured"].str.startswith(again)].to_dict("records")
    if COUNTS[0] in options.counts:
        alone(table)
    for count in options.counts:
        measure(table, count)
        table.show(options.csv)


if __name__ == "__main__":
    run(main)
