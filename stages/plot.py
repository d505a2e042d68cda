"""Stage plot: draw the data, the training, the errors and the network."""

from stages.runner import run  # first, to note the sources before they are read

# isort: split
import io
from pathlib import Path

import pandas as pd
import torch

from lenet import figures
from lenet.calibration import EvaluateConfig, reliability
from lenet.errors import PipelineError
from lenet.figures import PlotConfig
from stages import mnist, model_file, params
from stages.files import read, write

_HISTORY = {"epoch": int, "lr": float} | {f"{p}_{m}": float for p in ("train", "val") for m in ("loss", "accuracy")}
_PREDICTIONS = {"index": int, "actual": int, "predicted": int, "confidence": float}


@torch.no_grad()
def main() -> None:
    """Write metrics/*.png."""
    config = params.read("plot", PlotConfig)
    evaluate_config = params.read("evaluate", EvaluateConfig)
    figures.use_defaults()
    train, test = mnist.read("train"), mnist.read("t10k")
    if config.digit >= len(test.images):
        raise PipelineError(f"plot.digit is {config.digit}, but there are {len(test.images)} test images, from 0")
    history = _table(Path("models/history.csv"), _HISTORY)
    predictions = _table(Path("models/predictions.csv"), _PREDICTIONS).set_index("index")
    correct = predictions["actual"] == predictions["predicted"]
    bins = reliability(predictions["confidence"].to_numpy(), correct.to_numpy(), evaluate_config)
    model = model_file.read()
    digit, label = test.images[config.digit], test.labels[config.digit]
    activations = model.activations(torch.tensor(digit)[None, None])
    for name, figure in {
        "samples": figures.samples(train.images, train.labels, test.labels),
        "tensor": figures.tensor(digit, label, config.digit),
        "learning_curves": figures.learning_curves(history),
        "confusion": figures.confusion(predictions),
        "misread": figures.misread(test.images, predictions, config.misread),
        "calibration": figures.calibration(bins),
        "filters": figures.filters(model.C1.weight[:, 0].numpy()),
        "feature_maps": figures.feature_maps(
            digit, {layer: activations[layer][0].relu().numpy() for layer in ("C1", "S2", "C3", "S4")}
        ),
    }.items():
        write(Path(f"metrics/{name}.png"), figures.png(figure, config))
        print(f"metrics/{name}.png")


def _table(path: Path, columns: dict[str, type]) -> pd.DataFrame:
    try:
        return pd.read_csv(io.BytesIO(read(path, "run dvc repro")), usecols=list(columns), dtype=columns)
    except ValueError as error:
        raise PipelineError(f"{path} is damaged: {' '.join(str(error).split())}; run dvc repro") from None


if __name__ == "__main__":
    run(main)
