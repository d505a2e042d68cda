"""Compare the installed packages with a lock file."""

from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement

from lenet.errors import PipelineError


def drift(lock: str) -> list[str]:
    """Return in words each package that `lock`, the text of a lock file, pins and that is not installed as it says.

    Only packages that are meant for this platform count. Packages beyond the lock file are no fault. Raises
    PipelineError for a line that pins nothing.
    """
    found = []
    for line in lock.splitlines():
        if not line[:1].isalnum():  # a comment, or one of the hashes
            continue
        try:
            wanted = Requirement(line.removesuffix("\\"))
        except InvalidRequirement as error:
            raise PipelineError(f"requirements.lock is damaged: {' '.join(str(error).split())}") from None
        if wanted.marker and not wanted.marker.evaluate():
            continue
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            version = ""
        if not version or wanted.specifier != f"=={version}":
            found.append(f"{wanted.name} {version or 'is missing'} instead of {str(wanted.specifier).lstrip('=')}")
    return found
