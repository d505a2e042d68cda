"""The device, and the settings that make PyTorch deterministic."""

from typing import Annotated, Literal

import torch
from pydantic import Field

from lenet.config import Config
from lenet.errors import PipelineError


class ComputeConfig(Config):
    """The section `compute` of params.yaml."""

    device: Literal["auto", "cpu", "cuda"]
    threads: Annotated[int, Field(ge=1, le=256)]


def prepare(config: ComputeConfig) -> torch.device:
    """Make PyTorch deterministic and return the device to compute on; `auto` is the GPU if there is one.

    The last bits of results also depend on environment variables that libraries read when they are loaded: set them
    before importing PyTorch.
    Raises PipelineError if the device is `cuda` but there is no GPU.
    """
    # Training has threads of its own: lenet/parallel.py explains why.
    torch.set_num_threads(1)
    # The same as torch.use_deterministic_algorithms(True), which would also import PyTorch's compiler, for a second.
    torch.set_deterministic_debug_mode("error")
    # Filling new memory would take a fifth of a training step, and no operation here reads memory before writing it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # By default, PyTorch rounds the inputs of a GPU's convolutions to TF32, which has a 10-bit mantissa.
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    if config.device == "cpu" or (config.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise PipelineError("compute.device is cuda, but PyTorch finds no usable GPU here: use auto or cpu")
    return torch.device("cuda")
