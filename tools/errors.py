"""How the tools report errors: a line for each on standard error, and an exit status."""

import sys
from collections.abc import Callable
from typing import NoReturn


class ToolError(Exception):
    """An error that is reported to the user without a traceback.

    The message says what is wrong and what to do. `status` is the exit status: 2 for a user's mistake, 1 for any other
    failure.
    """

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.status = status


def run(main: Callable[[], int | None]) -> NoReturn:
    """Call `main` and exit with the status that it returns, or report the error that it raises.

    That is an OSError, an exception that has a `status`, as ToolError and a project's own exceptions have, or one of
    DVC's, say of a broken .dvc/config.
    """
    try:
        sys.exit(main())
    except Exception as error:
        dvc = sys.modules.get("dvc.exceptions")  # not imported here, because that takes a while
        by_dvc = dvc is not None and isinstance(error, dvc.DvcException)
        if not isinstance(error, OSError) and not hasattr(error, "status") and not by_dvc:
            raise
        for line in str(error).splitlines() or [type(error).__name__]:
            print(f"error: {'DVC: ' if by_dvc else ''}{line}", file=sys.stderr)
        sys.exit(getattr(error, "status", 2 if by_dvc else 1))
