import copy
from typing import NamedTuple

import fakes
import numpy as np
import pytest
import torch
import variants
from conftest import PARAMS, configured
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lenet.augment import AugmentConfig, coordinates, distort, random_warps
from lenet.compute import ComputeConfig
from lenet.data import folds as folding
from lenet.data.folds import SplitConfig
from lenet.errors import PipelineError
from lenet.evaluation import EvaluateConfig, calibration_error, confidences, reliability, scores
from lenet.metrics import temperature
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
    new_step,
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


class Taken(NamedTuple):
    """The steps of an epoch: their learning rates, and the images and distortions of all of them."""

    lrs: list[float]
    order: torch.Tensor
    warps: torch.Tensor


@pytest.fixture
def epochs_of(monkeypatch):
    """Return a function that calls `fit` with steps that train nothing and know every label."""

    def epochs_of(config: TrainConfig, n: int = 60) -> tuple[list[Epoch], list[Taken]]:
        images, labels = digits(n + 20)
        steps: list[tuple] = []

        def step(lr, index, warps):
            steps.append((lr, index, warps))
            return 20.0 * nn.functional.one_hot(labels[index], 10)

        monkeypatch.setattr("lenet.training.new_step", lambda *_: step)
        rows = list(fit(LeNet5(), images[:n], labels[:n], images[n:], labels[n:], config))
        epochs = [
            zip(*steps[at : at + len(steps) // len(rows)], strict=True)
            for at in range(0, len(steps), len(steps) // len(rows))
        ]
        return rows, [Taken(list(lrs), torch.cat(order), torch.cat(warps)) for lrs, order, warps in epochs]

    return epochs_of


def test_each_epoch_takes_every_image_once_in_another_order_and_distortion(epochs_of):
    _, (first, second, third) = epochs_of(changed(CONFIG, epochs=3))
    for one, other in ((first, second), (first, third), (second, third)):
        assert one.order.sort().values.tolist() == list(range(60))
        assert (one.order == other.order).double().mean() < 0.2  # by chance 1 of 60
        assert not (one.warps[:, None] == other.warps).all((2, 3)).any()  # no distortion is drawn twice


def test_the_seed_decides_order_and_distortions(epochs_of):
    (_, [one]), (_, [same]), (_, [other]) = (epochs_of(changed(CONFIG, seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(one.order, same.order)
    assert torch.equal(one.warps, same.warps)
    assert (one.order == other.order).double().mean() < 0.2
    assert not (one.warps[:, None] == other.warps).all((2, 3)).any()


def test_the_rows_say_what_the_steps_did(epochs_of):
    """Each image's logits meet its own label, whatever the order; the learning rate is the last step's."""
    rows, epochs = epochs_of(changed(CONFIG, epochs=3, label_smoothing=0.1))  # the rows' loss is without it
    assert [row.epoch for row in rows] == [1, 2, 3]
    assert [(row.train_loss, row.train_accuracy) for row in rows] == [(pytest.approx(0, abs=1e-6), 1)] * 3
    assert [row.lr for row in rows] == [taken.lrs[-1] for taken in epochs]
    assert [lr for taken in epochs for lr in taken.lrs] == [0.05 * lr_factor(step, 24, CONFIG) for step in range(24)]


def test_a_step_is_taken_on_distorted_images():
    images, labels = digits(8)
    model, index = LeNet5(0.13, 0.31), torch.arange(7, -1, -1)
    warps = random_warps(8, 28, CONFIG.augment, torch.Generator().manual_seed(0))
    expected = model(distort(images[index], warps, coordinates(28)))
    assert torch.equal(new_step(model, images, labels, CONFIG)(0.1, index, warps), expected)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "adagrad", "rmsprop"])
def test_the_optimizer_is_that_of_the_params(name):
    momentum = 0.8 if name in ("sgd", "rmsprop") else 0
    config = changed(CONFIG, optimizer=name, momentum=momentum, weight_decay=0.01)
    optimizer = new_step(LeNet5(), *digits(8), config).optimizer
    assert (optimizer.name, optimizer.momentum, optimizer.weight_decay) == (name, momentum, 0.01)


def test_validation_is_of_the_model_after_the_epoch():
    model, rows = run(changed(CONFIG, epochs=2))
    images, labels = digits(80)
    assert (rows[-1].val_loss, rows[-1].val_accuracy) == tuple(
        scores(predict(model, images[60:]), labels[60:]).values()
    )[::-1]


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_of_a_batch_falls(seed):
    """A small step against the gradient lowers the loss of the same images, whatever the seed."""
    augment = configured(AugmentConfig, "train.augment", **dict.fromkeys(DISTORTIONS, 0))
    plain = {"momentum": 0, "weight_decay": 0, "warmup": 0, "schedule": "constant", "augment": augment}
    _, rows = run(changed(CONFIG, epochs=4, batch_size=60, lr=0.01, seed=seed, **plain))
    losses = [row.train_loss for row in rows]
    assert losses == sorted(losses, reverse=True)


OPTIMIZERS = {
    "sgd": lambda weights: torch.optim.SGD(weights, 0.01, momentum=0.9, weight_decay=0.1, fused=True),
    "adam": lambda weights: torch.optim.Adam(weights, 0.01, weight_decay=0.1, fused=True),
    "adamw": lambda weights: torch.optim.AdamW(weights, 0.01, weight_decay=0.1, fused=True),
    "adagrad": lambda weights: torch.optim.Adagrad(weights, 0.01, weight_decay=0.1),
    "rmsprop": lambda weights: torch.optim.RMSprop(weights, 0.01, momentum=0.9, weight_decay=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_optimizers_are_pytorchs(name):
    torch.manual_seed(0)
    ours = [torch.randn(5, 3), torch.randn(4)]
    theirs = [weights.clone().requires_grad_() for weights in ours]
    optimizer, reference = Optimizer(ours, name, 0.9, 0.1), OPTIMIZERS[name](theirs)
    for _ in range(5):
        gradients = [torch.randn_like(weights) for weights in ours]
        optimizer.step(gradients, 0.01)
        for weights, gradient in zip(theirs, gradients, strict=True):
            weights.grad = gradient
        reference.step()
    assert all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize("device", CPU_OR_GPU)
def test_a_seed_gives_the_same_bits_and_another_seed_others(device):
    weights = [run(changed(CONFIG, seed=seed), device=device)[0].C5.weight for seed in (0, 0, 1)]
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


def test_the_fingerprint_is_that_of_the_threads():
    one, two = (fingerprint_of_training(changed(CONFIG, batch_size=32), torch.device("cpu"), n) for n in (1, 2))
    assert one != two


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
    """Return a function that runs the stage with rows that `fit` might have given, and returns what `fit` was given."""
    monkeypatch.chdir(tmp_path)
    images, labels = fakes.digits(20)
    monkeypatch.setattr(
        stage.mnist, "read", lambda part: stage.mnist.Digits(images, labels) if part == "train" else None
    )
    monkeypatch.setattr(stage.stats, "read", lambda: (0.1, 0.3))

    def run_stage(rows, folds=5, threads=1, **changes):
        given = []
        monkeypatch.setattr(stage, "fit", lambda *arguments: given.extend(copy.deepcopy(arguments)) or iter(rows))
        split = configured(SplitConfig, "split", folds=folds)
        compute = configured(ComputeConfig, "compute", device="cpu", threads=threads)
        stage.main(split, compute, configured(TrainConfig, "train", **changes))
        return given

    return run_stage


ROW = Epoch(1, 0.1, 2.3, 0.9, None, None)


@pytest.mark.parametrize("folds", [1, 5])
def test_the_held_out_images_are_not_trained_on(folds, run_stage):
    _, *found = run_stage([ROW], folds)
    images, labels = digits(20)
    parts = folding.split(20, configured(SplitConfig, "split", folds=folds))
    for (pictures, classes), part in zip(((found[0], found[1]), (found[2], found[3])), parts, strict=True):
        assert torch.equal(pictures, images[part])
        assert torch.equal(classes, labels[part])


def test_the_params_reach_the_training(run_stage):
    *_, config, threads = run_stage([ROW], threads=2, lr=0.03)
    assert (config, threads) == (configured(TrainConfig, "train", lr=0.03), 2)


def test_the_initial_weights_follow_from_seed_stats_and_params(run_stage):
    for seed, init in ((0, "pytorch"), (1, "pytorch"), (1, "kaiming")):
        (model, *_) = run_stage([ROW], seed=seed, init=init)
        torch.manual_seed(seed)
        expected = LeNet5(mean=0.1, std=0.3, init=init).state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


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
    models, printed = [], []
    for smoothing in (0, 0.1):
        _, *sets = run_stage([ROW], folds, label_smoothing=smoothing)
        models.append(stage.model.read())
        printed.append([line for line in capsys.readouterr().out.splitlines() if line.startswith("temperature ")])
    assert printed[0] == []
    on = "training" if folds == 1 else "validation"
    (line,) = printed[1]
    assert line.endswith(f", fitted on the {on} images: all logits are divided by it")
    found = float(line.split()[1].strip(","))
    images, labels = sets[:2] if folds == 1 else sets[2:4]
    assert found == temperature(predict(models[0], images), labels)
    torch.testing.assert_close(models[1].F7.weight, models[0].F7.weight / found)


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
