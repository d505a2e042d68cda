"""Re-run HEAD from scratch and check that it reproduces the committed results: `make verify`.

Every stage runs in a temporary clone, whatever is cached; only the downloaded data and the installed packages are
shared. The exit status is

0  proven: every byte of every output was reproduced
3  plausible, not proven: HEAD was run with other numerics (lenet/numerics.py) than this machine's, so bytes can't be
   compared; everything that can be checked agrees
1  false: the record contains something that this code does not produce
2  not run: there are uncommitted changes, or the installed packages are not those of requirements.lock
"""

import argparse
import hashlib
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pandas as pd
from scipy import stats as statistics

from lenet.errors import PipelineError
from lenet.evaluation import EvaluateConfig, calibration_error, reliability
from stages.artifacts import history, mnist, model, predictions, tables
from stages.artifacts.files import parse_json
from stages.launch import packages, pipeline
from stages.launch.errors import run
from stages.launch.params import check
from tools import lock
from tools.git import git, git_bytes
from tools.recipes import matching

RESULTS = Path("docs/results.csv")
# The tolerance for rounding between different numerics: relative, or absolute for numbers below 1.
ROUNDING = 1e-5
# The probability that the bound over seeds raises a false alarm for any metric.
FALSE_ALARMS = 0.01
# The one stage that amplifies rounding: if the last bits differ, training ends with different weights.
TRAINING = "train"


@dataclass(frozen=True)
class Record:
    """The results in a clone: the hash of every output by its path, and the content of the metrics files."""

    hashes: dict[str, dict[str, str]]  # by stage
    metrics: dict[str, dict[str, Any]]  # by stage

    def numerics(self, stage: str) -> Any:
        """Return the fingerprint of the numerics that `stage` was run with, if it has one."""
        return self.metrics[stage].get("numerics")

    def fingerprints(self) -> str:
        """Return all fingerprints, to print them."""
        return ", ".join(str(*metrics["numerics"]) for metrics in self.metrics.values() if "numerics" in metrics)


def main() -> int:
    """Print a table of the stages and a verdict; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.verify", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep the clone there, with everything that the run wrote"
    )
    keep = parser.parse_args().keep
    _check_state()
    if keep and keep.exists():
        raise PipelineError(f"{keep} already exists: choose another folder for the clone")
    with tempfile.TemporaryDirectory() as folder:
        return _verify(_clone(keep or Path(folder, "project")), Path(folder, "again"))


def _verify(clone: Path, second: Path) -> int:
    """Verify HEAD in `clone`; `second` is the place for another clone if numerics differ. Return the exit status."""
    stages = pipeline.read(clone)
    if wrong := lock.problems(clone):
        return _false("dvc.lock is out of sync with the files of the commit", wrong)
    recorded = _record(clone)
    files = _cached_outputs(recorded)
    if wrong := _damaged() + _contradictions(recorded, files):
        return _false("the record contradicts itself", wrong)
    ran = _repro(clone)
    result = _record(clone)
    _print_table(recorded, result, ran)
    # A reproduced output equals the recorded one, so it can stand in for a recorded file that is not here.
    files |= {
        path: (clone / path).read_bytes()
        for path, md5 in _all_paths(result).items()
        if _all_paths(recorded).get(path) == md5 and (clone / path).is_file()
    }
    if idle := [stage for stage in stages if stage not in ran]:
        return _false("these stages did not run", idle)
    differing = {stage: _differing(recorded, result, stage) for stage in stages}
    if not any(differing.values()):
        if (clone / "dvc.lock").read_bytes() != git_bytes("show", "HEAD:./dvc.lock"):
            return _false("every output was reproduced, but not dvc.lock", ["dvc.lock"])
        print("proven: every byte of every output was reproduced (identical to the bit)")
        return 0
    tainted = _downstream(stages, [name for name in stages if recorded.numerics(name) != result.numerics(name)])
    wrong = [f"{stage}: {path}" for stage in stages if stage not in tainted for path in differing[stage]]
    wrong += [f"{stage}: the keys of its metrics" for stage in stages if not _same_keys(recorded, result, stage)]
    if wrong:
        return _run_again(clone, result, wrong)
    print(f"bits can't be compared: numerics {recorded.fingerprints()} recorded, {result.fingerprints()} here")
    return _weigh(_clone(second), recorded, result, tainted, files)


def _run_again(clone: Path, result: Record, wrong: list[str]) -> int:
    """Run the pipeline again, to tell whether `wrong` outputs come from a false record or from code; return 1."""
    _repro(clone)
    again = _record(clone)
    if unstable := [f"{stage}: {path}" for stage in result.hashes for path in _differing(result, again, stage)]:
        return _false("the code is not deterministic: two runs on this machine differ", unstable)
    return _false("two runs on this machine agree with each other, but not with the record", wrong)


def _weigh(clone: Path, recorded: Record, result: Record, tainted: list[str], files: dict[str, bytes]) -> int:
    """Check results with different numerics as far as possible; return 3, or 1 if anything is wrong."""
    findings: dict[str, list[str]] = {"wrong": [], "proven": [], "plausible": [], "not checked": []}
    findings["proven"].append("data, mean and standard deviation, and the stages without PyTorch: to the bit")
    for stage in tainted:
        if stage != TRAINING:
            _derive(stage, clone, recorded, files, findings)
    _compare_metrics(recorded, result, tainted, findings)
    if wrong := findings.pop("wrong"):
        return _false("the record can't come from this code on any machine", wrong)
    for words, lines in findings.items():
        if lines:
            print(words, *lines, sep="\n  ")
    print(f"plausible, not proven: trained with different numerics (false alarm rate {FALSE_ALARMS:.0%})")
    return 3


def _compare_metrics(recorded: Record, result: Record, stages: list[str], findings: dict[str, list[str]]) -> None:
    """Compare the metrics of `stages` with the recorded ones: they may differ by as much as two seeds do."""
    bound = _bound(recorded)
    for stage in stages:
        for name, value in result.metrics[stage].items():
            if isinstance(value, list):
                continue
            metric, written = f"{stage}.{name}", recorded.metrics[stage][name]
            difference = abs(value - written) if isinstance(written, int | float) else math.inf
            if (allowed := bound.get(metric)) is None:
                findings["not checked"].append(f"{metric}: {RESULTS} has no bound for these params")
            elif difference <= allowed:
                findings["plausible"].append(f"{metric}: differs by {difference:.2g}, allowed {allowed:.2g}")
            else:
                findings["wrong"].append(f"{metric}: {written} recorded, {value} here, allowed gap {allowed:.2g}")


def _derive(stage: str, clone: Path, recorded: Record, files: dict[str, bytes], findings: dict[str, list[str]]) -> None:
    """Run `stage` on the recorded outputs of the stages before it, and compare its outputs with the recorded ones."""
    entry = pipeline.read(clone)[stage]
    needed = [path for path in entry.deps if path in _all_paths(recorded)]
    missing = [path for path in needed if not (clone / path).exists() and path not in files]
    if missing := [path for path in missing if not path.startswith(str(mnist.FOLDER))]:
        findings["not checked"].append(f"{stage}: no recorded {', '.join(missing)} here (dvc pull may fetch it)")
        return
    _put(clone, files)
    _stage(clone, "download")
    _stage(clone, stage)
    for path, cached in entry.outputs.items():
        if cached and path not in files:
            findings["not checked"].append(f"{stage}: no recorded {path} here (dvc pull may fetch it)")
            continue
        before = files[path] if cached else git_bytes("show", f"HEAD:./{path}")
        if words := _beyond_rounding(path, before, (clone / path).read_bytes()):
            findings["wrong"].append(f"{stage}: {path}, made from the recorded outputs of earlier stages, {words}")
    git("checkout", "--quiet", ".", root=clone)
    findings["proven"].append(f"{stage}: reproduced from the recorded outputs of earlier stages, within rounding")


def _check_state() -> None:
    """Raise PipelineError if there are uncommitted changes or the installed packages differ."""
    if dirty := git("status", "--porcelain", "--", "."):
        paths = ", ".join(line[3:] for line in dirty.splitlines())
        raise PipelineError(f"only what is committed can be verified: commit or stash {paths}")
    if drift := packages.drift(Path("requirements.lock").read_text()):
        raise PipelineError(f"packages differ from requirements.lock: {', '.join(drift)}; make installs them")


def _false(verdict: str, lines: list[str]) -> int:
    print(f"false: {verdict}", *lines, sep="\n  ")
    return 1


def _cache() -> Path:
    """Return the folder of DVC's cache, which its config may have moved."""
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    return Path(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip(), "files/md5")


def _damaged() -> list[str]:
    """Return a line for each file in DVC's cache whose name is not the MD5 hash of its content."""
    return [
        f"DVC's cache is damaged, and DVC won't notice: remove {path}, data and models, and run dvc repro"
        for path in sorted(_cache().glob("??/*"))
        if path.is_file() and _md5(path.read_bytes()) != path.parent.name + path.name.removesuffix(".dir")
    ]


def _cached_outputs(recorded: Record) -> dict[str, bytes]:
    """Return recorded outputs by path, if they are in the working tree, DVC's cache or its remote."""
    subprocess.run([sys.executable, "-m", "dvc", "fetch", "--quiet"], capture_output=True)  # where there is a remote
    cache, files = _cache(), {}
    for path, md5 in _all_paths(recorded).items():
        for place in (Path(path), cache / md5[:2] / md5[2:]):
            if place.is_file() and _md5(data := place.read_bytes()) == md5:
                files[path] = data
    return files


def _contradictions(recorded: Record, files: dict[str, bytes]) -> list[str]:
    """Describe each recorded metric that disagrees with the recorded table that it was computed from."""
    params = pipeline.load(Path("params.yaml"))
    pairs: list[tuple[str, str, float, float]] = []  # with the difference that is allowed besides rounding
    try:
        if curves := files.get(str(history.PATH)):
            last = tables.parse(curves, history.PATH, status=1).iloc[-1]
            pairs += [("train", name, last[f"train_{name}"], 0) for name in ("loss", "accuracy")]
            # With label smoothing, the loss is another after calibration.
            names = ["accuracy"] if params["train"].get("label_smoothing") else ["loss", "accuracy"]
            pairs += [("evaluate", f"val.{name}", last[f"val_{name}"], 0) for name in names]
        if data := files.get(str(predictions.PATH)):
            table = tables.parse(data, predictions.PATH, status=1)
            correct = (table["actual"] == table["predicted"]).to_numpy()
            error = _calibration_error(table["confidence"].to_numpy(), correct)
            pairs += [("evaluate", "test.accuracy", correct.mean(), 0), ("evaluate", "test.calibration_error", *error)]
        return [
            f"{stage}: {name} is {recorded.metrics[stage][name]}, but {value} in the table that it comes from"
            for stage, name, value, allowed in pairs
            if name in recorded.metrics.get(stage, {})
            and not np.isclose(recorded.metrics[stage][name], value, ROUNDING, allowed)
        ]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        return [f"a recorded table or metrics file was not written by a stage: {error!r}"]


def _calibration_error(confidence: np.ndarray, correct: np.ndarray) -> tuple[float, float]:
    """Return the expected calibration error, and its tolerance: the table's `confidence` has six digits.

    Each of N predictions that rounding moves to the next bin changes the error by up to 2 / N.
    """
    config = check(pipeline.load(Path("params.yaml")), {"evaluate": EvaluateConfig}, "params.yaml")["evaluate"]
    place = confidence * config.calibration_bins
    at_an_edge = np.abs(place - place.round()) < config.calibration_bins * 1e-6
    return calibration_error(reliability(confidence, correct, config)), 1e-6 + 2 * at_an_edge.mean()


def _beyond_rounding(path: str, before: bytes, after: bytes) -> str:
    """Return in words how two versions of a file differ by more than rounding, or an empty string."""
    if before == after:
        return ""
    if path.endswith(".json"):
        both = [pd.DataFrame([_flat(_metrics(data, path))]).infer_objects() for data in (before, after)]
    elif path.endswith(".csv"):
        both = [tables.parse(data, Path(path), status=1) for data in (before, after)]
    else:
        return "has different bytes"
    both = [table.select_dtypes("number") for table in both]
    if list(both[0]) != list(both[1]) or len(both[0]) != len(both[1]):
        return "has different rows or columns"
    numbers, others = (table.to_numpy(float) for table in both)
    off = ~np.isclose(numbers, others, ROUNDING, ROUNDING, equal_nan=True)
    off |= np.array([dtype.kind == "i" for dtype in both[0].dtypes]) & (numbers != others)
    return f"differs in {off.sum()} numbers by more than rounding" if off.any() else ""


def _bound(recorded: Record) -> dict[str, float]:
    """Return how much each metric may differ between two runs with different seeds, where that was measured.

    docs/results.csv has the standard deviation over seeds for the committed params, and names the model. The difference
    of two runs has twice the variance of one. The bound holds for all metrics together with probability
    1 - FALSE_ALARMS (Student's t, Bonferroni).
    """
    if not RESULTS.exists():
        return {}
    md5 = _all_paths(recorded).get(str(model.PATH), "")
    rows = matching(pd.read_csv(RESULTS, dtype={"of": str}), pipeline.load(Path("params.yaml")), {})
    rows = rows[(rows["of"] == md5[:8]) & rows["over"].str.startswith("train.seed").fillna(False)]
    share = FALSE_ALARMS / max(1, len(rows))
    return {
        row["metric"]: statistics.t.ppf(1 - share / 2, row["n"] - 1) * row["std"] * 2**0.5 for _, row in rows.iterrows()
    }


def _record(root: Path) -> Record:
    locked = pipeline.load(root / "dvc.lock")["stages"]
    record = Record({}, {})
    for name, stage in pipeline.read(root).items():
        hashes = {out["path"]: str(out["md5"]) for out in locked.get(name, {}).get("outs", [])}
        tracked = [path for path, cached in stage.outputs.items() if not cached]
        # For outputs in Git, the file itself counts.
        record.hashes[name] = hashes | {path: _md5((root / path).read_bytes()) for path in tracked}
        metrics = [_metrics((root / path).read_bytes(), path) for path in tracked if path.endswith(".json")]
        record.metrics[name] = {key: value for content in metrics for key, value in _flat(content).items()}
    return record


def _metrics(data: bytes, path: str) -> dict[str, Any]:
    return parse_json(data, Path(path), "it was not written by a stage", status=1)


def _flat(content: dict[str, Any]) -> dict[str, Any]:
    return dict(pd.json_normalize(content).astype(object).iloc[0])


def _all_paths(record: Record) -> dict[str, str]:
    return {path: md5 for hashes in record.hashes.values() for path, md5 in hashes.items()}


def _differing(a: Record, b: Record, stage: str) -> list[str]:
    paths = sorted(a.hashes[stage] | b.hashes[stage])
    return [path for path in paths if a.hashes[stage].get(path) != b.hashes[stage].get(path)]


def _same_keys(a: Record, b: Record, stage: str) -> bool:
    return a.metrics[stage].keys() == b.metrics[stage].keys()


def _downstream(stages: dict[str, pipeline.Stage], first: list[str]) -> list[str]:
    """Return the stages `first` and everything downstream of them."""
    found: list[str] = []
    written: set[str] = set()
    for name, stage in stages.items():
        if name in first or written & set(stage.deps):
            found.append(name)
            written |= set(stage.outputs)
    return found


def _print_table(recorded: Record, found: Record, ran: list[str]) -> None:
    print(f"{'stage':10}{'ran':5}{'same bytes':12}metrics that differ")
    for stage, before in recorded.metrics.items():
        after = found.metrics[stage]
        words = [
            f"{name}: {before.get(name)} -> {after.get(name)}"
            for name in sorted(before | after)
            if before.get(name) != after.get(name)
        ]
        same = "no" if _differing(recorded, found, stage) else "yes"
        print(f"{stage:10}{'yes' if stage in ran else 'no':5}{same:12}{'; '.join(words)}".rstrip())


def _clone(path: Path) -> Path:
    """Clone the repository into `path`, and return the project's folder in it, which may be a subfolder."""
    git("clone", "--quiet", git("rev-parse", "--show-toplevel").strip(), str(path))
    return path / git("rev-parse", "--show-prefix").strip()


def _environment() -> dict[str, str]:
    """Return the environment for stages in a clone: this Python, the data that is here, and strict checks."""
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "STAGES_STRICT": "1"}
    if mnist.FOLDER.is_dir():
        env["MNIST_MIRROR"] = str(mnist.FOLDER.resolve())
    return env


def _repro(clone: Path) -> list[str]:
    """Run every stage in `clone`; return the stages that ran."""
    for path in (path for stage in pipeline.read(clone).values() for path in stage.outputs if (clone / path).is_file()):
        (clone / path).unlink()  # a file that a stage does not write must not pass for its output
    ran = []
    command = [sys.executable, "-m", "dvc", "repro", "--force"]
    with subprocess.Popen(command, cwd=clone, env=_environment(), stdout=subprocess.PIPE, text=True) as process:
        for line in cast(IO[str], process.stdout):
            print(line, end="", flush=True)
            if line.startswith("Running stage '"):
                ran.append(line.split("'")[1])
    if process.returncode:
        raise PipelineError("the pipeline failed in the clone", status=1)
    return ran


def _stage(clone: Path, name: str) -> None:
    command = [sys.executable, "-m", "stages", name]
    if subprocess.run(command, cwd=clone, env=_environment(), stdout=subprocess.DEVNULL).returncode:
        raise PipelineError(f"the stage {name} failed on the recorded outputs of earlier stages", status=1)


def _put(clone: Path, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        (clone / path).write_bytes(data)


def _md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


if __name__ == "__main__":
    run(main)
