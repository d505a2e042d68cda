"""Record what a process reads, and which programs it starts.

Only files that Python itself opens and libraries that it loads are seen, not what native code or child processes open.
"""

import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path

# Where Python and its packages are.
PREFIXES = [Path(place) for prefix in (sys.prefix, sys.base_prefix) for place in (prefix, os.path.realpath(prefix))]
# What else of the system a stage may read. Links are followed, so what /proc/self/fd leads to counts.
SYSTEM = [
    *("/etc", "/usr", str(Path.home() / ".triton"), "/lib", "/lib64", "/sys", "/dev/null", "/dev/urandom"),
    *("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/driver"),
    *(f"/proc/{os.getpid()}/{name}" for name in ("status", "maps", "mounts", "cgroup", "stat")),
]
# The programs that a stage may start: npm for download, matplotlib's to find the system's fonts, Python's to find
# libraries, and the compilers of kernels for a GPU.
PROGRAMS = ["npm", "fc-list", "system_profiler", "ldconfig", "ld", "gcc", "cc", "clang", "ptxas", "uname"]


class Seen:
    """What a process has read and started, and the file that it opened last for writing."""

    def __init__(self) -> None:
        self.files: set[str] = set()  # absolute paths
        self.programs: set[str] = set()
        self.written: str | None = None

    def hook(self, event: str, arguments: tuple[object, ...]) -> None:
        """Take note of an event of sys.addaudithook."""
        path: object = None
        if event == "open" and int(str(arguments[2])) & os.O_ACCMODE != os.O_WRONLY:
            path = arguments[0]
        elif event == "open":
            self.written = str(arguments[0])
        elif event == "import" and str(arguments[1] or "").endswith(".so"):
            path = arguments[1]
        elif event == "ctypes.dlopen" and "/" in str(arguments[0]):
            path = arguments[0]
        elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"):
            self.programs.add(os.fsdecode(arguments[0]))  # type: ignore[arg-type]
        if isinstance(path, str | bytes | os.PathLike):
            self.files.add(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100 - links are followed at the end


def watch() -> Seen:
    """Return what this process reads and starts from now on."""
    seen = Seen()
    sys.addaudithook(seen.hook)
    return seen


def undeclared(opened: Iterable[str], declared: Iterable[Path | str]) -> list[Path]:
    """Return the files among `opened` that are neither in the files and folders `declared` nor part of the system.

    A compiled module counts as its source. Files that no longer exist are ignored.
    """
    allowed = [Path(place).absolute() for place in declared]
    allowed += [place.resolve() for place in allowed]
    sources = {_source(path) for path in opened}
    return sorted(path for path in sources if path.is_file() and not _is_allowed(path, allowed))


def _is_allowed(path: Path, declared: list[Path]) -> bool:
    root, real = Path.cwd(), path.resolve()
    if any(path.is_relative_to(place) for place in declared):
        return True
    # A project in a container may be below /usr; its .venv is in the project.
    inner = [prefix for prefix in PREFIXES if prefix.is_relative_to(root)]
    if real.is_relative_to(root.resolve()) and not any(path.is_relative_to(prefix) for prefix in inner):
        return False
    return any(real.is_relative_to(place) or path.is_relative_to(place) for place in PREFIXES) or any(
        real.is_relative_to(place) for place in SYSTEM
    )


def _source(path: str) -> Path:
    if path.endswith(".pyc"):
        try:
            return Path(importlib.util.source_from_cache(path))
        except ValueError:
            pass
    return Path(path)
