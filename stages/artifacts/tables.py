"""Tables as CSV files."""

import io
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from lenet.errors import PipelineError
from stages.artifacts import files


def read(path: Path, columns: Mapping[str, type]) -> pd.DataFrame:
    """Return `columns`, names and types, of the table in `path`; raise PipelineError if it is missing or damaged."""
    return parse(files.read(path, "run dvc repro"), path, columns)


def parse(data: bytes, path: Path, columns: Mapping[str, type] | None = None, status: int = 2) -> pd.DataFrame:
    """Return `columns`, or all, of the table in `data`, the content of `path`; raise PipelineError with `status`."""
    try:
        return pd.read_csv(io.BytesIO(data), usecols=columns and list(columns), dtype=columns)
    except ValueError as error:
        raise PipelineError(f"{path} is damaged: {' '.join(str(error).split())}; run dvc repro", status) from None


def write(path: Path, table: pd.DataFrame, float_format: str | None = None) -> None:
    """Write `table` without its index; equal tables give equal bytes."""
    files.write(path, table.to_csv(index=False, float_format=float_format, lineterminator="\n").encode())
