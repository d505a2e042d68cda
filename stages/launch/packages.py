"""Compare the installed packages with a lock file."""

from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement

from lenet.errors import PipelineError


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
        if wanted.marker and not wanted.marker.evaluate():
            continue
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            version = ""
        if not version or wanted.specifier != f"=={version}":
            found.append(f"{wanted.name} {version or 'is missing'} instead of {str(wanted.specifier).lstrip('=')}")
    return found
