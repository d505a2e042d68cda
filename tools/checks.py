"""What this project demands of itself, beyond what tools.lock and tools.verify check in any DVC project."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np

from lenet.evaluation import EvaluateConfig, calibration_error, reliability
from stages.artifacts import history, mnist, model, predictions, tables
from stages.launch import packages, pipeline
from stages.launch.params import check
from tools import record, resolved
from tools.errors import ToolError
from tools.git import git
from tools.record import Record

# The tolerance for rounding between different numerics: relative, or absolute for numbers below 1.
ROUNDING = 1e-5
# The same for pixels, from 0 to 1: two levels.
PIXELS = 2 / 255
NUMBER = re.compile(r"(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)")
FINGERPRINT = re.compile(r'"numerics": \[[^]]*\]')
# The one stage that amplifies rounding: if the last bits differ, training ends with different weights.
TRAINING = "train"
DATA = mnist.FOLDER
WITNESSES = Path("docs/reproducibility.md")


def of_lock(root: Path) -> list[str]:
    """Return a line for each stage whose command is not `python -m stages NAME`, run in the project's folder.

    And one for each stage's module and each file in metrics/ that no stage in dvc.yaml accounts for.
    """
    pipe = pipeline.read(root)
    with resolved.project(root) as project:
        odd = [name for name, stage in project.stages.items() if stage.cmd != f"python -m stages {name}"]
        elsewhere = [name for name, folder in project.wdirs.items() if folder != "."]
    modules = [path.stem for path in sorted((root / "stages").glob("[!_]*.py"))]
    found = [f"{name}: stages/{name}.py exists, but dvc.yaml has no such stage" for name in modules if name not in pipe]
    written = {path for stage in pipe.values() for path in stage.outputs}
    found += [f"{name}: its cmd is not python -m stages {name}" for name in odd]
    found += [f"{name}: its wdir is not the project's folder" for name in elsewhere]
    there = [str(path.relative_to(root)) for path in sorted((root / "metrics").glob("[!.]*"))]
    return found + [f"{path}: is written by no stage in dvc.yaml" for path in there if path not in written]


def of_clone(root: Path) -> list[str]:
    """Return a line for each file in `root`, a clean clone, that runs in place of the code that is reviewed."""
    found = [f"{path}: is compiled code" for kind in ("pyc", "so", "pyd") for path in root.rglob(f"*.{kind}")]
    found += [f"{path}: is not empty" for path in root.rglob("__init__.py") if path.read_bytes().strip()]
    shadows = [path for path in root.rglob("*.py") if path.with_suffix("").is_dir()]
    found += [f"{path}: is shadowed by a folder of that name" for path in shadows]
    return [line.removeprefix(f"{root}/") for line in sorted(found)]


def of_release(root: Path) -> list[str]:
    """Return a line for each of model and predictions in release/ that is not the one that `root`'s dvc.lock names.

    The page may be older than its source until the next `make release`. Without a folder release/ there is no line.
    """
    if not (root / "release").is_dir():
        return []
    recorded = record.read(root).paths()
    released = {path: root / "release" / path.name for path in (model.PATH, predictions.PATH)}
    return [
        f"release/{path.name} is not the {path} that dvc.lock names: run make release, and commit release/"
        for path, file in released.items()
        if not file.is_file() or record.md5(file.read_bytes()) != recorded.get(str(path))
    ]


def of_packages() -> None:
    """Raise ToolError if the installed packages differ from the lock file."""
    if drift := packages.drift(Path("requirements.lock").read_text()):
        raise ToolError(f"packages differ from requirements.lock: {', '.join(drift)}; make installs them")


def environment() -> dict[str, str]:
    """Return variables for stages in a clone: the data that is here, and strict checks."""
    data = {"MNIST_MIRROR": str(mnist.FOLDER.resolve())} if mnist.FOLDER.is_dir() else {}
    return {"STAGES_STRICT": "1"} | data


def available(recorded: Record) -> dict[str, bytes]:
    """Return the recorded outputs that are in the working tree, release/, DVC's cache or its remote, by path.

    Raises ToolError for a damaged file in the cache.
    """
    cache, files = record.cache() / "files/md5", {}
    for path, md5 in recorded.paths().items():
        cached = cache / md5[:2] / md5[2:]
        if cached.is_file() and record.md5(cached.read_bytes()) != md5.removesuffix(".dir"):
            raise ToolError(
                f"DVC's cache is damaged, and DVC won't notice: remove {cached}, data and models, and run dvc repro"
            )
        for place in (Path(path), Path("release", Path(path).name), cached):
            if place.is_file() and record.md5(data := place.read_bytes()) == md5:
                files[path] = data
    return files


def contradictions(recorded: Record, files: dict[str, bytes]) -> list[str]:
    """Describe each recorded metric that disagrees with the table in `files` that it was computed from."""
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


def witness(result: Record, verdict: str) -> str:
    """Return the line for the table of witnesses that says what this machine has found."""
    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    names = re.findall(r"^model name\s*: (.*)$", cpuinfo, re.M) or [platform.machine()]
    commit = git("rev-parse", "--short=10", "HEAD").strip()
    release = ".".join(platform.release().split(".")[:2])
    libc = " ".join(platform.libc_ver())
    system = ", ".join(filter(None, [f"{platform.system()} {release}", platform.machine(), libc]))
    cells = [names[0], system, platform.python_version(), _fingerprints(result), commit, verdict]
    return f"| {' | '.join(cells)} |"


def _fingerprints(record: Record) -> str:
    return ", ".join(str(*metrics["numerics"]) for metrics in record.metrics.values() if metrics.get("numerics"))


def with_other_numerics(root: Path, recorded: Record, result: Record) -> list[str]:
    """Return the stages whose numerics differ in the two records, and those downstream; print both numerics."""
    both = [{stage: metrics.get("numerics") for stage, metrics in r.metrics.items()} for r in (recorded, result)]
    found = [stage for stage in both[0] if both[0][stage] != both[1][stage]]
    if found:
        print(f"bits can't be compared: numerics {_fingerprints(recorded)} recorded, {_fingerprints(result)} here")
        lines = WITNESSES.read_text().splitlines() if WITNESSES.is_file() else []
        for line in lines:
            if f"| {_fingerprints(recorded)} |" in line:
                print(line)
    with resolved.project(root) as project:
        return record.downstream(project, found)


def beyond_training(
    clone: Path, data: Path, recorded: Record, files: dict[str, bytes], stages: Iterable[str]
) -> list[str]:
    """Run each of `stages` but the training in a copy of `clone`, on what is recorded before it; compare its outputs.

    `data` is the data set's folder, and `files` are the recorded outputs that are `available`. Returns a line for each
    output that differs from the recorded one: by a byte where the numerics are the recorded ones, else by more than
    rounding. Raises ToolError if the data or a recorded output is nowhere to be had.
    """
    if not data.is_dir():
        raise ToolError(f"there is no {data}: run dvc repro download")
    if missing := recorded.cached - files.keys() - {str(DATA)}:
        raise ToolError(f"the recorded {', '.join(sorted(missing))} is nowhere to be had: dvc pull may fetch it")
    files = files | {path: (clone / path).read_bytes() for path in recorded.paths() if (clone / path).is_file()}
    stages = [stage for stage in stages if stage != TRAINING]
    places = {stage: clone.with_name(f"{clone.name}-{stage}") for stage in stages}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda stage: _run_alone(stage, clone, data.resolve(), places[stage], recorded, files), stages))
    exact = not any(_numerics(places[stage], stage) != recorded.metrics[stage].get("numerics") for stage in stages)
    wrong = []
    for stage, place in places.items():
        for path in recorded.hashes[stage]:
            if path not in files:  # the data, which the stage verifies by checksums
                continue
            after = (place / path).read_bytes()
            words = beyond_rounding(path, files[path], after)
            if words or (exact and files[path] != after):
                words = words or "has other bytes"
                wrong.append(f"{stage}: {path}, made from the recorded outputs of earlier stages, {words}")
    return wrong


def _run_alone(stage: str, clone: Path, data: Path, place: Path, recorded: Record, files: dict[str, bytes]) -> None:
    """Run `stage` in `place`, a copy of `clone` with the recorded outputs of all other stages."""
    shutil.copytree(clone, place, ignore=shutil.ignore_patterns(".git"))
    for path in files.keys() | recorded.hashes[stage]:
        (place / path).unlink(missing_ok=True)
        if path not in recorded.hashes[stage]:
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_bytes(files[path])
    if stage != "download":
        (place / DATA).parent.mkdir(parents=True, exist_ok=True)
        (place / DATA).symlink_to(data)
    command = [sys.executable, "-m", "stages", stage]
    env = os.environ | environment() | {"MNIST_MIRROR": str(data)}
    if subprocess.run(command, cwd=place, env=env, stdout=subprocess.DEVNULL).returncode:
        raise ToolError(f"the stage {stage} failed on the recorded outputs of earlier stages", status=1)


def _numerics(place: Path, stage: str) -> Any:
    path = place / f"metrics/{stage}.json"
    return json.loads(path.read_bytes()).get("numerics") if path.is_file() else None


def beyond_rounding(path: str, before: bytes, after: bytes) -> str:
    """Return in words how two versions of a file differ by more than rounding, or an empty string."""
    if before == after:
        return ""
    if path.endswith(".png"):
        pictures = [matplotlib.image.imread(BytesIO(data)) for data in (before, after)]
        same = pictures[0].shape == pictures[1].shape and np.abs(pictures[0] - pictures[1]).max() <= PIXELS
        return "" if same else "shows something else"
    # A stage's fingerprint is of the machine that it runs on.
    decoded = [FINGERPRINT.sub("", data.decode(errors="replace")) for data in (before, after)]
    texts, numbers = zip(*map(_parts, decoded), strict=True)
    if texts[0] != texts[1]:
        return "has different words"
    off = sum(not _close(*pair) for pair in zip(*numbers, strict=True))
    return f"differs in {off} numbers by more than rounding" if off else ""


def _parts(text: str) -> tuple[list[str], list[str]]:
    parts = NUMBER.split(text)
    return parts[::2], parts[1::2]


def _close(a: str, b: str) -> bool:
    return a == b or (not (a + b).isdigit() and abs(float(a) - float(b)) <= ROUNDING * (1 + abs(float(a))))
