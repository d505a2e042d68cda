"""Stage evaluate: evaluate the model on the validation and test images."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from lenet.compute import ComputeConfig, prepare
from lenet.data import folds
from lenet.data.folds import SplitConfig
from lenet.evaluation import EvaluateConfig, calibration_error, confidences, reliability, scores
from lenet.model import LeNet5, predict
from lenet.numerics import fingerprint_of_evaluation
from stages.artifacts import files, mnist, model, predictions, tables
from stages.launch.errors import not_a_script


def main(split: SplitConfig, compute: ComputeConfig, evaluate: EvaluateConfig) -> None:
    """Write metrics/evaluate.json, metrics/confusion.csv and models/predictions.csv."""
    device = prepare(compute)
    lenet5 = model.read().to(device)
    train, test = mnist.read("train"), mnist.read("t10k")
    metrics: dict[str, Any] = {}

    _, val = folds.split(len(train.images), split)
    if len(val):
        metrics["val"], *_ = _score(lenet5, train.images[val], train.labels[val], device, compute.threads, evaluate)
    metrics["test"], predicted, confidence = _score(lenet5, test.images, test.labels, device, compute.threads, evaluate)

    for part, values in metrics.items():
        print(f"{part:4}  accuracy {values['accuracy']:.2%}  loss {values['loss']:.4f}")
    predictions.write(test.labels, predicted, confidence)
    classes = pd.DataFrame({"actual": test.labels, "predicted": predicted})
    tables.write(Path("metrics/confusion.csv"), classes.value_counts().sort_index().reset_index(name="count"))
    metrics["numerics"] = [fingerprint_of_evaluation(device)]  # DVC leaves lists out of its tables
    files.write_json(Path("metrics/evaluate.json"), metrics)


def _score(
    lenet5: LeNet5, images: np.ndarray, labels: np.ndarray, device: torch.device, threads: int, config: EvaluateConfig
) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
    logits = predict(lenet5, torch.tensor(images, device=device).unsqueeze(1), threads).cpu()
    confidence, predicted = confidences(logits)
    error = calibration_error(reliability(confidence, predicted == labels, config))
    return scores(logits, torch.tensor(labels).long()) | {"calibration_error": error}, predicted, confidence


if __name__ == "__main__":
    not_a_script(__file__)
