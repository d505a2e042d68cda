"""PyTorch's optimisers in their functional form.

They give the same results as `torch.optim.SGD`, `Adam`, `AdamW`, `Adagrad` and `RMSprop`, to the bit. Those classes are
not used because creating one imports PyTorch's compiler, which takes a second, or several on a machine with a GPU.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adagrad import adagrad
from torch.optim.adam import adam
from torch.optim.rmsprop import rmsprop
from torch.optim.sgd import sgd


class Optimizer:
    """Updates `weights` in place from their gradients, with PyTorch's defaults for all other options.

    `name` is a choice of `train.optimizer`; only sgd and rmsprop use `momentum`. `state` starts as zeros. It is on the
    same device as the weights, so that a CUDA graph can update it; only Adagrad's step counts are on the CPU.
    """

    def __init__(self, weights: Sequence[Tensor], name: str, momentum: float, weight_decay: float) -> None:
        self.weights, self.name = list(weights), name
        self.momentum, self.weight_decay = momentum, weight_decay
        device = "cpu" if name == "adagrad" else self.weights[0].device
        # Averages: momentum buffers, or Adam's averages of the gradients.
        # Squares: averages of the squared gradients, or Adagrad's sums of them.
        self.averages = [torch.zeros_like(weight) for weight in weights]
        self.squares = [torch.zeros_like(weight) for weight in weights]
        self.steps = [torch.zeros((), device=device) for _ in weights]
        self.state = [*self.averages, *self.squares, *self.steps]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], lr: float | Tensor) -> None:
        """Update the weights with the learning rate `lr`; `gradients` has one for each weight, with the same strides.

        On a GPU, `lr` is a tensor on that GPU, so that a CUDA graph reads its current value at each replay.
        """
        options: dict[str, Any]
        weights, g, m, v, steps = self.weights, list(gradients), self.averages, self.squares, self.steps
        on_gpu, momentum, decay = weights[0].is_cuda, self.momentum, self.weight_decay
        # The empty lists are for the state of amsgrad (Adam) and centered (RMSprop), which are off.
        match self.name:
            case "sgd":
                options = {"dampening": 0, "nesterov": False, "maximize": False}
                sgd(weights, g, list(m), fused=True, lr=lr, momentum=momentum, weight_decay=decay, **options)
            case "adam" | "adamw":
                options = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "amsgrad": False, "maximize": False}
                options |= {"fused": True, "capturable": on_gpu, "decoupled_weight_decay": self.name == "adamw"}
                adam(weights, g, m, v, [], steps, lr=lr, weight_decay=decay, **options)
            case "adagrad":
                options = {"lr_decay": 0, "eps": 1e-10, "maximize": False}
                adagrad(weights, g, v, steps, lr=lr, weight_decay=decay, **options)
            case "rmsprop":
                options = {"alpha": 0.99, "eps": 1e-8, "centered": False, "capturable": on_gpu}
                rmsprop(weights, g, v, [], m, steps, lr=lr, momentum=momentum, weight_decay=decay, **options)
