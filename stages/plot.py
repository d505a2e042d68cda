"""Stage plot: draw the data, the training and the errors."""

from stages.runner import run  # first, to note the sources before they are read

# isort: split
from pathlib import Path

import pandas as pd

from lenet import figures
from lenet.figures import PlotConfig
from stages import mnist, params
from stages.files import write


def main() -> None:
    """Write metrics/*.png."""
    config = params.read("plot", PlotConfig)
    figures.use_defaults()
    train, test = mnist.read("train"), mnist.read("t10k")
    history = pd.read_csv("models/history.csv")
    predictions = pd.read_csv("models/predictions.csv", index_col="index")
    for name, figure in {
        "samples": figures.samples(train.images, train.labels),
        "learning_curves": figures.learning_curves(history),
        "confusion": figures.confusion(predictions),
        "misread": figures.misread(test.images, predictions, config.misread),
    }.items():
        write(Path(f"metrics/{name}.png"), figures.png(figure, config))
        print(f"metrics/{name}.png")


if __name__ == "__main__":
    run(main)
