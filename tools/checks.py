"""What this project demands of itself, beyond what tools.lock and tools.verify check in any DVC project."""

import json
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stages.__main__ import RESTARTED
from stages.artifacts import history, mnist, predictions, tables
from stages.launch import packages, pipeline
from stages.launch.environment import PYTHON, variables
from tools import record, resolved
from tools.errors import ToolError
from tools.git import git
from tools.record import Record
from tools.resolved import Project

# The tolerance for rounding between different numerics: relative, or absolute for numbers below 1.
ROUNDING = 1e-5
# The same for pixels, which have 256 levels.
LEVELS = 2
NUMBER = re.compile(r"(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)")
FINGERPRINT = re.compile(r'"numerics": \[[^]]*\]')
# The one stage that amplifies rounding: if the last bits differ, training ends with different weights.
TRAINING = "train"
DATA, PAGE = mnist.FOLDER, "report.html"
WITNESSES = Path("docs/reproducibility.md")


def of_lock(root: Path, project: Project) -> list[str]:
    """Return a line for each stage whose command is not `python -m stages NAME`, run in the project's folder.

    And one for each stage's module, each file in metrics/ and each metric or plot that no stage accounts for.
    """
    pipe, content = pipeline.read(root), pipeline.load(root / "dvc.yaml")
    odd = [name for name, stage in project.stages.items() if stage.cmd != f"python -m stages {name}"]
    elsewhere = [name for name, folder in project.wdirs.items() if folder != "."]
    modules = [path.stem for path in sorted((root / "stages").glob("[!_]*.py"))]
    found = [f"{name}: stages/{name}.py exists, but dvc.yaml has no such stage" for name in modules if name not in pipe]
    written = {path for stage in pipe.values() for path in stage.outputs}
    found += [f"{name}: its cmd is not python -m stages {name}" for name in odd]
    found += [f"{name}: its wdir is not the project's folder" for name in elsewhere]
    there = [str(path.relative_to(root)) for path in sorted((root / "metrics").glob("[!.]*"))]
    for plot in content.get("plots", []):
        for name, options in plot.items() if isinstance(plot, dict) else [(plot, {})]:
            there += options["y"] if isinstance(options.get("y"), dict) else [name]
    there += content.get("metrics", [])
    return found + [f"{path}: is written by no stage in dvc.yaml" for path in there if path not in written]


def of_clone(root: Path) -> list[str]:
    """Return a line for each file in `root`, a clean clone, that runs or counts in place of what is reviewed."""
    known = {"lenet", "stages", "tools", "tests"}
    shadows = [*root.glob("*.py"), *(path for path in root.glob("*/__init__.py") if path.parent.name not in known)]
    found = [f"{path}: could run in place of an installed package" for path in shadows]
    found += [f"{path}: is a second dvc.yaml" for path in root.rglob("dvc.yaml") if path.parent != root]
    found += [f"{path}: is compiled code" for kind in ("pyc", "so", "pyd") for path in root.rglob(f"*.{kind}")]
    found += [f"{path}: is not empty" for path in root.rglob("__init__.py") if path.read_bytes().strip()]
    shadows = [path for path in root.rglob("*.py") if path.with_suffix("").is_dir()]
    found += [f"{path}: is shadowed by a folder of that name" for path in shadows]
    return [line.removeprefix(f"{root}/") for line in sorted(found)]


def released(recorded: Record) -> list[str]:
    """Return the paths of the outputs that are neither in Git nor easy to make again, as the data and the page are."""
    return sorted(recorded.cached - {str(DATA), PAGE})


def of_release(root: Path) -> list[str]:
    """Return a line for each of model and predictions in release/ that is not the one that `root`'s dvc.lock names.

    The page may be older than its source until the next `make release`. Without a folder release/ there is no line.
    """
    if not (root / "release").is_dir():
        return []
    recorded = record.read(root)
    files = {path: root / "release" / Path(path).name for path in released(recorded)}
    return [
        f"release/{file.name} is not the {path} that dvc.lock names: run make release, and commit release/"
        for path, file in files.items()
        if not file.is_file() or record.md5(file.read_bytes()) != recorded.paths().get(path)
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


def contradictions(recorded: Record, files: Mapping[str, bytes]) -> list[str]:
    """Describe each recorded metric that disagrees with the table in `files` that it was computed from."""
    params = pipeline.load(Path("params.yaml"))
    pairs: list[tuple[str, str, float]] = []
    try:
        if curves := files.get(str(history.PATH)):
            last = tables.parse(curves, history.PATH, status=1).iloc[-1]
            pairs += [("train", name, last[f"train_{name}"]) for name in ("loss", "accuracy")]
            # With label smoothing, the loss is another after calibration.
            names = ["accuracy"] if params["train"].get("label_smoothing") else ["loss", "accuracy"]
            pairs += [("evaluate", f"val.{name}", last[f"val_{name}"]) for name in names]
        if data := files.get(str(predictions.PATH)):
            table = tables.parse(data, predictions.PATH, status=1)
            pairs += [("evaluate", "test.accuracy", (table["actual"] == table["predicted"]).mean())]
        return [
            f"{stage}: {name} is {recorded.metrics[stage][name]}, but {value} in the table that it comes from"
            for stage, name, value in pairs
            if name in recorded.metrics.get(stage, {})
            and not np.isclose(recorded.metrics[stage][name], value, ROUNDING, 0)
        ]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        return [f"a recorded table or metrics file was not written by a stage: {error!r}"]


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


def preloaded(scratch: Path, data: Path) -> subprocess.Popen[str]:
    """Start a process that loads the libraries of all stages, for `beyond_training` with the same arguments."""
    env = variables("download") | environment() | {"MNIST_MIRROR": str(data.resolve()), "MPLCONFIGDIR": str(scratch)}
    command = [*PYTHON, "-m", "tools.forks"]
    return subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def beyond_training(
    clone: Path,
    scratch: Path,
    data: Path,
    recorded: Record,
    files: dict[str, bytes],
    stages: Iterable[str],
    forks: subprocess.Popen[str],
) -> list[str]:
    """Run each of `stages` but the training in a copy of `clone`, on what is recorded before it; compare its outputs.

    The copies are made in the folder `scratch`. `data` is the data set's folder, `files` are the recorded outputs that
    are `available`, and `forks` is the process `preloaded`. Returns a line for each output that differs from the
    recorded one: by a byte where the numerics are the recorded ones, else by more than rounding. Raises ToolError if
    the data or a recorded output is nowhere to be had.
    """
    if not data.is_dir():
        raise ToolError(f"there is no {data}: run dvc repro download")
    if missing := [path for path in released(recorded) if path not in files]:
        raise ToolError(f"the recorded {', '.join(missing)} is nowhere to be had: dvc pull may fetch it")
    files = files | recorded.files(clone)
    places = {stage: scratch / stage for stage in stages if stage != TRAINING}
    for stage, place in places.items():
        _prepare(place, clone, data.resolve(), files, recorded.hashes[stage])
    lines = [json.dumps([str(place), "stages", RESTARTED, stage]) + "\n" for stage, place in places.items()]
    forks.communicate("".join(lines))
    if forks.returncode:
        raise ToolError("a stage failed on the recorded outputs of earlier stages", status=1)
    exact = not any(
        _numerics(place, stage) != recorded.metrics[stage].get("numerics") for stage, place in places.items()
    )
    wrong = []
    for stage, place in places.items():
        for path, md5 in recorded.hashes[stage].items():
            if record.md5_of(place / path) == md5:
                continue
            after = (place / path).read_bytes() if path != str(DATA) else b""
            if not exact and path not in files:
                raise ToolError(f"the recorded {path} is nowhere to be had: run make release, and commit release/")
            if words := "has other bytes" if exact else beyond_rounding(path, files[path], after):
                wrong.append(f"{stage}: {path}, made from the recorded outputs of earlier stages, {words}")
    return wrong


def _prepare(place: Path, clone: Path, data: Path, files: dict[str, bytes], outputs: Iterable[str]) -> None:
    """Copy `clone` to `place`, with `files` and the data set's folder `data`, for the stage that writes `outputs`."""
    shutil.copytree(clone, place, ignore=shutil.ignore_patterns(".git", "docs", "release", "tests"))
    for path, content in files.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(content)
    for path in outputs:
        (place / path).unlink(missing_ok=True)
    if str(DATA) not in outputs:
        (place / DATA).parent.mkdir(parents=True, exist_ok=True)
        (place / DATA).symlink_to(data)


def _numerics(place: Path, stage: str) -> Any:
    path = place / f"metrics/{stage}.json"
    return json.loads(path.read_bytes()).get("numerics") if path.is_file() else None


def beyond_rounding(path: str, before: bytes, after: bytes) -> str:
    """Return in words how two versions of a file differ by more than rounding, or an empty string."""
    if before == after:
        return ""
    if path.endswith(".png"):
        pictures = [Image.open(BytesIO(data)) for data in (before, after)]
        kinds = [(picture.mode, picture.size, picture.info, getattr(picture, "n_frames", 1)) for picture in pictures]
        pixels = [np.asarray(picture, float) for picture in pictures]
        same = kinds[0] == kinds[1] and np.abs(pixels[0] - pixels[1]).max() <= LEVELS
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
