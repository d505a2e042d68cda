"""Stage download: download the four MNIST files and verify their checksums."""

import os
from pathlib import Path

from lenet.data import sources
from lenet.data.dataset import FILES, TITLE
from lenet.errors import PipelineError
from stages.artifacts import files, mnist
from stages.launch.errors import not_a_script


def main() -> None:
    """Write data/mnist and metrics/download.json; valid files that are already there are kept."""
    if mnist.FOLDER.exists() and not mnist.FOLDER.is_dir():
        raise PipelineError(f"{mnist.FOLDER} is not a folder: move it elsewhere")
    mnist.FOLDER.mkdir(parents=True, exist_ok=True)
    if strangers := sorted(path.name for path in mnist.FOLDER.iterdir() if path.name not in FILES or path.is_dir()):
        raise PipelineError(f"{mnist.FOLDER} contains {', '.join(strangers)}, not part of {TITLE}: move it elsewhere")
    missing = [name for name in FILES if not _is_valid(mnist.FOLDER / name)]
    for name in missing:  # never leave an invalid file where the next stage would read it
        (mnist.FOLDER / name).unlink(missing_ok=True)
    if missing:
        _fetch(missing)
    train, test = mnist.read("train"), mnist.read("t10k")
    files.write_json(
        Path("metrics/download.json"),
        {"train": {"images": len(train.images)}, "test": {"images": len(test.images)}},
    )


def _is_valid(path: Path) -> bool:
    try:
        sources.check(path.name, path.read_bytes())
    except (PipelineError, OSError):
        return False
    return True


def _fetch(names: list[str]) -> None:
    """Write the files `names`, each from the first source that has it; print where each came from."""
    missing = list(names)
    for source in _sources():
        try:
            for name in list(missing):
                files.write(mnist.FOLDER / name, source.fetch(name))
                print(f"{mnist.FOLDER / name} from {source}")
                missing.remove(name)
        except PipelineError as error:
            print(f"failed: {source}: {error}")
        if not missing:
            return
    raise PipelineError(
        f"no source has the files of {TITLE}: download them (plain or .gz) by other means into a folder outside "
        f"{mnist.FOLDER}, set MNIST_MIRROR to its absolute path and run again",
        status=1,
    )


def _sources() -> list[sources.Source]:
    # The source changes no result, so it is an environment variable and not a param.
    mirror = os.environ.get("MNIST_MIRROR")
    return ([sources.named(mirror)] if mirror else []) + sources.public()


if __name__ == "__main__":
    not_a_script(__file__)
