"""The launcher: `python -m stages NAME` runs a stage, as dvc.yaml does.

A stage is a function that reads files, computes and writes files. Everything around it is in stages/launch/: its
environment, its params, the guard that watches what it reads, and error messages.
"""

import importlib
import signal
import sys
from pathlib import Path
from typing import Any, cast

from lenet.errors import PipelineError
from stages.launch import environment
from stages.launch.errors import exit_with

ROOT = Path(__file__).resolve().parent.parent
RESTARTED = "--restarted"  # the launcher passes this to itself


def main() -> None:
    """Run the stage that the command line names."""
    # Ctrl-C prints no traceback, not even during imports; 130 is the status that shells report for it.
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    words = [word for word in sys.argv[1:] if word != RESTARTED]
    stages = sorted(path.stem for path in (ROOT / "stages").glob("[!_]*.py"))
    try:
        if len(words) != 1 or words[0] not in stages:
            given = repr(" ".join(words)) if words else "nothing"
            raise PipelineError(f"python -m stages is followed by {given}, but must be by one of {', '.join(stages)}")
        if Path.cwd() != ROOT:
            raise PipelineError(f"python -m stages was started in {Path.cwd()}, but must be in {ROOT}: go there first")
        if RESTARTED not in sys.argv:
            environment.restart(words[0], RESTARTED, words[0])
        run(words[0])
    except (PipelineError, OSError) as error:
        exit_with(error)
    except ModuleNotFoundError as error:
        if str(error.name).split(".")[0] in ("lenet", "stages"):
            raise
        message = f"{sys.executable} has no package {error.name}: type source .venv/bin/activate first, or use make"
        exit_with(PipelineError(message))


def run(name: str) -> None:
    """Run the stage `name` in this process."""
    # Here, because a missing package is reported by main.
    from stages.launch import params, pipeline
    from stages.launch.guard import guard

    if sys.stdout:
        cast(Any, sys.stdout).reconfigure(line_buffering=True)  # each line appears at once, in a log file, too
    stages = pipeline.read(Path())
    if name not in stages:
        raise PipelineError(f"dvc.yaml has no stage {name}, but {', '.join(stages)}: add it there")
    with guard(name, stages[name]) as sections, environment.scratch():
        function = getattr(importlib.import_module(f"stages.{name}"), "main", None)
        if function is None:
            raise PipelineError(f"stages/{name}.py has no function main")
        function(**params.arguments(name, function, stages[name].params, sections))


if __name__ == "__main__":
    main()
