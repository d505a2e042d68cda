"""Training steps as CUDA graphs: what a step does on the GPU, captured once and then launched as a whole.

A step of LeNet-5 is some seventy kernels of a few microseconds each. Launching them one by one from Python takes
several times as long as running them.
"""

import torch
from torch import Tensor

from lenet.steps import Steps


class CapturedSteps:
    """Does what `steps` does, faster, with one graph for each batch size. `steps` must be on a GPU.

    The logits that it returns are overwritten by the next call.

    Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
    """

    def __init__(self, steps: Steps) -> None:
        self.steps = steps  # also keeps alive what the graphs read and write
        self.graphs: dict[int, tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]] = {}

    def __call__(self, lr: Tensor, index: Tensor, warps: Tensor | None) -> Tensor:
        """Take a step, as `Steps.__call__` does."""
        if self.steps.optimizer.name == "adagrad":  # PyTorch's counts its steps on the CPU
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
        """Return the graph of a step that reads `inputs`, these inputs, and the logits that it writes.

        The weights and the optimiser's state are the same afterwards as before.
        """
        state = [*self.steps.model.state_dict().values(), *self.steps.optimizer.state]
        before = [tensor.clone() for tensor in state]
        arguments = inputs if len(inputs) == 3 else [*inputs, None]
        # A first step outside the graph, for libraries to choose their kernels.
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
