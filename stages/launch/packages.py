"""Compare the installed packages with a lock file: `python -m stages.launch.packages FILE`."""

import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from lenet.errors import PipelineError

# The beginnings of the names of packages that only PyTorch's builds for GPUs need.
CUDA = ("cuda-", "nvidia-", "triton")


def drift(lock: str) -> list[str]:
    """Describe each package that is missing or whose version differs from `lock`, the text of a lock file.

    Packages for other platforms are ignored, and so are installed packages that are not in the lock file. Raises
    PipelineError for a line that is not a requirement.
    """
    found = []
    for line in lock.splitlines():
        if not line[:1].isalnum():  # a comment, or one of the hashes
            continue
        try:
            wanted = Requirement(line.removesuffix("\\"))
        except InvalidRequirement as error:
            raise PipelineError(f"requirements.lock is damaged: {' '.join(str(error).split())}") from None
        version = _version(wanted.name)
        if wanted.marker and not wanted.marker.evaluate():
            continue
        if not version and wanted.name.startswith(CUDA) and _version("torch").endswith("+cpu"):
            continue
        # 2.14.1+cpu is a build of 2.14.1.
        if not version or not wanted.specifier.contains(version, prereleases=True):
            found.append(f"{wanted.name} {version or 'is missing'} instead of {str(wanted.specifier).lstrip('=')}")
    return found


def _version(name: str) -> str:
    """Return the version of an installed package, or ""."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


if __name__ == "__main__":
    if found := drift(Path(sys.argv[1]).read_text()):
        where = "pip may be configured to install elsewhere (python -m pip config list)"
        sys.exit(f"error: {sys.prefix} lacks packages of {sys.argv[1]}: {', '.join(found)}; {where}")
