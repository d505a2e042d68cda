"""The trained model, models/lenet5.safetensors."""

from pathlib import Path

from lenet import model
from lenet.model import LeNet5
from stages.artifacts import files

PATH = Path("models/lenet5.safetensors")


def read() -> LeNet5:
    """Return the trained model, on the CPU and in eval mode; raise PipelineError if it is missing or damaged."""
    return model.from_bytes(files.read(PATH, "run dvc repro train"), str(PATH))


def write(trained: LeNet5) -> None:
    """Write the trained model."""
    files.write(PATH, model.to_bytes(trained))
