"""The device, and the settings that make PyTorch deterministic."""

import sys
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
    `auto` warns about a GPU that does not work. Raises PipelineError if the device is `cuda` and no GPU works.
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
    problem = _problem_of_gpu()
    if problem and config.device == "cuda":
        raise PipelineError(f"compute.device is cuda, but {problem}: use auto or cpu")
    if problem:
        print(f"warning: {problem}; using the CPU", file=sys.stderr)
    return torch.device("cpu" if problem else "cuda")


def _problem_of_gpu() -> str:
    """Return why the GPU can't be used, or "": it may be too old for this PyTorch, full, or in use by others alone."""
    if not torch.cuda.is_available():
        return "PyTorch finds no GPU here"
    try:
        torch.ones(1, device="cuda").add(1).item()
    except RuntimeError as error:
        return f"the GPU does not work: {str(error).splitlines()[0]}"
    return ""
