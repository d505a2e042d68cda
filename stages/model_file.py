"""Reading the model that the train stage wrote."""

from pathlib import Path

from lenet import weights
from lenet.model import LeNet5
from stages import files

PATH = Path("models/lenet5.safetensors")


def read() -> LeNet5:
    """Return the trained model, on the CPU and in eval mode; raise PipelineError if there is none or it is damaged."""
    return weights.from_bytes(files.read(PATH, "run dvc repro train"), str(PATH))
