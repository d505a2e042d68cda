"""The one exception that is turned into one line and an exit status."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


class PipelineError(Exception):
    """Something that the user can understand and act on.

    The message is a line that says what is wrong, what was found, what is allowed and what to do; or several such
    lines. `status` is the exit status: 2 for a mistake of the user, 1 for a failure that they did not cause.
    """

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.status = status


def exit_with(error: PipelineError | OSError) -> NoReturn:
    """Print `error` to standard error, `error: ` before each line, and exit with its status (1 for an OSError)."""
    for line in str(error).splitlines() or [type(error).__name__]:
        print(f"error: {line}", file=sys.stderr)
    sys.exit(error.status if isinstance(error, PipelineError) else 1)


def run(main: Callable[[], int | None]) -> NoReturn:
    """Call `main` and exit with the status that it returns; what it raises for the user ends as in `exit_with`."""
    try:
        sys.exit(main())
    except (PipelineError, OSError) as error:
        exit_with(error)


def not_a_script(file: str) -> NoReturn:
    """Exit with what to type instead of running `file`, that of a stage: alone it has no params and no guard."""
    exit_with(PipelineError(f"a stage is started as: python -m stages {Path(file).stem}"))
