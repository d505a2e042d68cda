"""What only a GPU can show: `make gpu`."""

import pytest
import test_kernels
import torch
from conftest import configured
from test_training import CONFIG, changed, run
from torch import nn

from lenet import training
from lenet.compute import ComputeConfig, prepare
from lenet.model import LeNet5, predict
from lenet.numerics import fingerprint_of_evaluation
from lenet.optimizers import Optimizer
from lenet.steps import Steps
from lenet.training import fingerprint_of_training

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here"),
]


@pytest.fixture(autouse=True)
def device() -> torch.device:
    return prepare(configured(ComputeConfig, "compute", device="cuda"))


def train(config, device="cuda", n=60):
    model, rows = run(config, n, device)
    return rows, model.state_dict()


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


OPTIMIZERS = {
    "sgd": {},
    "sgd, no momentum": {"momentum": 0},
    "adam": {"optimizer": "adam", "momentum": 0, "lr": 0.003},
    "adamw": {"optimizer": "adamw", "momentum": 0, "lr": 0.003},
    "adagrad": {"optimizer": "adagrad", "momentum": 0, "lr": 0.01},
    "rmsprop": {"optimizer": "rmsprop", "momentum": 0.5, "lr": 0.001},
}


@pytest.mark.parametrize("n", [64, 100])  # 100: the last batch is smaller
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_two_trainings_give_the_same_bits_and_capture_changes_none(optimizer, n, monkeypatch):
    config = changed(CONFIG, epochs=3, **OPTIMIZERS[optimizer])
    rows, weights = train(config, n=n)
    again, weights_again = train(config, n=n)
    assert again == rows
    assert same(weights_again, weights)
    monkeypatch.setattr(training, "CapturedSteps", lambda steps: steps)
    plain, plain_weights = train(config, n=n)
    assert plain == rows
    assert same(plain_weights, weights)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_losses_are_those_of_the_cpu(optimizer):
    config = changed(CONFIG, epochs=2, **OPTIMIZERS[optimizer])
    (rows, _), (expected, _) = train(config), train(config, device="cpu")
    for row, cpu in zip(rows, expected, strict=True):
        assert row.train_loss == pytest.approx(cpu.train_loss, rel=1e-3)
        assert row.lr == cpu.lr


def test_float32_is_float32(device):
    """TF32 would be off by about 1e-3."""
    torch.manual_seed(0)
    model = LeNet5(0.13, 0.31).to(device)
    images = torch.randint(256, (500, 1, 28, 28), dtype=torch.uint8, device=device)
    exact = LeNet5(0.13, 0.31).to(device).double()
    exact.load_state_dict(model.state_dict())
    with torch.no_grad():
        difference = (predict(model, images) - exact(images.double())).norm() / exact(images.double()).norm()
    assert difference < 1e-5


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_nothing_waits_for_the_gpu_within_an_epoch(monkeypatch):
    """From the second epoch on: in the first, a graph is captured for each size of batch."""
    epoch, epochs = training._train_epoch, []

    def strict(*args):
        epochs.append(args)
        torch.cuda.set_sync_debug_mode("error" if len(epochs) > 1 else "default")
        try:
            return epoch(*args)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(training, "_train_epoch", strict)
    train(changed(CONFIG, epochs=3), n=60)  # the last batch is smaller
    assert len(epochs) == 3


@pytest.mark.parametrize("n", [1, 64, 100, 512])
@pytest.mark.parametrize("warped", [True, False])
def test_the_kernels_compute_the_gradient(n, warped, device, monkeypatch):
    """New memory is filled with NaN, so that a result that was not written shows."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    test_kernels.check(test_kernels.errors(device, n, warped))


@pytest.mark.parametrize("change", ["none", "tanh", "average", "frozen"])
def test_other_models_use_pytorchs_kernels(change, device):
    """Also those whose parameters have the same shapes."""
    model = LeNet5(0.13, 0.31).to(device)
    if change == "tanh":
        model.F6_relu = nn.Tanh()
    elif change == "average":
        model.S2 = nn.AvgPool2d(2)
    elif change == "frozen":
        model.C1.weight.requires_grad = False
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    images = torch.randint(256, (64, 1, 28, 28), dtype=torch.uint8, device=device)
    labels = torch.randint(10, (64,), device=device)
    steps = Steps(model, Optimizer(weights, "sgd", 0, 0), images, labels)
    assert (steps.gradient == steps._gradient) == (change != "none")


def test_fingerprints_are_those_of_the_gpu(device):
    for fingerprint in (fingerprint_of_evaluation, lambda device: fingerprint_of_training(CONFIG, device)):
        assert fingerprint(device) == fingerprint(device)
        assert fingerprint(device) != fingerprint(torch.device("cpu"))
