"""Does the pipeline of HEAD, run again from nothing, give the results that HEAD holds? `make verify` asks.

In a temporary clone every stage runs, whatever is cached; only the downloaded data and this environment are shared.
The exit status is 0 if every output has the same bytes ("identical to the bit"), or if a second run gives the same
bytes as the first and so the difference lies in the processor ("equivalent"): the data must then be exact, mean and
standard deviation agree to 1e-12, and every other metric lie within 4 of the standard deviations over seeds that
tests/spread.csv holds. It is 1 if the results are not those of HEAD or not deterministic, or if DVC's cache is damaged,
2 in a dirty tree.
"""

import csv
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

DATA = Path("data/mnist")
CACHE = Path(".dvc/cache/files/md5")
SPREAD = Path("tests/spread.csv")
DEVIATIONS = 4
STATS_TOLERANCE = 1e-12


class Result(NamedTuple):
    """What a stage left: the hash of each output by its path, and the values in its metrics files."""

    hashes: dict[str, str]
    metrics: dict[str, float]


Results = dict[str, Result]


def main() -> int:
    """Print a table of the stages and a verdict; return the exit status."""
    if dirty := _git("status", "--porcelain"):
        paths = ", ".join(line[3:] for line in dirty.splitlines())
        print(f"error: only what is committed can be verified: commit or stash {paths}", file=sys.stderr)
        return 2
    if damaged := _damaged(CACHE):
        print(
            f"error: DVC's cache is damaged, and DVC won't notice: remove {', '.join(damaged)}, "
            "the folders data and models, and run dvc repro",
            file=sys.stderr,
        )
        return 1
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "project")
        _git("clone", "--quiet", ".", str(clone))
        recorded = _results(clone)
        first, ran = _repro(clone)
        _print_table(recorded, first, ran)
        if not any(_differing(recorded[stage], first[stage]) for stage in recorded):
            print("identical to the bit")
            return 0
        print("not identical: once more, to see whether two runs on this machine agree", flush=True)
        second, _ = _repro(clone)
    if unstable := [f"{stage}: {path}" for stage in first for path in _differing(first[stage], second[stage])]:
        print("not deterministic: two runs on this machine differ in", *unstable, sep="\n  ")
        return 1
    if wrong := _beyond_tolerance(recorded, first, _spread(SPREAD)):
        print("not equivalent: two runs on this machine agree, but not with what is recorded", *wrong, sep="\n  ")
        return 1
    print(
        "equivalent: two runs on this machine agree, and what is recorded came from another processor or library: the "
        f"data is exact, and no metric is further off than {DEVIATIONS} standard deviations over seeds"
    )
    return 0


def _damaged(cache: Path) -> list[str]:
    """Return the files in DVC's cache whose content is not what their name, its MD5 hash, says."""
    files = sorted(path for path in cache.glob("??/*") if path.is_file())
    return [
        str(path)
        for path in files
        if hashlib.md5(path.read_bytes()).hexdigest() != path.parent.name + path.name.removesuffix(".dir")
    ]


def _repro(clone: Path) -> tuple[Results, list[str]]:
    """Run every stage in `clone`; return the results and the stages that ran."""
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    if DATA.is_dir():
        env["MNIST_MIRROR"] = str(DATA.resolve())
    command, ran = ["dvc", "repro", "--force"], []
    with subprocess.Popen(command, cwd=clone, env=env, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            if line.startswith("Running stage '"):
                ran.append(line.split("'")[1])
    if process.returncode:
        sys.exit("error: the pipeline failed in the clone")
    return _results(clone), ran


def _results(root: Path) -> Results:
    stages, locked = _yaml(root / "dvc.yaml")["stages"], _yaml(root / "dvc.lock")["stages"]
    results = {}
    for name, stage in stages.items():
        hashes = {out["path"]: out["md5"] for out in locked.get(name, {}).get("outs", [])}
        entries = [entry for kind in ("metrics", "plots") for entry in stage.get(kind, []) if isinstance(entry, dict)]
        tracked = [path for entry in entries for path, options in entry.items() if options.get("cache") is False]
        # Of what Git tracks, both count: the hash in dvc.lock and the file.
        hashes |= {
            path: f"{hashes.get(path)} {hashlib.md5((root / path).read_bytes()).hexdigest()}" for path in tracked
        }
        metrics = [json.loads((root / path).read_text()) for path in tracked if path.endswith(".json")]
        results[name] = Result(hashes, {key: value for content in metrics for key, value in _flat(content)})
    return results


def _flat(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _differing(a: Result, b: Result) -> list[str]:
    return [path for path in sorted(a.hashes | b.hashes) if a.hashes.get(path) != b.hashes.get(path)]


def _difference(a: Result, b: Result, metric: str) -> float:
    return abs(a.metrics[metric] - b.metrics[metric]) if metric in a.metrics and metric in b.metrics else math.inf


def _print_table(recorded: Results, found: Results, ran: list[str]) -> None:
    print(f"{'stage':10}{'ran':5}{'same bytes':12}largest difference in its metrics")
    for stage, before in recorded.items():
        after, most = found[stage], ""
        if metrics := sorted(before.metrics | after.metrics):
            metric = max(metrics, key=lambda name: _difference(before, after, name))
            if difference := _difference(before, after, metric):
                most = f"{difference:.2g} in {metric}: {before.metrics.get(metric)} -> {after.metrics.get(metric)}"
            else:
                most = "none"
        same = "no" if _differing(before, after) else "yes"
        print(f"{stage:10}{'yes' if stage in ran else 'no':5}{same:12}{most}".rstrip())


def _beyond_tolerance(recorded: Results, found: Results, spread: dict[str, float]) -> list[str]:
    wrong = [f"download: {path} is other data" for path in _differing(recorded["download"], found["download"])]
    for stage, before in recorded.items():
        after = found[stage]
        for metric in sorted(before.metrics | after.metrics):
            tolerance = STATS_TOLERANCE if stage == "stats" else DEVIATIONS * spread.get(f"{stage}.{metric}", 0.0)
            if _difference(before, after, metric) > tolerance:
                values = f"{before.metrics.get(metric)} is recorded, {after.metrics.get(metric)} was found"
                wrong.append(f"{stage}: {metric}: {values}, {tolerance:.2g} apart is allowed")
    return wrong


def _spread(path: Path) -> dict[str, float]:
    with path.open(newline="") as file:
        return {row["metric"]: float(row["std"]) for row in csv.DictReader(file)}


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def _yaml(path: Path) -> dict[str, Any]:
    return YAML(typ="safe").load(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
