import pytest
import torch

from lenet.evaluate import EvaluateConfig, calibration_error, report
from lenet.model import LeNet5
from lenet.score import predict


def test_report():
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.3, 0.2], [0.25, 0.25, 0.5]]))
    metrics = report(logits, torch.tensor([0, 1, 2, 2]), EvaluateConfig(calibration_bins=10))
    assert metrics["accuracy"] == 0.75
    assert metrics["errors"] == 1
    assert metrics["loss"] == pytest.approx(-torch.tensor([0.7, 0.8, 0.2, 0.5]).log().mean().item())


def test_calibration_error():
    confidence = torch.tensor([0.95, 0.95, 0.95, 0.95, 0.6, 0.6], dtype=torch.float64)
    predicted = torch.zeros(6, dtype=torch.int64)
    labels = torch.tensor([0, 0, 0, 1, 0, 1])  # 3 of 4 right at 0.95, 1 of 2 at 0.6
    expected = 4 / 6 * abs(0.75 - 0.95) + 2 / 6 * abs(0.5 - 0.6)
    assert calibration_error(confidence, predicted, labels, bins=10) == pytest.approx(expected)
    assert calibration_error(confidence, predicted, labels, bins=1) == pytest.approx(abs(4 / 6 - 5 / 6))


def test_predict_scores_each_image_once_in_eval_mode_and_leaves_the_mode():
    model = LeNet5()
    images = torch.randint(0, 256, (1203, 1, 28, 28), dtype=torch.uint8)
    for training in (True, False):
        model.train(training)
        logits = predict(model, images)
        assert model.training == training
        assert not logits.requires_grad
        torch.testing.assert_close(logits, model(images))
