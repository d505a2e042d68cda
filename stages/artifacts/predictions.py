"""The predictions for the test set, models/predictions.csv: a row for each image, in order."""

from pathlib import Path

import numpy as np
import pandas as pd

from lenet.data.dataset import CLASSES
from lenet.errors import PipelineError
from stages.artifacts import tables

PATH = Path("models/predictions.csv")
COLUMNS = {"index": int, "actual": int, "predicted": int, "confidence": float}


def read() -> pd.DataFrame:
    """Return the table, indexed by `index`; raise PipelineError if it is missing or damaged."""
    table = tables.read(PATH, COLUMNS).set_index("index")
    classes = table[["actual", "predicted"]]
    if not (classes.isin(range(len(CLASSES))).all(axis=None) and table["confidence"].between(0, 1).all()):
        raise PipelineError(f"{PATH} is damaged: a value is not a class or not a probability; run dvc repro")
    return table


def write(actual: np.ndarray, predicted: np.ndarray, confidence: np.ndarray) -> None:
    """Write the table: for N images the labels, the predicted classes and their probabilities (0 to 1)."""
    columns = {"index": range(len(actual)), "actual": actual, "predicted": predicted, "confidence": confidence}
    tables.write(PATH, pd.DataFrame(columns), float_format="%.6f")
