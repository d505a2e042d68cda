"""Check that PyTorch's wheels run on this Python and machine; `make` does so before it creates .venv."""

import platform
import sys


def objection() -> "str | None":
    """Return in a line why they don't, or None. Old versions of Python must understand this file, too."""
    libc, version = platform.libc_ver()
    if sys.version_info < (3, 11):  # noqa: UP036
        found = "{}.{}".format(*sys.version_info)
        return f"Python 3.11 or newer is needed, but this is {found}: choose another, as in make PYTHON=python3.12"
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        return "PyTorch no longer supports Macs with Intel processors: use Linux, or a Mac with an Apple processor"
    if sys.platform == "linux" and libc != "glibc":
        return "PyTorch needs glibc, which this Linux does not have: use another, such as Debian instead of Alpine"
    if sys.platform == "linux" and [int(part) for part in version.split(".")] < [2, 28]:
        return f"PyTorch needs glibc 2.28 or newer, but this is {version}: use a newer Linux"
    return None


if __name__ == "__main__":
    sys.exit(objection())
