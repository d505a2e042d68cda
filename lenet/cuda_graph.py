"""A CUDA graph: what a function does on the GPU, captured once and then launched as a whole.

A step of LeNet-5 is some seventy kernels of a few microseconds each. Launching them one by one from Python takes
several times as long as running them.
"""

from collections.abc import Callable

import torch
from torch import Tensor


class CudaGraph:
    """What `function` does for inputs of the shapes and types of `inputs`, captured: called, it does the same, faster.

    All that the function reads and changes must lie on the GPU and stay where it is, and nothing in it may wait for the
    GPU. What it returns, a tensor, is overwritten by the next call. Capturing runs it once beforehand, for libraries to
    choose their kernels and an optimiser to create its state: what it changes has to be set back afterwards, in place.

    Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
    """

    def __init__(self, function: Callable[..., Tensor], *inputs: Tensor) -> None:
        self._function = function  # what it holds must live as long as the graph, which only knows where that lies
        self._inputs = [tensor.clone() for tensor in inputs]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            function(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._output = function(*self._inputs)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Do with `inputs` what the function does."""
        for place, given in zip(self._inputs, inputs, strict=True):
            place.copy_(given)
        self._graph.replay()
        return self._output
