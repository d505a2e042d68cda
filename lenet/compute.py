"""Where the computation runs, and what makes it give the same bits each time."""

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
    """Make PyTorch deterministic and return the device to compute on; `auto` is the GPU where there is one.

    The process must have been started with the variables of `lenet.arithmetic`, which decide bits, too. Raises
    PipelineError if `cuda` is asked for where there is none.
    """
    # lenet/parallel.py has other threads than PyTorch's, and says why.
    torch.set_num_threads(1)
    # The same as torch.use_deterministic_algorithms(True), which would first import PyTorch's compiler, for a second.
    torch.set_deterministic_debug_mode("error")
    # That would also fill all new memory before use, a fifth of a training step. No operation here reads memory that
    # it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # Float32 means float32. PyTorch's default rounds what goes into a GPU's convolutions to TF32, of 10 bits.
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    if config.device == "cpu" or (config.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise PipelineError("compute.device is cuda, but PyTorch finds no usable GPU here: set it to auto or cpu")
    return torch.device("cuda")
