"""The learning curves, metrics/history.csv: a row for each epoch, as `lenet.training.fit` yields them."""

from pathlib import Path

import pandas as pd

from stages.artifacts import tables

PATH = Path("metrics/history.csv")
COLUMNS = {
    "epoch": int,
    "lr": float,
    "train_loss": float,
    "train_accuracy": float,
    "val_loss": float,
    "val_accuracy": float,
}


def read() -> pd.DataFrame:
    """Return the table, with NaN where there was no validation; raise PipelineError if it is missing or damaged."""
    return tables.read(PATH, COLUMNS)


def write(history: pd.DataFrame) -> None:
    """Write the table."""
    tables.write(PATH, history)
