import numpy as np
import pytest
import torch
from conftest import configured
from torch import nn

from lenet.evaluation import EvaluateConfig, calibration_error, confidences, reliability, scores, wilson
from lenet.metrics import cross_entropy, temperature
from lenet.model import predict


def test_scores():
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.3, 0.2], [0.25, 0.25, 0.5]]))
    found = scores(logits, torch.tensor([0, 1, 1, 2]))  # the third is the second choice
    exact = -logits.double().log_softmax(1)[range(4), [0, 1, 1, 2]].mean().item()
    assert found == {"accuracy": 0.75, "loss": pytest.approx(exact, rel=1e-12)}  # summed in float64
    confidence, predicted = confidences(logits)
    assert predicted.tolist() == [0, 1, 0, 2]
    assert confidence == pytest.approx([0.7, 0.8, 0.5, 0.5])


def test_calibration():
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.6, 0.6])
    correct = np.array([True, True, True, False, True, False])  # 3 of 4 at 0.95, 1 of 2 at 0.6
    bins = reliability(confidence, correct, configured(EvaluateConfig, "evaluate", calibration_bins=10))
    assert bins.counts.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 4]  # 0.6 belongs to (0.5, 0.6]
    assert bins.confidence[[5, 9]] == pytest.approx([0.6, 0.95])
    assert bins.accuracy[[5, 9]] == pytest.approx([0.5, 0.75])
    assert calibration_error(bins) == pytest.approx(4 / 6 * 0.2 + 2 / 6 * 0.1)
    whole = reliability(confidence, correct, configured(EvaluateConfig, "evaluate", calibration_bins=1))
    assert calibration_error(whole) == pytest.approx(abs(4 / 6 - 5 / 6))


@pytest.mark.parametrize("scale", [0.5, 1, 2])
def test_temperature(scale):
    """It is found again where the labels are drawn from the probabilities at a known temperature."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(20_000, 10, generator=generator)
    labels = (scale * logits).softmax(1).multinomial(1, generator=generator).squeeze(1)
    found = temperature(logits, labels)
    assert found == pytest.approx(1 / scale, rel=0.03)
    assert found == round(found, 3)
    loss = cross_entropy(logits / found, labels)
    assert loss < min(cross_entropy(logits / (found * by), labels) for by in (0.97, 1.03))


def test_temperature_is_bounded():
    logits = torch.eye(10)
    assert temperature(logits, logits.argmax(1)) == 0.1  # all correct: the higher the confidence, the lower the loss
    assert temperature(logits, logits.argmin(1)) == 10


def test_wilson():
    """The examples of Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I."""
    low, high = wilson(np.array([81, 15, 0, 1]), np.array([263, 148, 20, 29]))
    assert low == pytest.approx([0.2553, 0.0624, 0, 0.0061], abs=5e-5)
    assert high == pytest.approx([0.3662, 0.1605, 0.1611, 0.1718], abs=5e-5)
    trials = np.arange(2000)
    low, high = wilson(trials, trials)
    assert low[0] == 0  # no trial, no knowledge
    assert high.max() <= 1
    assert high == pytest.approx(1)
    assert wilson(trials - trials, trials)[0].min() >= 0
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=5e-5)


def test_predict_scores_each_image_once_in_eval_mode_and_leaves_the_mode():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(28 * 28, 10))
    images = torch.rand(1203, 1, 28, 28)
    expected = model[2](images.flatten(1))  # nothing dropped out
    for training in (True, False):
        model.train(training)
        logits = predict(model, images)
        assert [part.training for part in model.modules()] == [training] * 4
        assert not logits.requires_grad
        torch.testing.assert_close(logits, expected)
