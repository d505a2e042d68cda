"""Tables as CSV files."""

import io
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from lenet.errors import PipelineError
from stages.artifacts import files


def read(path: Path, columns: Mapping[str, type]) -> pd.DataFrame:
    """Return the table in `path` with `columns` of the given types; raise PipelineError if they are not there."""
    try:
        return pd.read_csv(io.BytesIO(files.read(path, "run dvc repro")), usecols=list(columns), dtype=dict(columns))
    except ValueError as error:
        raise PipelineError(f"{path} is damaged: {' '.join(str(error).split())}; run dvc repro") from None


def write(path: Path, table: pd.DataFrame, float_format: str | None = None) -> None:
    """Write `table` without its index; equal tables give equal bytes."""
    files.write(path, table.to_csv(index=False, float_format=float_format, lineterminator="\n").encode())
