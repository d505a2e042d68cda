"""Training steps as CUDA graphs: the kernels of a step, captured once and then launched together.

A step of LeNet-5 is some seventy kernels of a few microseconds each. Launching them one by one from Python takes
several times as long as running them.
"""

import torch
from torch import Tensor

from lenet.steps import Steps


class CapturedSteps:
    """A faster replacement for `steps`, with one graph for each batch size. The model must be on a GPU.

    The logits that it returns are overwritten by the next call.

    Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
    """

    def __init__(self, steps: Steps) -> None:
        self.steps = steps  # also keeps alive what the graphs read and write
        self.graphs: dict[int, tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]] = {}

    def __call__(self, lr: Tensor, index: Tensor, warps: Tensor | None) -> Tensor:
        """Take a step, as `Steps.__call__` does."""
        if self.steps.optimizer.name == "adagrad":  # it counts its steps on the CPU, which no graph can capture
            return self.steps(lr, index, warps)
        given = [lr, index] if warps is None else [lr, index, warps]
        if len(index) not in self.graphs:
            self.graphs[len(index)] = self.capture([tensor.clone() for tensor in given])
        graph, inputs, logits = self.graphs[len(index)]
        for tensor, value in zip(inputs, given, strict=True):
            tensor.copy_(value)
        graph.replay()
        return logits

    def capture(self, inputs: list[Tensor]) -> tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]:
        """Capture a step; return its graph, the `inputs` that it reads, and the logits that it writes.

        The weights and the optimiser's state are left unchanged.
        """
        state = [*self.steps.model.state_dict().values(), *self.steps.optimizer.state]
        before = [tensor.clone() for tensor in state]
        arguments = inputs if len(inputs) == 3 else [*inputs, None]
        # Warm up outside the graph, because libraries choose their kernels in the first step.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.steps(*arguments)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = self.steps(*arguments)
        for tensor, value in zip(state, before, strict=True):
            tensor.copy_(value)
        return graph, inputs, logits
