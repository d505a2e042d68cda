"""Stage evaluate: score every image once, with the trained model."""

from stages.runner import run  # first, to note the sources before they are read

# isort: split
from pathlib import Path

import pandas as pd
import torch

from lenet.calibration import EvaluateConfig
from lenet.compute import ComputeConfig, prepare
from lenet.evaluate import confidences, report
from lenet.folds import SplitConfig, split
from lenet.score import predict
from stages import mnist, model_file, params
from stages.files import write, write_json


def main() -> None:
    """Write metrics/evaluate.json and models/predictions.csv."""
    config = params.read("evaluate", EvaluateConfig)
    split_config = params.read("split", SplitConfig)
    device = prepare(params.read("compute", ComputeConfig))
    model = model_file.read().to(device)

    logits, labels = {}, {}
    for part in ("train", "t10k"):
        digits = mnist.read(part)
        images = torch.tensor(digits.images, device=device).unsqueeze(1)  # N×1×28×28
        logits[part] = predict(model, images).cpu()
        labels[part] = torch.tensor(digits.labels).long()

    train, val = (torch.from_numpy(index) for index in split(len(labels["train"]), split_config))
    metrics = {"train": report(logits["train"][train], labels["train"][train], config)}
    if len(val):
        metrics["val"] = report(logits["train"][val], labels["train"][val], config)
    metrics["test"] = report(logits["t10k"], labels["t10k"], config)
    for part, values in metrics.items():
        print(f"{part:5} accuracy {values['accuracy']:.2%}  loss {values['loss']:.4f}  errors {values['errors']}")

    confidence, predicted = confidences(logits["t10k"])
    predictions = pd.DataFrame({"actual": labels["t10k"], "predicted": predicted, "confidence": confidence})
    csv = predictions.to_csv(index_label="index", float_format="%.6f", lineterminator="\n")
    write(Path("models/predictions.csv"), csv.encode())
    write_json(Path("metrics/evaluate.json"), metrics)


if __name__ == "__main__":
    run(main)
