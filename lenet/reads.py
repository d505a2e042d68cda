"""Which files a process reads. Python tells of each that its own code opens.

What native code opens, and what a process started from here does, it does not see.
"""

import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path

# Where Python, its packages and the operating system have their files.
SYSTEM = [sys.prefix, sys.base_prefix, *(f"/{name}" for name in ("proc", "sys", "dev", "etc", "usr", "lib", "lib64"))]


def watch() -> set[str]:
    """Return a set to which the absolute path of every file is added that is opened for reading from now on."""
    opened: set[str] = set()

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes | os.PathLike) and int(str(flags)) & os.O_ACCMODE != os.O_WRONLY:
                opened.add(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100 - links are not followed

    sys.addaudithook(hear)
    return opened


def undeclared(opened: Iterable[str], declared: Iterable[Path | str]) -> list[Path]:
    """Return those of the files `opened` that are in none of the files and folders `declared`, nor the system's.

    A compiled module counts as its source. What no longer exists, and what never did, does not count.
    """
    allowed = [Path(place).absolute() for place in [*SYSTEM, *declared]]
    sources = {_source(path) for path in opened}
    return sorted(
        path for path in sources if path.is_file() and not any(path.is_relative_to(place) for place in allowed)
    )


def _source(path: str) -> Path:
    if path.endswith(".pyc"):
        try:
            return Path(importlib.util.source_from_cache(path))
        except ValueError:
            pass
    return Path(path)
