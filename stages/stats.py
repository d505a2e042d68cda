"""Stage stats: compute the mean and standard deviation of the training images."""

from lenet.data.moments import mean_and_std
from stages.artifacts import mnist, stats
from stages.launch.errors import not_a_script


def main() -> None:
    """Write metrics/stats.json."""
    mean, std = mean_and_std(mnist.read("train").images)
    print(f"mean {mean:.4f}, standard deviation {std:.4f} of pixels / 255")
    stats.write(mean, std)


if __name__ == "__main__":
    not_a_script(__file__)
