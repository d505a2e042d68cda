"""The kernels in Triton, compared with PyTorch in float64: on a GPU, or slowly in Triton's interpreter."""

import json
import os
import subprocess
import sys
from pathlib import Path

import fakes
import pytest
import torch

from lenet.augment import AugmentConfig, coordinates, random_warps
from lenet.model import LeNet5
from lenet.optimizers import Optimizer
from lenet.steps import Steps

kernels = pytest.importorskip("lenet.kernels")  # there is no Triton for Macs

SMOOTHING = 0.1
STRONG = AugmentConfig(rotation=20, shift=3, scale=0.2, shear=0.2)


def errors(device, n, warped):
    """Return the relative errors of the logits and of each gradient, for new random images and weights."""
    images = torch.randint(256, (n + 3, 1, 28, 28), dtype=torch.uint8, device=device)
    labels = torch.randint(10, (n + 3,), device=device)
    index = torch.randperm(n + 3, device=device)[:n]
    warps = random_warps(n, 28, STRONG, torch.Generator()).to(device) if warped else None
    model = LeNet5(0.13, 0.31, "kaiming").to(device)
    exact = LeNet5(0.13, 0.31).to(device).double()
    exact.load_state_dict(model.state_dict())
    inputs = images[index].double()
    if warped:
        grid = (warps.double() @ coordinates(28).to(device).double()).view(n, 2, 28, 28).permute(0, 2, 3, 1)
        inputs = torch.nn.functional.grid_sample(inputs, grid, align_corners=False)
    logits = exact(inputs)
    loss = torch.nn.functional.cross_entropy(logits, labels[index], label_smoothing=SMOOTHING)
    expected = [logits, *torch.autograd.grad(loss, list(exact.parameters()))]
    found, gradients = kernels.Gradient(model, images, labels, SMOOTHING)(index, warps, n)
    assert [g.stride() for g in gradients] == [weight.stride() for weight in model.parameters()]
    pairs = zip([found, *gradients], expected, strict=True)
    return [((a - b).norm() / b.norm()).item() for a, b in pairs]


def check(found):
    logits, *gradients = found
    assert logits < 1e-5
    # Rounding decides which of two nearly equal values a pool chooses, so a gradient can have a few other terms.
    assert max(gradients) < 5e-3


@pytest.mark.slow
@pytest.mark.parametrize("warped", [True, False])
def test_in_the_interpreter(warped):
    code = f"import json, test_kernels; print(json.dumps(test_kernels.errors('cpu', 2, {warped})))"
    path = os.pathsep.join(map(str, [Path(__file__).parent, Path.cwd()]))
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, check=True)
    check(json.loads(done.stdout))


@pytest.fixture
def steps():
    images, labels = (torch.from_numpy(array) for array in fakes.digits(40))
    model = LeNet5(0.13, 0.31, "kaiming")
    return Steps(model, Optimizer(list(model.parameters()), "sgd", 0, 0), images.unsqueeze(1), labels.long())


def test_without_a_working_triton_pytorch_computes_the_gradient(steps, capsys):
    assert steps.in_triton() is None
    assert steps.in_triton() is None
    assert capsys.readouterr().err.count("warning: Triton does not work here, so training is slower: ") == 1


@pytest.mark.parametrize(("factor", "taken"), [(1, True), (1 + 1e-6, True), (1.05, False), (float("nan"), False)])
def test_kernels_that_compute_something_else_are_not_used(factor, taken, steps, monkeypatch):
    def gradient(*arguments):
        logits, gradients = steps._gradient(*arguments)
        return logits, [*gradients[:-1], gradients[-1] * factor]

    monkeypatch.setattr(kernels, "Gradient", lambda *_: gradient)
    assert steps.in_triton() == (gradient if taken else None)


def test_a_model_of_other_shapes_has_no_kernels(steps, monkeypatch):
    monkeypatch.setattr(kernels, "Gradient", lambda *_: steps._gradient)
    steps.model.F7 = torch.nn.Linear(84, 5)
    steps.optimizer = Optimizer(list(steps.model.parameters()), "sgd", 0, 0)
    assert steps.in_triton() is None
