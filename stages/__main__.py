"""The launcher: `python -m stages NAME` runs a stage as dvc.yaml does.

A stage itself only reads files, computes and writes files. All else happens here: its environment, its params, Ctrl-C,
errors, and two guards. DVC hashes code, data and params after a stage has run, and would record an edit made in the
meantime as if it had been used: the first guard hashes what dvc.yaml lists before the stage is imported and at its end,
and fails the stage if anything has changed. And DVC believes that a stage reads what dvc.yaml lists: the second guard
notes what it opens, and names at its end what is not listed.
"""

import hashlib
import importlib
import os
import signal
import sys
import tempfile
import typing
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NoReturn

from lenet import reads
from lenet.errors import PipelineError, exit_with

# The variables of the user's environment that reach a stage (* stands for any characters). Besides, a stage has those
# that lenet/arithmetic.py sets, and no others: so no others can change a result.
PASSED = [
    *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"),
    *("LANG", "LC_*", "TERM", "COLUMNS", "LINES"),
    "STAGES_PROCESSOR",  # settings that replace those of lenet/arithmetic.py, to try what another processor gives
    "STAGES_STRICT",  # whether what is only a warning otherwise fails the stage, as `make verify` and the tests want it
]
# What leads a stage to the network changes no result either: the data set is known by its checksums.
PASSED_TO = {
    "download": [
        *("MNIST_MIRROR", "*_proxy", "*_PROXY", "npm_*", "NPM_*", "NODE_*"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    ],
}
ROOT = Path(__file__).resolve().parent.parent
# Code that no dep has to be: it only starts a stage, reads its params, watches it or words an error.
NO_INPUTS = [
    *("lenet/checking.py", "lenet/errors.py", "lenet/packages.py", "lenet/reads.py", "lenet/yaml12.py"),
    "stages/__main__.py",
]
CLEAN = "--in-its-own-environment"  # with this word the launcher starts itself


def main() -> None:
    """Run the stage that the command line names."""
    # Ctrl-C prints no traceback, also while a stage's modules are imported; 130 is what shells report for it.
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    words = [word for word in sys.argv[1:] if word != CLEAN]
    stages = sorted(path.stem for path in (ROOT / "stages").glob("[!_]*.py"))
    try:
        if len(words) != 1 or words[0] not in stages:
            found = repr(" ".join(words)) if words else "nothing"
            raise PipelineError(f"python -m stages is followed by {found}, but must be by one of {', '.join(stages)}")
        if Path.cwd() != ROOT:
            raise PipelineError(f"python -m stages was started in {Path.cwd()}, but must be in {ROOT}: go there first")
        if CLEAN in sys.argv:
            run(words[0])
        else:
            start_anew(words[0])
    except (PipelineError, OSError) as error:
        exit_with(error)
    except ModuleNotFoundError as error:
        if str(error.name).split(".")[0] in ("lenet", "stages"):
            raise
        message = f"{sys.executable} has no package {error.name}: type source .venv/bin/activate first, or use make"
        exit_with(PipelineError(message))


def start_anew(stage: str) -> NoReturn:
    """Replace this process by one that runs `stage` in an environment of its own.

    Changing os.environ would come too late for what Python itself and the C library have read.
    """
    patterns = PASSED + PASSED_TO.get(stage, [])
    passed = {key: value for key, value in os.environ.items() if any(fnmatchcase(key, name) for name in patterns)}
    # Until the new process is ready for it, Ctrl-C waits.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    # -s: no packages of the user's own; utf8: the same text everywhere.
    command = [sys.executable, "-s", "-X", "utf8", "-m", "stages", CLEAN, stage]
    os.execve(sys.executable, command, passed | processor())  # noqa: S606 - no shell is meant


def processor() -> dict[str, str]:
    """Return the variables that decide how this process computes, if it was started with them."""
    from lenet import arithmetic  # a dep, as nothing is that is imported above

    replaced = os.environ.get("STAGES_PROCESSOR", "").split()
    return arithmetic.environment() | {name: value for name, _, value in (pair.partition("=") for pair in replaced)}


def run(stage: str) -> None:
    """Run `stage` in this process, between two looks at all that it reads."""
    if sys.stdout:
        typing.cast(Any, sys.stdout).reconfigure(line_buffering=True)  # in a log file, too, each line appears at once
    opened = reads.watch()
    entry = entry_of(stage)
    deps, listed = entry.get("deps") or [], entry.get("params") or []
    before, params = hashes(deps), sections(listed)
    check_packages(deps)
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/tmp")) as folder:  # noqa: S108
        tempfile.tempdir = folder
        os.environ["MPLCONFIGDIR"] = folder  # matplotlib would read what lies in the user's
        function = getattr(importlib.import_module(f"stages.{stage}"), "main", None)
        if function is None:
            raise PipelineError(f"stages/{stage}.py has no function main")
        function(**arguments(stage, function, listed, params))
        # What the network brings is known by its checksums, wherever it lay.
        strangers = [] if stage in PASSED_TO else reads.undeclared(opened, [*declared(entry), folder])
    changed = [dep for dep, found in hashes(deps).items() if found != before[dep]]
    # As text, because to Python 1, 1.0 and true are equal.
    after = sections(listed)
    changed += [f"params.yaml: {name}" for name in listed if repr(after.get(name)) != repr(params.get(name))]
    if not processor().items() <= os.environ.items():  # with these this process was started
        changed.append("lenet/arithmetic.py")
    if changed:
        raise PipelineError(f"{', '.join(changed)} changed while the stage ran; run it again")
    if strangers:
        complain(f"the stage {stage} reads what its deps in dvc.yaml do not hold: {', '.join(map(str, strangers))}")


def entry_of(stage: str) -> dict[str, Any]:
    """Return what dvc.yaml says of `stage`."""
    content = _yaml("dvc.yaml")
    entries = content.get("stages") if isinstance(content, dict) else None
    if not isinstance(entries, dict) or not isinstance(entries.get(stage), dict):
        names = ", ".join(map(str, entries)) if isinstance(entries, dict) else "none"
        raise PipelineError(f"dvc.yaml has no stage {stage}, but {names}: add it there")
    return dict(entries[stage])


def check_packages(deps: list[str]) -> None:
    """Complain if the installed packages are not those of requirements.lock, for a stage that depends on it."""
    from lenet import packages  # here, where a missing package is told in one line

    if "requirements.lock" in deps and (drift := packages.drift(Path("requirements.lock").read_text())):
        complain(f"not the packages of requirements.lock: {', '.join(drift)}; make installs them")


def declared(entry: dict[str, Any]) -> list[str | Path]:
    """Return what a stage with this entry in dvc.yaml may read: deps, its own outputs, and what is no input."""
    outputs = [out for kind in ("outs", "metrics", "plots") for out in entry.get(kind) or []]
    paths = [path for out in outputs for path in ([out] if isinstance(out, str) else out)]
    packages = [path for room in ("lenet", "stages") for path in Path(room).rglob("__init__.py")]
    return [*(entry.get("deps") or []), *paths, *packages, *NO_INPUTS, "dvc.yaml", "params.yaml", "requirements.lock"]


def complain(message: str) -> None:
    """Warn of what makes results untrustworthy; raise PipelineError instead where STAGES_STRICT is set."""
    if os.environ.get("STAGES_STRICT"):
        raise PipelineError(message)
    print(f"warning: {message}", file=sys.stderr)


def hashes(deps: list[str]) -> dict[str, list[tuple[Path, str]]]:
    """Return for each dep, a file or a folder, its files and their hashes; none where it does not exist."""
    return {
        dep: [
            (path, hashlib.sha256(path.read_bytes()).hexdigest())
            for path in (sorted(Path(dep).rglob("*")) if Path(dep).is_dir() else [Path(dep)])
            if path.is_file()
        ]
        for dep in deps
    }


def sections(listed: list[str]) -> dict[str, Any]:
    """Return those of the `listed` sections that params.yaml has, as they stand there."""
    params = _yaml("params.yaml") if listed else {}
    return {name: params[name] for name in map(str, listed) if isinstance(params, dict) and name in params}


def arguments(stage: str, function: Any, listed: list[str], params: dict[str, Any]) -> dict[str, Any]:
    """Return the sections `params` as typed and checked arguments for `function`, the main of `stage`."""
    types = {name: kind for name, kind in typing.get_type_hints(function).items() if name != "return"}
    if sorted(types) != sorted(map(str, listed)):
        raise PipelineError(
            f"dvc.yaml lists the params {', '.join(map(str, listed)) or 'none'} for the stage {stage}, but main in "
            f"stages/{stage}.py takes {', '.join(types) or 'none'}: they must be the same"
        )
    if not types:
        return {}
    from lenet.checking import check  # stages without params need not wait for pydantic

    return check(params, types, "params.yaml")


def _yaml(name: str) -> Any:
    from lenet import yaml12  # here, where a missing package is told in one line

    try:
        data = Path(name).read_bytes()
    except OSError as error:
        raise PipelineError(f"{name} can't be read: {error.strerror}; git checkout {name} brings it back") from None
    return yaml12.load(data, name)


if __name__ == "__main__":
    main()
