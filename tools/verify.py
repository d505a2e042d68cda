"""Does the pipeline of HEAD, run again from nothing, give what HEAD records? `make verify` asks.

In a temporary clone every stage runs, whatever is cached; only the downloaded data and the installed packages are
shared. The exit status says what is known then:

0  proven: every byte of every output came out again
3  plausible, not proven: the record names another arithmetic (lenet/provenance.py) than this machine's, so that bytes
   can't be compared; what can be checked agrees
1  false: something is recorded that this code does not give
2  can't be asked: there are uncommitted changes, or other packages are installed than requirements.lock names
"""

import argparse
import hashlib
import io
import json
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

from lenet import packages
from lenet.checking import check
from lenet.errors import PipelineError, run
from lenet.evaluation import EvaluateConfig, calibration_error, reliability
from tools import lock, pipeline
from tools.recipes import matching

DATA = Path("data/mnist")
RESULTS = Path("docs/results.csv")
# How far a number may be off where another arithmetic rounds otherwise, in proportion to it or if it is below 1.
ROUNDING = 1e-5
# How often the bound over seeds may raise a false alarm, all metrics together.
FALSE_ALARMS = 0.01
# The one stage in which rounding grows: from other last bits, training finds other weights.
TRAINING = "train"


@dataclass(frozen=True)
class Record:
    """What a clone holds: the hash of every output by its path, and the numbers and words in the metrics files."""

    hashes: dict[str, dict[str, str]]  # by stage
    metrics: dict[str, dict[str, Any]]  # by stage

    def arithmetic(self, stage: str) -> str | None:
        """Return by which arithmetic the results of `stage` were made, if it says so."""
        return self.metrics[stage].get("arithmetic")

    def machine(self) -> str:
        """Return in words what all the metrics say of the machine, fingerprints first."""
        words = [
            str(value) for metrics in self.metrics.values() for value in metrics.values() if isinstance(value, str)
        ]
        return ", ".join(words)


def main() -> int:
    """Print a table of the stages and a verdict; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.verify", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="leave the clone there, with all that the run wrote"
    )
    keep = parser.parse_args().keep
    _refuse_what_cannot_be_asked()
    if keep and keep.exists():
        raise PipelineError(f"{keep} is there already: name another folder to keep the clone in")
    with tempfile.TemporaryDirectory() as folder:
        clone = _clone(keep or Path(folder, "project"))
        stages = pipeline.read(clone)
        wrong = lock.problems(clone)
        if wrong:
            return _false("dvc.lock does not hold what is beside it", wrong)
        recorded = _record(clone)
        files = _cached_outputs(recorded)
        try:
            contradictions = _contradictions(recorded, files)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            contradictions = [f"a recorded table or metrics file is not as a stage writes it: {error!r}"]
        if wrong := _damaged() + contradictions:
            return _false("the record contradicts itself", wrong)
        ran = _repro(clone)
        found = _record(clone)
        _print_table(recorded, found, ran)
        # What came out as recorded is what is recorded, also where this machine had it no more.
        files |= {
            path: (clone / path).read_bytes()
            for path, md5 in _all_paths(found).items()
            if _all_paths(recorded).get(path) == md5 and (clone / path).is_file()
        }
        if idle := [stage for stage in stages if stage not in ran]:
            return _false("these stages did not run", idle)
        differing = {stage: _differing(recorded, found, stage) for stage in stages}
        if not any(differing.values()):
            if (clone / "dvc.lock").read_bytes() != _git_show("dvc.lock"):
                return _false("every output came out again, but dvc.lock says something else of it", ["dvc.lock"])
            print("proven: every byte of every output came out again (identical to the bit)")
            return 0
        other = [stage for stage in stages if recorded.arithmetic(stage) != found.arithmetic(stage)]
        tainted = _downstream(stages, other)
        wrong = [f"{stage}: {path}" for stage in stages if stage not in tainted for path in differing[stage]]
        wrong += [f"{stage}: the keys of its metrics" for stage in stages if not _same_keys(recorded, found, stage)]
        if wrong:
            _repro(clone)
            again = _record(clone)
            if unstable := [f"{stage}: {path}" for stage in stages for path in _differing(found, again, stage)]:
                return _false("the code is not deterministic: two runs on this machine differ", unstable)
            return _false("two runs on this machine agree with each other, but not with the record", wrong)
        print(f"not comparable to the bit: recorded on {recorded.machine()}, run on {found.machine()}")
        return _weigh(_clone(Path(folder, "again")), recorded, found, tainted, files)


def _weigh(clone: Path, recorded: Record, found: Record, tainted: list[str], files: dict[str, bytes]) -> int:
    """Check what can be checked of results that another arithmetic made; return 3, or 1 if anything is wrong."""
    proven = ["data, mean and deviation, and the stages that do not compute with PyTorch: to the bit"]
    plausible, unchecked, wrong = [], [], []
    for stage in tainted:
        if stage == TRAINING:
            continue
        entry = pipeline.read(clone)[stage]
        needed = [path for path in entry.deps if path in _all_paths(recorded)]
        missing = [path for path in needed if not (clone / path).exists() and path not in files]
        if missing := [path for path in missing if not path.startswith(str(DATA))]:
            unchecked.append(f"{stage}: {', '.join(missing)}, as recorded, is not here (dvc pull may bring it)")
            continue
        _put(clone, files)
        _stage(clone, "download")
        _stage(clone, stage)
        for path, cached in entry.outputs.items():
            if cached and path not in files:
                unchecked.append(f"{stage}: {path}, as recorded, is not here (dvc pull may bring it)")
                continue
            before = files[path] if cached else _git_show(path)
            if words := _beyond_rounding(path, before, (clone / path).read_bytes()):
                wrong.append(f"{stage}: {path}, made from what is recorded before it, {words}")
        _git("checkout", "--quiet", ".", cwd=clone)
        proven.append(f"{stage}: follows from what is recorded before it, within rounding")
    bound = _bound(recorded)
    for stage in tainted:
        for name, value in found.metrics[stage].items():
            if isinstance(value, str):
                continue
            metric, written = f"{stage}.{name}", recorded.metrics[stage][name]
            difference = abs(value - written) if isinstance(written, int | float) else math.inf
            allowed = bound.get(metric)
            if allowed is None:
                unchecked.append(f"{metric}: the bound over seeds in {RESULTS} is of other params")
            elif difference <= allowed:
                plausible.append(f"{metric}: {difference:.2g} apart, allowed {allowed:.2g}")
            else:
                wrong.append(f"{metric}: {written} is recorded, {value} was found, allowed are {allowed:.2g} apart")
    if wrong:
        return _false("what is recorded can't come from this code on any machine", wrong)
    for words, lines in (("proven", proven), ("plausible", plausible), ("not checked", unchecked)):
        if lines:
            print(words, *lines, sep="\n  ")
    print(f"plausible, not proven: another arithmetic did the training (false alarms of the bound: {FALSE_ALARMS:.0%})")
    return 3


def _refuse_what_cannot_be_asked() -> None:
    """Raise PipelineError if HEAD can't be asked here."""
    if dirty := _git("status", "--porcelain"):
        paths = ", ".join(line[3:] for line in dirty.splitlines())
        raise PipelineError(f"only what is committed can be verified: commit or stash {paths}")
    if drift := packages.drift(Path("requirements.lock").read_text()):
        raise PipelineError(f"not the packages of requirements.lock: {', '.join(drift)}; make installs them")


def _false(verdict: str, lines: list[str]) -> int:
    print(f"false: {verdict}", *lines, sep="\n  ")
    return 1


def _cache() -> Path:
    """Return where DVC's cache lies, which its config may have moved."""
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    return Path(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip(), "files/md5")


def _damaged() -> list[str]:
    """Return the files in DVC's cache whose content is not what their name, its MD5 hash, says."""
    return [
        f"DVC's cache is damaged, and DVC won't notice: remove {path}, data and models, and run dvc repro"
        for path in sorted(_cache().glob("??/*"))
        if path.is_file() and _md5(path.read_bytes()) != path.parent.name + path.name.removesuffix(".dir")
    ]


def _cached_outputs(recorded: Record) -> dict[str, bytes]:
    """Return the content of the outputs that only DVC tracks, as recorded, as far as it can be had here, by path."""
    subprocess.run([sys.executable, "-m", "dvc", "fetch", "--quiet"], capture_output=True)  # where there is a remote
    cache, files = _cache(), {}
    for path, md5 in _all_paths(recorded).items():
        for place in (Path(path), cache / md5[:2] / md5[2:]):
            if place.is_file() and _md5(data := place.read_bytes()) == md5:
                files[path] = data
    return files


def _contradictions(recorded: Record, files: dict[str, bytes]) -> list[str]:
    """Return in words where recorded metrics are not those of the recorded tables that they come from."""
    pairs: list[tuple[str, str, float, float]] = []  # with the difference that is allowed besides rounding
    if history := files.get("models/history.csv"):
        last = _table(history, "models/history.csv").iloc[-1]
        pairs += [("train", name, last[f"train_{name}"], 0) for name in ("loss", "accuracy")]
        pairs += [("evaluate", f"val.{name}", last[f"val_{name}"], 0) for name in ("loss", "accuracy")]
    if predictions := files.get("models/predictions.csv"):
        table = _table(predictions, "models/predictions.csv")
        correct = (table["actual"] == table["predicted"]).to_numpy()
        pairs += [
            ("evaluate", "test.accuracy", correct.mean(), 0),
            ("evaluate", "test.calibration_error", *_calibration_error(table["confidence"].to_numpy(), correct)),
        ]
    return [
        f"{stage}: {name} is {recorded.metrics[stage][name]}, but {value} in the table that it comes from"
        for stage, name, value, allowed in pairs
        if name in recorded.metrics.get(stage, {})
        and not np.isclose(recorded.metrics[stage][name], value, ROUNDING, allowed)
    ]


def _calibration_error(confidence: np.ndarray, correct: np.ndarray) -> tuple[float, float]:
    """Return it, and by how much it may be off because the table's `confidence` has six digits.

    Of N predictions, one that rounding moves to the next bin changes it by up to 2 / N.
    """
    config = check(pipeline.load(Path("params.yaml")), {"evaluate": EvaluateConfig}, "params.yaml")["evaluate"]
    place = confidence * config.calibration_bins
    at_an_edge = np.abs(place - place.round()) < config.calibration_bins * 1e-6
    return calibration_error(reliability(confidence, correct, config)), 1e-6 + 2 * at_an_edge.mean()


def _beyond_rounding(path: str, before: bytes, after: bytes) -> str:
    """Say in words how two versions of a file differ by more than rounding, or nothing."""
    if before == after:
        return ""
    if path.endswith(".json"):
        tables = [pd.DataFrame([_flat(_json(data, path))]).infer_objects() for data in (before, after)]
    elif path.endswith(".csv"):
        tables = [_table(data, path) for data in (before, after)]
    else:
        return "has other bytes"
    tables = [table.select_dtypes("number") for table in tables]
    if list(tables[0]) != list(tables[1]) or len(tables[0]) != len(tables[1]):
        return "has other rows or columns"
    numbers, others = (table.to_numpy(float) for table in tables)
    off = ~np.isclose(numbers, others, ROUNDING, ROUNDING, equal_nan=True)
    off |= np.array([dtype.kind == "i" for dtype in tables[0].dtypes]) & (numbers != others)
    return f"differs in {off.sum()} numbers by more than rounding" if off.any() else ""


def _bound(recorded: Record) -> dict[str, float]:
    """Return for each metric how far two runs of different seeds may be apart, as far as it was measured.

    It was measured over seeds of the committed params: docs/results.csv names the model that they started from. The
    difference of two runs has twice the variance of one; the bound holds with 1 - FALSE_ALARMS for all metrics together
    (Student's t, Bonferroni).
    """
    if not RESULTS.exists():
        return {}
    model = _all_paths(recorded).get("models/lenet5.safetensors", "")
    rows = matching(pd.read_csv(RESULTS, dtype={"of": str}), pipeline.load(Path("params.yaml")), {})
    rows = rows[(rows["of"] == model[:8]) & rows["over"].str.startswith("train.seed").fillna(False)]
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
        # Of what Git tracks, the file itself counts.
        record.hashes[name] = hashes | {path: _md5((root / path).read_bytes()) for path in tracked}
        metrics = [_json((root / path).read_bytes(), path) for path in tracked if path.endswith(".json")]
        record.metrics[name] = {key: value for content in metrics for key, value in _flat(content).items()}
    return record


def _json(data: bytes, name: str) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except ValueError as error:
        raise PipelineError(f"{name} is no JSON: {error}", status=1) from None
    if not isinstance(content, dict) or not content:
        raise PipelineError(f"{name} holds no metrics", status=1)
    return content


def _table(data: bytes, name: str) -> pd.DataFrame:
    try:
        return pd.read_csv(io.BytesIO(data))
    except ValueError as error:
        raise PipelineError(f"{name}, as recorded, is no table: {error}", status=1) from None


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
    """Return the stages `first` and all that read, directly or through others, what they write."""
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
    _git("clone", "--quiet", ".", str(path))
    return path


def _environment() -> dict[str, str]:
    """Return the environment for stages in a clone: this Python, the data that is here, and no undeclared reads."""
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "STAGES_STRICT": "1"}
    if DATA.is_dir():
        env["MNIST_MIRROR"] = str(DATA.resolve())
    return env


def _repro(clone: Path) -> list[str]:
    """Run every stage in `clone`; return the stages that ran."""
    for path in (path for stage in pipeline.read(clone).values() for path in stage.outputs if (clone / path).is_file()):
        (clone / path).unlink()  # what a stage does not write must not pass for its output
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
        raise PipelineError(f"the stage {name} failed on what is recorded before it", status=1)


def _put(clone: Path, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        (clone / path).write_bytes(data)


def _md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def _git_show(path: str) -> bytes:
    return subprocess.run(["git", "show", f"HEAD:{path}"], check=True, stdout=subprocess.PIPE).stdout


def _git(*arguments: str, cwd: Path | None = None) -> str:
    done = subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise PipelineError(f"git {arguments[0]} failed: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout


if __name__ == "__main__":
    run(main)
