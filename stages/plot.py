"""Stage plot: plot the data, the learning curves, the errors and what the network computes."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from lenet import figures
from lenet.errors import PipelineError
from lenet.evaluation import EvaluateConfig, reliability
from lenet.figures import PlotConfig
from lenet.layers import layers
from stages.artifacts import files, history, mnist, model, predictions
from stages.launch.errors import not_a_script


@torch.no_grad()
def main(evaluate: EvaluateConfig, plot: PlotConfig) -> None:
    """Write metrics/*.png."""
    figures.use_defaults()
    train, test = mnist.read("train"), mnist.read("t10k")
    if plot.digit >= len(test.images):
        raise PipelineError(f"plot.digit is {plot.digit}, but there are only {len(test.images)} test images")
    digit, label = test.images[plot.digit], test.labels[plot.digit]
    predicted = predictions.read()
    correct = predicted["actual"] == predicted["predicted"]
    bins = reliability(predicted["confidence"].to_numpy(), correct.to_numpy(), evaluate)
    lenet5 = model.read()
    image = torch.tensor(digit)[None, None]
    found = layers(lenet5, torch.tensor(digit))
    probabilities = lenet5(image)[0].softmax(0).numpy()
    name, first = found[0].modules[0]
    kernels = responses = np.empty((0, 1, 1))
    if isinstance(first, nn.Conv2d) and first.in_channels == 1:
        kernels, responses = first.weight[:, 0].numpy(), first(lenet5.standardise(image))[0].numpy()

    drawn = {
        Path("metrics/samples.png"): figures.samples(train.images, train.labels, test.labels),
        Path("metrics/tensor.png"): figures.tensor(digit, label, plot.digit),
        Path("metrics/learning_curves.png"): figures.learning_curves(history.read()),
        Path("metrics/confusion.png"): figures.confusion(predicted),
        Path("metrics/misread.png"): figures.misread(test.images, predicted, plot.misread),
        Path("metrics/calibration.png"): figures.calibration(bins),
        Path("metrics/filters.png"): figures.filters(digit, name, kernels, responses),
        Path("metrics/feature_maps.png"): figures.feature_maps(digit, found, probabilities),
    }
    for path, figure in drawn.items():
        files.write(path, figures.png(figure, plot))
        print(path)


if __name__ == "__main__":
    not_a_script(__file__)
