"""Stage download: bring the four MNIST files into data/mnist, whole and right."""

from stages.runner import run  # first, to note the sources before they are read

# isort: split
import os
from pathlib import Path

from lenet import mirrors
from lenet.checksums import FILES
from lenet.errors import PipelineError
from stages import mnist
from stages.files import write, write_json


def main() -> None:
    """Fetch what is missing, source by source; describe the data in metrics/download.json."""
    missing = [name for name in FILES if not _is_valid(mnist.FOLDER / name)]
    for name in missing:  # never leave what is wrong where the next stage would read it
        (mnist.FOLDER / name).unlink(missing_ok=True)
    failures = []
    for source in _sources():
        if not missing:
            break
        try:
            while missing:
                write(mnist.FOLDER / missing[0], source.fetch(missing[0]))
                print(f"{mnist.FOLDER / missing.pop(0)} from {source}")
        except PipelineError as error:
            failures.append(f"{source}: {error}")
            print(f"not from {failures[-1]}")
    if missing:
        raise PipelineError(
            f"no source has {', '.join(missing)}. Tried: {'; '.join(failures)}. "
            f"Fetch the files of MNIST (plain or .gz) by any means into a folder outside {mnist.FOLDER}, "
            "set MNIST_MIRROR to its absolute path and run again",
            status=1,
        )
    if strangers := sorted({path.name for path in mnist.FOLDER.iterdir()} - set(FILES)):
        raise PipelineError(f"{mnist.FOLDER} holds {', '.join(strangers)}, which is not MNIST's: move it elsewhere")
    train, test = mnist.read("train"), mnist.read("t10k")
    write_json(
        Path("metrics/download.json"),
        {"train": {"images": len(train.images)}, "test": {"images": len(test.images)}},
    )


def _is_valid(path: Path) -> bool:
    try:
        mirrors.check(path.name, path.read_bytes())
    except (PipelineError, OSError):
        return False
    return True


def _sources() -> list[mirrors.Source]:
    # Where the same bytes come from changes no result, so it is a variable of the environment and no param.
    mirror = os.environ.get("MNIST_MIRROR")
    return ([mirrors.named(mirror)] if mirror else []) + mirrors.public()


if __name__ == "__main__":
    run(main)
