"""How a command reports errors: one line for each on standard error, and an exit status."""

import errno
import sys
from pathlib import Path
from typing import NoReturn

from lenet.errors import PipelineError


def exit_with(error: PipelineError | OSError) -> NoReturn:
    """Print `error` to standard error, `error: ` before each line, and exit with its status (1 for an OSError)."""
    text = str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        text += "; free space there: dvc gc --workspace --all-commits removes old data and models from DVC's cache"
    for line in text.splitlines() or [type(error).__name__]:
        print(f"error: {line}", file=sys.stderr)
    sys.exit(error.status if isinstance(error, PipelineError) else 1)


def not_a_script(file: str) -> NoReturn:
    """Exit with an error that says how to run the stage in `file`; run directly, it would have no params or guard."""
    exit_with(PipelineError(f"run a stage with: python -m stages {Path(file).stem}"))
