"""Stage stats: the mean and standard deviation of the training images."""

from stages.runner import run  # first, to note the sources before they are read

# isort: split
from pathlib import Path

from lenet.moments import mean_and_std
from stages import mnist
from stages.files import write_json


def main() -> None:
    """Write metrics/stats.json."""
    mean, std = mean_and_std(mnist.read("train").images)
    print(f"mean {mean:.4f}, standard deviation {std:.4f} of pixels / 255")
    write_json(Path("metrics/stats.json"), {"mean": mean, "std": std})


if __name__ == "__main__":
    run(main)
