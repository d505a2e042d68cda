"""The guard: checks that a stage has read exactly what DVC records as its deps and params.

DVC hashes code, data and params after a stage has run, and records an edit made in the meantime as if it had been used
(https://github.com/treeverse/dvc/issues/11058). It also trusts that dvc.yaml lists everything that a stage reads.
"""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lenet.errors import PipelineError
from stages.launch import packages, pipeline, reads
from stages.launch.environment import PASSED_TO
from stages.launch.pipeline import Stage

# Files that need not be listed as deps: they start a stage, watch it or report its errors, and change no result.
NOT_DEPS = [
    "lenet/errors.py",
    "stages/__main__.py",
    "stages/launch/environment.py",
    "stages/launch/errors.py",
    "stages/launch/git.py",
    "stages/launch/guard.py",
    "stages/launch/packages.py",
    "stages/launch/params.py",
    "stages/launch/pipeline.py",
    "stages/launch/reads.py",
    "stages/launch/source.py",
    "stages/launch/yaml12.py",
]


@contextmanager
def guard(name: str, stage: Stage) -> Iterator[dict[str, Any]]:
    """Yield the sections of params.yaml that `stage` lists, and check afterwards that nothing changed in between.

    Raises PipelineError if a dep or a section has changed; warns about packages that differ from requirements.lock,
    and about files that the stage `name` has read although dvc.yaml does not list them.
    """
    seen = reads.watch()
    before, params = hashes(stage.deps), sections(stage.params)
    if "requirements.lock" in stage.deps and (drift := packages.drift(Path("requirements.lock").read_text())):
        warn_or_raise(f"packages differ from requirements.lock: {', '.join(drift)}; make repro installs them")
    try:
        yield params
    except OSError as error:  # Python names the file if opening it fails, but not if writing to it does
        error.filename = error.filename or seen.written
        raise
    # What download reads is verified by checksums, wherever it comes from.
    unlisted = [] if name in PASSED_TO else reads.undeclared(seen.files, allowed(stage))
    changed = [dep for dep, now in hashes(stage.deps).items() if now != before[dep]]
    # As text, because 1, 1.0 and True are equal in Python.
    after = sections(stage.params)
    changed += [f"params.yaml: {key}" for key in stage.params if repr(after.get(key)) != repr(params.get(key))]
    from stages.launch import numerics  # here, so that it is imported after it has been hashed

    if not numerics.environment().items() <= os.environ.items():  # os.environ has those from before the stage ran
        changed.append("stages/launch/numerics.py")
    if changed:
        raise PipelineError(f"{', '.join(changed)} changed while the stage ran; run it again")
    if unlisted:
        warn_or_raise(
            f"the stage {name} reads files that its deps in dvc.yaml do not list: {', '.join(map(str, unlisted))}"
        )
    if unknown := [program for program in sorted(seen.programs) if Path(program).name not in reads.PROGRAMS]:
        warn_or_raise(f"the stage {name} starts programs, whose reads and results nothing checks: {', '.join(unknown)}")


def hashes(deps: list[str]) -> dict[str, list[tuple[Path, str]]]:
    """Return the files of each dep, a file or a folder, with their SHA-256; an empty list if it does not exist."""
    return {
        dep: [
            (path, hashlib.sha256(path.read_bytes()).hexdigest())
            for path in (sorted(Path(dep).rglob("*")) if Path(dep).is_dir() else [Path(dep)])
            if path.is_file()
        ]
        for dep in deps
    }


def sections(listed: list[str]) -> dict[str, Any]:
    """Return those of the `listed` sections that params.yaml has, as they are written there."""
    params = pipeline.load(Path("params.yaml")) if listed else {}
    return {name: params[name] for name in listed if isinstance(params, dict) and name in params}


def allowed(stage: Stage) -> list[str | Path]:
    """Return the files and folders that `stage` may read."""
    inits = [path for package in ("lenet", "stages") for path in Path(package).rglob("__init__.py")]
    listed = [*stage.deps, *stage.outputs, *NOT_DEPS, "stages/launch/numerics.py"]
    return [*listed, *inits, "dvc.yaml", "params.yaml", "requirements.lock"]


def warn_or_raise(message: str) -> None:
    """Warn about a problem that makes results untrustworthy; raise PipelineError instead if STAGES_STRICT is set."""
    if os.environ.get("STAGES_STRICT"):
        raise PipelineError(message)
    print(f"warning: {message}", file=sys.stderr)
