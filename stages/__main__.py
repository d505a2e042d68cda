"""The launcher: `python -m stages NAME` runs a stage, as dvc.yaml does.

A stage is a function that reads files, computes and writes files. Everything around it is in stages/launch/: its
environment, its params, the guard that watches what it reads, and error messages.
"""

import importlib
import re
import signal
import sys
from pathlib import Path
from typing import Any, cast

from lenet.errors import PipelineError
from stages.launch import environment, git
from stages.launch.errors import exit_with

ROOT = Path(__file__).resolve().parent.parent
RESTARTED = "--restarted"  # the launcher passes this to itself


def main() -> None:
    """Run the stage that the command line names."""
    # Ctrl-C prints no traceback, not even during imports; 130 is the status that shells report for it.
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    names = [word for word in sys.argv[1:] if word != RESTARTED]
    stages = sorted(path.stem for path in (ROOT / "stages").glob("[!_]*.py"))
    try:
        if len(names) != 1 or names[0] not in stages:
            given = repr(" ".join(names)) if names else "nothing"
            raise PipelineError(f"python -m stages takes one of {', '.join(stages)}, not {given}")
        if Path.cwd() != ROOT:
            raise PipelineError(f"python -m stages must be run in {ROOT}, not in {Path.cwd()}")
        if RESTARTED not in sys.argv:
            git.check_params()
            environment.restart(names[0], RESTARTED)
        run(names[0])
    except (PipelineError, OSError) as error:
        exit_with(error)
    except (MemoryError, RuntimeError) as error:
        reason = (str(error).splitlines() or ["MemoryError"])[0]
        if not isinstance(error, MemoryError) and not re.search("out of memory|can't allocate memory", reason):
            raise
        advice = "lower train.batch_size, or, if the GPU is full, set compute.device to cpu"
        exit_with(PipelineError(f"there is not enough memory ({reason}): {advice}", status=1))
    except ModuleNotFoundError as error:
        if str(error.name).split(".")[0] in ("lenet", "stages"):
            raise
        message = f"{sys.executable} can't find {error.name}: run source .venv/bin/activate first, or use make"
        exit_with(PipelineError(message))


def run(name: str) -> None:
    """Run the stage `name` in this process."""
    from stages.launch import source

    source.only(ROOT)
    # Imported here so that main can report a missing package.
    from stages.launch import params, pipeline
    from stages.launch.guard import guard

    if sys.stdout:
        cast(Any, sys.stdout).reconfigure(line_buffering=True)  # show each line immediately, even in a log file
    stages = pipeline.read(Path())
    if name not in stages:
        raise PipelineError(f"dvc.yaml has no stage {name}: add it (it has {', '.join(stages)})")
    with guard(name, stages[name]) as sections, environment.scratch():
        function = getattr(importlib.import_module(f"stages.{name}"), "main", None)
        if function is None:
            raise PipelineError(f"stages/{name}.py has no function main")
        function(**params.arguments(name, function, stages[name].params, sections))


if __name__ == "__main__":
    main()
