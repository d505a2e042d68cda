"""What this project demands of itself, beyond what tools.lock and tools.verify check in any DVC project."""

import os
import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import matplotlib.image
import numpy as np

from lenet.evaluation import EvaluateConfig, calibration_error, reliability
from stages.artifacts import history, mnist, model, predictions, tables
from stages.launch import packages, pipeline
from stages.launch.params import check
from tools import record, resolved
from tools.errors import ToolError
from tools.git import git_bytes
from tools.record import Record

# The tolerance for rounding between different numerics: relative, or absolute for numbers below 1.
ROUNDING = 1e-5
# The same for pixels, from 0 to 1: two levels.
PIXELS = 2 / 255
NUMBER = re.compile(r"(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)")
FINGERPRINT = re.compile(r'"numerics": \[[^]]*\]')
# The one stage that amplifies rounding: if the last bits differ, training ends with different weights.
TRAINING = "train"


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
    """Return a line if the model in release/ is not the one that `root`'s dvc.lock names.

    The other files there may be older than their sources until the next `make release`.
    """
    recorded, path = record.read(root).paths().get(str(model.PATH)), Path("release", model.PATH.name)
    if (root / path).is_file() and record.md5((root / path).read_bytes()) == recorded:
        return []
    return [f"{path} is not the model that dvc.lock names: run make release, and commit release/"]


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
    subprocess.run([sys.executable, "-m", "dvc", "fetch", "--quiet"], capture_output=True)  # where there is a remote
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


def contradictions(recorded: Record) -> list[str]:
    """Describe each recorded metric that disagrees with the recorded table that it was computed from."""
    params, files = pipeline.load(Path("params.yaml")), available(recorded)
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


def with_other_numerics(root: Path, recorded: Record, result: Record) -> list[str]:
    """Return the stages whose numerics differ in the two records, and those downstream; print both numerics."""
    both = [{stage: metrics.get("numerics") for stage, metrics in r.metrics.items()} for r in (recorded, result)]
    found = [stage for stage in both[0] if both[0][stage] != both[1][stage]]
    if found:
        names = [", ".join(str(*numerics) for numerics in each.values() if numerics) for each in both]
        print(f"bits can't be compared: numerics {names[0]} recorded, {names[1]} here")
    with resolved.project(root) as project:
        return record.downstream(project, found)


def beyond_training(clone: Path, recorded: Record, result: Record, stages: list[str]) -> list[str]:
    """Run all `stages` but the training in `clone`, each on what is recorded before it, and compare the outputs.

    Returns a line for each output that differs from the recorded one by more than rounding. Prints the recorded metrics
    of the training beside those of this machine. Raises ToolError if a recorded output is nowhere to be had.
    """
    files = available(recorded)
    if missing := recorded.cached - files.keys() - {str(mnist.FOLDER)}:
        raise ToolError(f"the recorded {', '.join(sorted(missing))} is nowhere to be had: dvc pull may fetch it")
    print(f"{TRAINING}: {record.words(recorded.metrics[TRAINING], result.metrics[TRAINING])}")
    for path, data in files.items():
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        (clone / path).write_bytes(data)
    wrong = []
    for stage in ["download", *(stage for stage in stages if stage != TRAINING)]:
        for path in recorded.hashes[stage]:  # a file that the stage does not write must not pass for its output
            if (clone / path).is_file():
                (clone / path).unlink()
        _run(clone, stage)
        for path in recorded.hashes[stage]:
            if (clone / path).is_file():
                before = files[path] if path in recorded.cached else git_bytes("show", f"HEAD:./{path}")
                if words := beyond_rounding(path, before, (clone / path).read_bytes()):
                    wrong.append(f"{stage}: {path}, made from the recorded outputs of earlier stages, {words}")
                (clone / path).write_bytes(before)
    return wrong


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


def _run(clone: Path, stage: str) -> None:
    command = [sys.executable, "-m", "stages", stage]
    if subprocess.run(command, cwd=clone, env=os.environ | environment(), stdout=subprocess.DEVNULL).returncode:
        raise ToolError(f"the stage {stage} failed on the recorded outputs of earlier stages", status=1)
