import fakes
import numpy as np
import pytest
import torch
import variants
from conftest import PARAMS, configured
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lenet.augment import AugmentConfig
from lenet.compute import ComputeConfig
from lenet.data.folds import SplitConfig
from lenet.errors import PipelineError
from lenet.evaluation import EvaluateConfig, calibration_error, confidences, reliability
from lenet.model import LeNet5, predict
from lenet.numerics import fingerprint, fixed_images
from lenet.optimizers import Optimizer
from lenet.steps import Steps
from lenet.training import (
    Epoch,
    TrainConfig,
    calibrate,
    fingerprint_of_training,
    fit,
    lr_factor,
    state_changes,
)
from stages import train as stage
from tools.bench import MEAN, STD, recipe, tutorial_model
from tools.recipes import TUTORIAL

DISTORTIONS = {"rotation": 5, "shift": 1, "scale": 0.05, "shear": 0.05}
SGD = {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.0005, "schedule": "linear", "warmup": 0.2}
AUGMENT = PARAMS["train"]["augment"] | DISTORTIONS
NEW = {"seed": 0, "epochs": 1, "batch_size": 8, "init": "pytorch", "label_smoothing": 0}
CONFIG = configured(TrainConfig, "train", **NEW, **SGD, augment=AUGMENT)
CPU_OR_GPU = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")),
]


def changed(config: TrainConfig, **values) -> TrainConfig:
    return config.model_copy(update=values)


def digits(n: int, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = (torch.from_numpy(array).to(device) for array in fakes.digits(n))
    return images.unsqueeze(1), labels.long()


def run(config: TrainConfig, n: int = 60, device: str = "cpu", threads: int = 1) -> tuple[LeNet5, list[Epoch]]:
    images, labels = digits(n + 20, device)
    torch.manual_seed(config.seed)
    model = LeNet5(0.13, 0.31).to(device)
    return model, list(fit(model, images[:n], labels[:n], images[n:], labels[n:], config, threads))


@pytest.mark.parametrize("device", CPU_OR_GPU)
def test_learns_fake_digits(device):
    _, history = run(changed(CONFIG, epochs=20), n=120, device=device)
    assert [row.epoch for row in history] == list(range(1, 21))
    assert history[1].train_loss < history[0].train_loss
    assert history[-1].val_loss < 0.5 * history[0].val_loss
    assert history[-1].val_accuracy >= 0.7  # by chance 0.1


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "adagrad", "rmsprop"])
def test_every_optimizer_learns(optimizer):
    momentum = 0.9 if optimizer == "sgd" else 0
    lr = {"sgd": 0.05, "adagrad": 0.01}.get(optimizer, 0.003)
    config = changed(CONFIG, epochs=6, optimizer=optimizer, momentum=momentum, lr=lr)
    _, history = run(config)
    assert history[-1].train_loss < 0.9 * history[0].train_loss


def test_a_seed_gives_the_same_bits_and_another_seed_others():
    weights = [run(changed(CONFIG, seed=seed))[0].C5.weight for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_threads_share_each_batch(threads):
    """In parts of different sizes, too, and where there are fewer images than threads, as in the last batch here."""
    config = changed(CONFIG, epochs=3)
    model, alone = run(config)
    first, shared = run(config, threads=threads)
    second, _ = run(config, threads=threads)
    assert [row.train_loss for row in shared] == pytest.approx([row.train_loss for row in alone], rel=1e-4)
    assert shared[-1].val_loss == pytest.approx(alone[-1].val_loss, rel=1e-3)
    assert not torch.equal(first.C5.weight, model.C5.weight)  # or there is only one thread
    assert torch.equal(first.C5.weight, second.C5.weight)


def test_the_mean_loss_counts_every_image_once():
    """At a learning rate of nearly zero, the epoch's mean is the untrained model's, short last batch included."""
    augment = configured(AugmentConfig, "train.augment", **dict.fromkeys(DISTORTIONS, 0))
    config = changed(CONFIG, lr=1e-12, weight_decay=0, momentum=0, augment=augment)
    whole = run(changed(config, batch_size=21), n=21)[1][0]
    parts = run(changed(config, batch_size=8), n=21)[1][0]
    assert parts.train_loss == pytest.approx(whole.train_loss, rel=1e-5)
    assert parts.train_accuracy == whole.train_accuracy


def test_the_tutorials_loop_has_the_same_losses():
    """What is faster here is the way to compute the same: batches, weights and losses are the tutorial's."""
    images, labels = digits(64)
    torch.manual_seed(0)
    model = LeNet5(MEAN, STD)
    tutorial = tutorial_model()
    for ours, theirs in zip(model.parameters(), tutorial.parameters(), strict=True):
        theirs.data.copy_(ours)
    train = changed(recipe(**TUTORIAL), lr=0.03, epochs=40)
    rows = list(fit(model, images, labels, images[:0], labels[:0], train))
    optimizer = torch.optim.SGD(tutorial.parameters(), lr=train.lr, momentum=train.momentum)
    for row in rows:
        expected = torch.nn.functional.nll_loss(tutorial((images / 255 - MEAN) / STD), labels)
        assert row.train_loss == pytest.approx(expected.item(), rel=1e-4)
        assert (row.val_loss, row.val_accuracy) == (None, None)  # there are no images to validate on
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
    assert rows[-1].train_loss < 0.99 * rows[0].train_loss


@pytest.mark.parametrize("change", [{"lr": 0.01}, {"batch_size": 9}, {"optimizer": "adam", "momentum": 0}])
def test_the_fingerprint_is_that_of_the_params(change):
    cpu = torch.device("cpu")
    assert fingerprint_of_training(CONFIG, cpu) == fingerprint_of_training(changed(CONFIG, seed=1), cpu)
    assert fingerprint_of_training(changed(CONFIG, **change), cpu) != fingerprint_of_training(CONFIG, cpu)


def test_training_that_is_not_deterministic_is_refused(monkeypatch):
    draws = iter(range(100))
    monkeypatch.setattr("lenet.training.lr_factor", lambda *_: next(draws))
    with pytest.raises(
        PipelineError, match=r"training with compute.threads 2 is not deterministic: .* gave \w+, and then"
    ):
        fingerprint_of_training(CONFIG, torch.device("cpu"), threads=2)


@pytest.mark.parametrize(
    ("name", "change"),
    [("LeNet-5", ""), ("dropout", "draws random numbers"), ("batch normalisation", "changes its buffers")],
)
def test_a_model_whose_state_changes_is_trained_on_one_thread(name, change):
    images, labels = digits(64)
    weights = []
    for threads in (1, 3, 3):
        model = variants.make(name)
        torch.manual_seed(0)
        before = [value.clone() for value in model.state_dict().values()], torch.get_rng_state()
        assert state_changes(model, images) == change
        assert all(map(torch.equal, before[0], model.state_dict().values()))
        assert torch.equal(before[1], torch.get_rng_state())
        list(fit(model, images, labels, images[:0], labels[:0], CONFIG, threads))
        weights.append(fingerprint(model.state_dict().values()))
    assert weights[1] == weights[2]
    assert (weights[0] == weights[1]) == bool(change)


def test_label_smoothing():
    """The loss is the cross-entropy for targets of 1 - s + s / 10 for the label and s / 10 for the other classes."""
    images, labels = (torch.from_numpy(array) for array in fakes.digits(8))
    images, labels = images.unsqueeze(1), labels.long()
    model = LeNet5(MEAN, STD)
    for smoothing in (0, 0.2):
        targets = (1 - smoothing) * torch.nn.functional.one_hot(labels, 10) + smoothing / 10
        loss = -(targets * model(images).log_softmax(1)).sum(1).mean()
        expected = torch.autograd.grad(loss, list(model.parameters()))
        steps = Steps(model, Optimizer(list(model.parameters()), "sgd", 0, 0), images, labels, smoothing)
        torch.testing.assert_close(steps.gradient(torch.arange(8), None, 8)[1], list(expected))


def test_calibration_changes_confidences_and_no_class():
    """After label smoothing, a network that is always right is never sure."""
    model, _ = run(changed(CONFIG, epochs=30, label_smoothing=0.3), n=120)
    images, labels = (torch.from_numpy(array) for array in fakes.digits(140))
    images, labels = images[120:].unsqueeze(1), labels[120:].long()

    def evaluated():
        confidence, predicted = confidences(predict(model, images))
        config = configured(EvaluateConfig, "evaluate")
        return predicted, calibration_error(reliability(confidence, predicted == labels.numpy(), config))

    before, error_before = evaluated()
    calibrate(model, images, labels)
    after, error_after = evaluated()
    assert np.array_equal(before, after)
    assert error_after < 0.5 * error_before


class SynchronisationCounter(TorchDispatchMode):
    """Counts the operations that make a GPU wait for Python: a value read or a shape that depends on values."""

    names = ("aten._local_scalar_dense", "aten.nonzero", "aten.equal", "aten.masked_select")

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += str(func).startswith(self.names)
        return func(*args, **kwargs or {})


def test_no_synchronisation_within_an_epoch():
    counts = []
    for n in (8, 40):  # one step and five
        with SynchronisationCounter() as counter:
            run(CONFIG, n=n)
        counts.append(counter.count)
    assert counts[0] == counts[1] > 0  # some at the end of the epoch


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0, [1, 1, 1, 1]),
        ("linear", 0, [1, 0.75, 0.5, 0.25]),
        ("cosine", 0, [1, 0.853553, 0.5, 0.146447]),
        ("linear", 0.5, [0.5, 1, 1, 0.5]),
        ("constant", 1, [0.25, 0.5, 0.75, 1]),
    ],
)
def test_learning_rate(schedule, warmup, expected):
    config = changed(CONFIG, schedule=schedule, warmup=warmup)
    assert [lr_factor(step, 4, config) for step in range(4)] == pytest.approx(expected, rel=1e-5)


def test_divergence_names_the_first_bad_step():
    message = r"^training diverged: the loss of step \d+ is (nan|inf); train\.lr is 100"
    with pytest.raises(PipelineError, match=message) as caught:
        run(changed(CONFIG, lr=100, epochs=5, warmup=0))
    assert caught.value.status == 1


@pytest.mark.parametrize("n_val", [0, 20])
def test_divergence_in_the_last_step(n_val):
    images, labels = digits(8 + n_val)
    # One step: its loss, taken before it, is fine.
    config = changed(CONFIG, optimizer="adam", momentum=0, lr=1e30, warmup=0)
    model = LeNet5(0.13, 0.31)
    with pytest.raises(PipelineError, match=r"^training diverged: the loss after step 1 is (nan|inf); train\.lr is 1e"):
        list(fit(model, images[:8], labels[:8], images[8:], labels[8:], config))


@pytest.fixture
def run_stage(tmp_path, monkeypatch):
    """Return a function that runs the stage with rows that `fit` might have given."""
    monkeypatch.chdir(tmp_path)
    images = np.zeros((20, 28, 28), np.uint8)
    monkeypatch.setattr(stage.mnist, "read", lambda _: stage.mnist.Digits(images, images[:, 0, 0]))
    monkeypatch.setattr(stage.stats, "read", lambda: (0.1, 0.3))

    def run_stage(rows, folds=5, **changes):
        monkeypatch.setattr(stage, "fit", lambda *_: iter(rows))
        split, compute = configured(SplitConfig, "split", folds=folds), configured(ComputeConfig, "compute")
        stage.main(split, compute, configured(TrainConfig, "train", **changes))

    return run_stage


def test_the_history_grows_epoch_by_epoch(run_stage):
    """For those who watch the file: it is whole at each moment."""
    lengths = []

    def rows():
        for epoch in (1, 2, 3):
            if stage.history.PATH.exists():
                lengths.append(len(stage.history.read()))
            yield Epoch(epoch, 0.1, 1.0, 0.5, None, None)

    run_stage(rows())
    assert lengths == [1, 2]
    assert len(stage.history.read()) == 3


@pytest.mark.parametrize("folds", [1, 5])
def test_the_model_is_calibrated_after_label_smoothing(folds, run_stage, capsys):
    weights, printed = [], []
    for smoothing in (0, 0.1):
        run_stage([Epoch(1, 0.1, 2.3, 0.9, None, None)], folds, label_smoothing=smoothing)
        weights.append(stage.model.read().F7.weight)
        printed.append([line for line in capsys.readouterr().out.splitlines() if line.startswith("temperature ")])
    assert printed[0] == []
    on = "training" if folds == 1 else "validation"
    (line,) = printed[1]
    assert line.endswith(f", fitted on the {on} images: all logits are divided by it")
    torch.testing.assert_close(weights[1], weights[0] / float(line.split()[1].strip(",")))


@pytest.mark.parametrize(
    ("train_accuracy", "val_accuracy", "warned"),
    [(0.11, None, True), (0.5, 0.11, True), (0.11, 0.5, False), (0.21, None, False)],
)
def test_a_network_that_has_learned_nothing_is_named(train_accuracy, val_accuracy, warned, run_stage, capsys):
    val_loss = None if val_accuracy is None else 2.3
    run_stage([Epoch(1, 0.1, 2.3, train_accuracy, val_loss, val_accuracy)])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == warned
    told = "warning: the network has hardly learned anything: its accuracy is 11.00%"
    assert all(line.startswith(told) for line in lines)


def test_a_batch_of_one_image():
    """Batch normalisation of single values needs two."""
    model = variants.variant(flatten=nn.Flatten(), norm=nn.BatchNorm1d(784), last=nn.Linear(784, 10))
    images, labels = fixed_images(17, torch.device("cpu"))
    with pytest.raises(
        PipelineError, match=r"on a batch of one image .* train\.batch_size 8, one of 17 images is left"
    ):
        list(fit(model, images, labels, images[:0], labels[:0], changed(CONFIG, batch_size=8)))
