import re
from collections import OrderedDict

import pytest
import safetensors.torch
import torch
from torch import nn

from lenet.errors import PipelineError
from lenet.layers import layers
from lenet.model import LeNet5, from_bytes, predict, to_bytes

LEAVING = "this test is about LeNet-5 alone: delete it when you leave LeNet-5"


@pytest.fixture
def model() -> LeNet5:
    torch.manual_seed(0)
    return LeNet5(mean=0.1307, std=0.3081)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (7, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_parameters_layer_by_layer(model):
    counts = {name: sum(p.numel() for p in layer.parameters()) for name, layer in model.named_children()}
    counts = {name: count for name, count in counts.items() if count}
    assert counts == {"C1": 156, "C3": 2_416, "C5": 48_120, "F6": 10_164, "F7": 850}, LEAVING
    assert sum(counts.values()) == 61_706, LEAVING


def test_shapes_layer_by_layer(model, images):
    found = [(name, kind, tuple(output.shape)) for name, _, kind, output in layers(model, images[0, 0])]
    assert found == [
        ("C1", "convolution", (6, 28, 28)),
        ("S2", "max-pooling, ReLU", (6, 14, 14)),
        ("C3", "convolution", (16, 10, 10)),
        ("S4", "max-pooling, ReLU", (16, 5, 5)),
        ("C5", "convolution, ReLU", (120,)),
        ("F6", "fully connected, ReLU", (84,)),
        ("F7", "fully connected", (10,)),
    ], LEAVING


def test_log_probabilities_equal_the_tutorials(model, images):
    """The tutorial's network: ReLU before pooling, C5 as a convolution, LogSoftmax at the end, standardised input."""
    convnet = OrderedDict(
        C1=nn.Conv2d(1, 6, 5, padding=2),
        relu1=nn.ReLU(),
        S2=nn.MaxPool2d(2),
        C3=nn.Conv2d(6, 16, 5),
        relu3=nn.ReLU(),
        S4=nn.MaxPool2d(2),
        C5=nn.Conv2d(16, 120, 5),
        relu5=nn.ReLU(),
        flatten=nn.Flatten(),
    )
    fc = OrderedDict(F6=nn.Linear(120, 84), relu6=nn.ReLU(), F7=nn.Linear(84, 10), sig7=nn.LogSoftmax(dim=-1))
    tutorial = nn.Sequential(convnet | fc)
    tutorial.load_state_dict({name: value for name, value in model.state_dict().items() if name not in ("mean", "std")})
    expected = tutorial((images / 255 - 0.1307) / 0.3081)
    torch.testing.assert_close(model(images).log_softmax(1), expected, msg=lambda found: f"{found}\n{LEAVING}")


def test_kaiming_is_for_the_layers_before_a_relu(model):
    torch.manual_seed(0)
    kaiming = LeNet5(init="kaiming")
    for name in ("C1", "C3", "C5", "F6"):
        layer = kaiming.get_submodule(name)
        bound = (6 / layer.weight[0].numel()) ** 0.5
        assert 0.9 * bound < layer.weight.abs().max() <= bound
        assert not layer.bias.any()
    assert torch.equal(kaiming.F7.weight, model.F7.weight)
    assert torch.equal(kaiming.F7.bias, model.F7.bias)


def test_divided_logits(model, images):
    expected = model(images) / 0.7
    model.divide_logits(0.7)
    torch.testing.assert_close(model(images), expected)


@pytest.mark.parametrize("training", [True, False])
def test_predictions_are_made_in_eval_mode(training, model, images):
    expected = model.eval()(images)
    model.F6_relu = nn.Sequential(nn.ReLU(), nn.Dropout(0.5))
    assert torch.equal(predict(model.train(training), images), expected)
    assert model.training == training


def test_weights_round_trip(model, images):
    data = to_bytes(model)
    assert data == to_bytes(model)
    loaded = from_bytes(data, "file")
    assert not loaded.training
    torch.testing.assert_close(loaded(images), model(images), rtol=0, atol=0)


def tensors(model: LeNet5, **changes: torch.Tensor | None) -> bytes:
    changed = model.state_dict() | changes
    return safetensors.torch.save({name: tensor.contiguous() for name, tensor in changed.items() if tensor is not None})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda model: to_bytes(model)[:-1], "file is not a safetensors file"),
        (lambda model: b"\x80\x04N.", "file is not a safetensors file"),
        (lambda model: b"", "file is not a safetensors file"),
        (lambda model: to_bytes(model).replace(b'"F32"', b'"F4" '), "file is not a safetensors file"),
        (lambda model: tensors(model, mean=None), "file is not a LeNet-5: mean is None instead of"),
        (lambda model: tensors(model, extra=torch.ones(1)), "file is not a LeNet-5: extra is"),
        (lambda model: tensors(model, std=torch.ones(2)), "file is not a LeNet-5: std is ((2,), torch.float32)"),
        (lambda model: tensors(model, std=torch.ones((), dtype=torch.float64)), "file is not a LeNet-5: std is"),
        (
            lambda model: tensors(model, std=torch.tensor(torch.nan)),
            "file is not a usable model: std has NaN or infinity",
        ),
    ],
)
def test_damaged_weights_are_refused(model, damage, message):
    with pytest.raises(PipelineError, match=re.escape(message)):
        from_bytes(damage(model), "file")
