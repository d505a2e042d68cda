"""Reading the model that the train stage wrote."""

from pathlib import Path

from lenet import weights
from lenet.errors import PipelineError
from lenet.model import LeNet5

PATH = Path("models/lenet5.safetensors")


def read() -> LeNet5:
    """Return the trained model, on the CPU and in eval mode; raise PipelineError if there is none or it is damaged."""
    try:
        return weights.from_bytes(PATH.read_bytes(), str(PATH))
    except OSError as error:
        raise PipelineError(f"{PATH} can't be read: {error.strerror}; run dvc repro train") from None
