"""Stage stats: the mean and standard deviation of the training images."""

from lenet.data.moments import mean_and_std
from lenet.errors import not_a_script
from stages.artifacts import mnist, stats


def main() -> None:
    """Write metrics/stats.json."""
    mean, std = mean_and_std(mnist.read("train").images)
    print(f"mean {mean:.4f}, standard deviation {std:.4f} of pixels / 255")
    stats.write(mean, std)


if __name__ == "__main__":
    not_a_script(__file__)
