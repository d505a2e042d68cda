import numpy as np
import pytest
import torch

from lenet.calibration import EvaluateConfig, calibration_error, reliability
from lenet.evaluate import report
from lenet.model import LeNet5
from lenet.score import predict


def test_report():
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.3, 0.2], [0.25, 0.25, 0.5]]))
    metrics = report(logits, torch.tensor([0, 1, 2, 2]), EvaluateConfig(calibration_bins=10))
    assert metrics["accuracy"] == 0.75
    assert metrics["errors"] == 1
    assert metrics["loss"] == pytest.approx(-torch.tensor([0.7, 0.8, 0.2, 0.5]).log().mean().item())


def test_calibration():
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.6, 0.6])
    correct = np.array([True, True, True, False, True, False])  # 3 of 4 at 0.95, 1 of 2 at 0.6
    bins = reliability(confidence, correct, EvaluateConfig(calibration_bins=10))
    assert bins.counts.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 4]  # 0.6 belongs to (0.5, 0.6]
    assert bins.confidence[[5, 9]] == pytest.approx([0.6, 0.95])
    assert bins.accuracy[[5, 9]] == pytest.approx([0.5, 0.75])
    assert calibration_error(bins) == pytest.approx(4 / 6 * 0.2 + 2 / 6 * 0.1)
    whole = reliability(confidence, correct, EvaluateConfig(calibration_bins=1))
    assert calibration_error(whole) == pytest.approx(abs(4 / 6 - 5 / 6))


def test_predict_scores_each_image_once_in_eval_mode_and_leaves_the_mode():
    model = LeNet5()
    images = torch.randint(0, 256, (1203, 1, 28, 28), dtype=torch.uint8)
    for training in (True, False):
        model.train(training)
        logits = predict(model, images)
        assert model.training == training
        assert not logits.requires_grad
        torch.testing.assert_close(logits, model(images))
