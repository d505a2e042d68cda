"""The mean and standard deviation of the training images' pixels / 255, metrics/stats.json."""

import math
from pathlib import Path

from lenet.errors import PipelineError
from stages.artifacts import files

PATH = Path("metrics/stats.json")


def read() -> tuple[float, float]:
    """Return the mean and standard deviation; raise PipelineError if the file is missing or damaged."""
    stats = files.read_json(PATH, "run dvc repro stats")
    try:
        mean, std = float(stats["mean"]), float(stats["std"])
    except (ValueError, KeyError, TypeError, OverflowError):
        mean, std = math.nan, math.nan
    if not (math.isfinite(mean) and 0 < std < math.inf):
        raise PipelineError(f"{PATH} has no valid mean and standard deviation; run dvc repro stats")
    return mean, std


def write(mean: float, std: float) -> None:
    """Write mean and standard deviation."""
    files.write_json(PATH, {"mean": mean, "std": std})
