"""Record which files a process reads.

Only files that Python itself opens are seen, not those opened by native code or child processes.
"""

import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path

# Where Python, its packages and the operating system keep their files.
PREFIXES = [place for prefix in (sys.prefix, sys.base_prefix) for place in (prefix, os.path.realpath(prefix))]
SYSTEM = [*PREFIXES, *(f"/{name}" for name in ("proc", "sys", "dev", "etc", "usr", "lib", "lib64"))]


def watch() -> set[str]:
    """Return a set that collects the absolute path of every file opened for reading from now on."""
    opened: set[str] = set()

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes | os.PathLike) and int(str(flags)) & os.O_ACCMODE != os.O_WRONLY:
                opened.add(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100 - links are not followed

    sys.addaudithook(hook)
    return opened


def undeclared(opened: Iterable[str], declared: Iterable[Path | str]) -> list[Path]:
    """Return the files among `opened` that are neither in the files and folders `declared` nor part of the system.

    A compiled module counts as its source. Files that no longer exist are ignored.
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
