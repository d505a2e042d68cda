"""The pipeline from end to end, with real DVC, on a fake MNIST."""

import html
import json
import re
from pathlib import Path

import fakes
import numpy as np
import pandas as pd
import pytest
import torch
from browser import dump, needs_browser
from conftest import PARAMS, PIPELINE, ROOT, Project, configured, ran
from matplotlib.figure import Figure

from lenet import evaluation, figures
from lenet.data.dataset import CLASSES
from lenet.evaluation import EvaluateConfig, confidences, wilson
from lenet.figures import PlotConfig
from lenet.model import from_bytes, predict
from stages import plot
from stages.artifacts import files, predictions
from stages.launch.pipeline import affected


def test_nothing_runs_twice(project: Project):
    assert project.repro() == []
    assert project.run("git", "status", "--porcelain") == ""


def test_metrics_and_tables(finished: Project):
    metrics = {path.stem: json.loads(path.read_text()) for path in (finished.root / "metrics").glob("*.json")}
    assert metrics["download"] == {"train": {"images": 200}, "test": {"images": 100}}
    assert set(metrics["stats"]) == {"mean", "std"}
    for stage in ("train", "evaluate"):
        (fingerprint,) = metrics[stage].pop("numerics")
        assert re.fullmatch("[0-9a-f]{16}", fingerprint)
    for part in ("val", "test"):
        assert set(metrics["evaluate"][part]) == {"accuracy", "loss", "calibration_error"}
    predictions = pd.read_csv(finished.root / "models/predictions.csv")
    assert list(predictions) == ["index", "actual", "predicted", "confidence"]
    assert list(predictions["index"]) == list(range(100))
    assert (predictions["actual"] == predictions["predicted"]).mean() == metrics["evaluate"]["test"]["accuracy"]
    confusion = pd.read_csv(finished.root / "metrics/confusion.csv")
    assert confusion["count"].sum() == 100
    assert confusion.query("actual == predicted")["count"].sum() / 100 == metrics["evaluate"]["test"]["accuracy"]
    history = pd.read_csv(finished.root / "metrics/history.csv")
    assert list(history) == ["epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy"]
    last = history.iloc[-1]
    assert last["epoch"] == 2
    assert metrics["train"] == {"loss": last["train_loss"], "accuracy": last["train_accuracy"]}
    assert metrics["evaluate"]["val"]["accuracy"] == last["val_accuracy"]
    assert metrics["evaluate"]["val"]["loss"] <= last["val_loss"]  # less if the model was calibrated after training


def test_the_scores_are_those_of_the_saved_model(finished: Project):
    """What evaluate wrote, computed once more, and otherwise."""
    scores = json.loads((finished.root / "metrics/evaluate.json").read_text())["test"]
    images, labels = (torch.tensor(array) for array in fakes.digits(100, seed=1))
    model = from_bytes((finished.root / "models/lenet5.safetensors").read_bytes(), "the model")
    with torch.no_grad():
        probabilities = model(images[:, None]).double().softmax(1)
    right = probabilities.argmax(1) == labels
    assert scores["accuracy"] == right.double().mean()
    assert scores["loss"] == pytest.approx(-probabilities[range(100), labels.long()].log().mean().item(), rel=1e-5)
    confidence = probabilities.max(1).values
    bins = (confidence * PARAMS["evaluate"]["calibration_bins"]).ceil().int()
    gaps = torch.bincount(bins, confidence - right.double()).abs()
    assert scores["calibration_error"] == pytest.approx(gaps.sum().item() / 100, rel=1e-5)


def test_the_statistics_are_those_of_the_training_images(finished: Project):
    images = fakes.digits(200)[0] / 255
    found = json.loads((finished.root / "metrics/stats.json").read_text())
    assert found == {"mean": pytest.approx(images.mean()), "std": pytest.approx(images.std())}
    model = from_bytes((finished.root / "models/lenet5.safetensors").read_bytes(), "the model")
    assert (model.mean.item(), model.std.item()) == (pytest.approx(found["mean"]), pytest.approx(found["std"]))


def test_the_tables_are_of_the_test_images(finished: Project):
    predictions = pd.read_csv(finished.root / "models/predictions.csv")
    images, labels = fakes.digits(100, seed=1)
    model = from_bytes((finished.root / "models/lenet5.safetensors").read_bytes(), "the model")
    confidence, predicted = confidences(predict(model, torch.from_numpy(images)[:, None]))
    assert predictions["actual"].tolist() == labels.tolist()
    assert predictions["predicted"].tolist() == predicted.tolist()
    assert predictions["confidence"].tolist() == pytest.approx(confidence.tolist(), abs=1e-6)
    counts = pd.read_csv(finished.root / "metrics/confusion.csv").set_index(["actual", "predicted"])["count"]
    assert counts.to_dict() == pd.Series(zip(labels, predicted, strict=True)).value_counts().to_dict()


def test_pictures_and_page_show_what_is_recorded(finished: Project, enter, monkeypatch):
    enter(finished)
    drawn: dict[Path, Figure] = {}
    monkeypatch.setattr(figures, "png", lambda figure, _: figure)
    monkeypatch.setattr(files, "write", drawn.__setitem__)
    plot.main(configured(EvaluateConfig, "evaluate"), configured(PlotConfig, "plot", digit=3))
    assert sorted(map(str, drawn)) == sorted(PIPELINE["plot"].outputs)
    error = json.loads(Path("metrics/evaluate.json").read_text())["test"]["calibration_error"]
    title = drawn[Path("metrics/calibration.png")].get_suptitle()
    assert title == f"Calibration on the test set: the expected calibration error is {error:.2%}"
    assert drawn[Path("metrics/tensor.png")].axes[0].get_title().startswith("Test image 3, labelled ")
    samples, features, kernels, wrong = (
        drawn[Path(f"metrics/{name}.png")].axes[0] for name in ("samples", "feature_maps", "filters", "misread")
    )
    model, images = (
        from_bytes(Path("models/lenet5.safetensors").read_bytes(), "the model"),
        fakes.digits(100, seed=1)[0],
    )
    probabilities = predict(model, torch.from_numpy(images[3])[None, None])[0].softmax(0)
    first = evaluation.misread(predictions.read()).index[0]
    for axes, place, expected in (
        *((samples, 0, fakes.digits(200)[0][0]), (features, 0, images[3]), (wrong, 0, images[first])),
        (kernels, 4, model.C1.weight.detach()[0, 0]),
    ):
        np.testing.assert_array_equal(axes.images[place].get_array(), expected)
    assert [text.get_text() for text in samples.texts] == ["20"] * 10 + ["10"] * 10
    assert {f"{share:.1%}" for share in probabilities} <= {text.get_text() for text in features.texts}

    page = json.loads(
        re.search(r'<script[^>]* id="data"[^>]*>(.*?)</script>', Path("report.html").read_text(), re.S)[1]
    )
    test = json.loads(Path("metrics/evaluate.json").read_text())["test"]
    tiles = {name: value for name, value, _ in page["tiles"]}
    assert tiles["test accuracy"] == f"{test['accuracy']:.2%}"
    assert tiles["test loss"] == f"{test['loss']:.4f}"
    assert tiles["calibration error"] == f"{error:.2%}"
    curves = pd.read_csv("metrics/history.csv")
    for part in ("train", "val"):
        shown = [row[f"{part}_error"] for row in page["history"]]
        assert shown == pytest.approx((100 * (1 - curves[f"{part}_accuracy"])).tolist())
    bins = pd.DataFrame(page["calibration"])
    assert bins["counts"].sum() == 100
    assert ((bins["accuracy"] - bins["confidence"]).abs() * bins["counts"]).sum() / 100 == pytest.approx(
        error, rel=1e-4
    )
    interval = wilson(bins["accuracy"] * bins["counts"], bins["counts"])
    assert [bins["low"].tolist(), bins["high"].tolist()] == [pytest.approx(end.tolist()) for end in interval]


@needs_browser
def test_the_page_answers_as_the_model_does(finished: Project, tmp_path: Path):
    """To the first test image of each class, which it offers beside the pad."""
    ask = "samples.map(pixels => { setDrawing([], pixels); return $('answer').textContent; })"
    probe = f"<script>document.body.replaceChildren(JSON.stringify({ask}))</script></body>"
    page = (finished.root / "report.html").read_text().replace("</body>", probe)
    (tmp_path / "page.html").write_text(page)
    body = re.search(r"<body[^>]*>(.*)</body>", dump(tmp_path / "page.html", tmp_path / "profile"), re.S)[1]
    table = pd.read_csv(finished.root / "models/predictions.csv").drop_duplicates("actual").sort_values("actual")
    named = [re.search("|".join(CLASSES), answer)[0] for answer in json.loads(html.unescape(body))]
    assert named == [CLASSES[label] for label in table["predicted"]]


def test_metrics_are_numbers(finished: Project):
    """So that `dvc metrics` and `dvc exp show` are tables of numbers; `make repro` ends with six of them."""
    shown = json.loads(finished.run("dvc", "metrics", "show", "--json"))[""]["data"]
    metrics = {path: pd.json_normalize(file["data"]).iloc[0] for path, file in shown.items()}
    assert set(metrics) == {"metrics/stats.json", "metrics/train.json", "metrics/evaluate.json"}
    shown_values = finished.run("dvc", "metrics", "show").splitlines()[1:]
    cells = [cell for line in shown_values for cell in line.split()[1:] if cell != "-"]
    assert len([float(cell) for cell in cells]) == 10
    command = "dvc metrics diff --all --targets metrics/evaluate.json"
    assert command in (ROOT / "Makefile").read_text()
    assert len(finished.run(*command.split()).splitlines()) == 1 + 6


@pytest.mark.slow
def test_a_clean_clone_makes_the_same_bytes(project: Project):
    clone = project.clone("clone")
    # What is in Git needs no run; what only DVC's cache has does.
    assert clone.repro() == [name for name, stage in PIPELINE.items() if any(stage.outputs.values())]
    assert clone.run("git", "status", "--porcelain") == ""


@pytest.mark.slow
def test_an_experiment_runs_only_what_it_affects(project: Project):
    project.repro(MNIST_MIRROR="/nonexistent")
    output = project.run("dvc", "exp", "run", "-S", "train.lr=1e-3", MNIST_MIRROR="/nonexistent")
    assert ran(output) == affected(PIPELINE, "train")
    assert "lr: 0.001" in (project.root / "params.yaml").read_text()
    diff = json.loads(project.run("dvc", "metrics", "diff", "--json"))
    assert diff["metrics/evaluate.json"]["test.loss"]["diff"] != 0
    assert len(project.run("dvc", "metrics", "diff").splitlines()) <= 10


@pytest.mark.slow
def test_without_validation(project: Project):
    project.edit("params.yaml", "folds: 5", "folds: 1")
    assert project.repro() == affected(PIPELINE, "split")
    assert json.loads((project.root / "metrics/evaluate.json").read_text()).keys() == {"test", "numerics"}
    project.run("dvc", "plots", "show")


def test_plots_render(project: Project):
    project.run("dvc", "plots", "show")
    page = (project.root / "dvc_plots/index.html").read_text()
    for name in ("loss", "accuracy", "learning rate", "confusion", "samples.png", "misread.png"):
        assert name in page


@pytest.mark.slow
def test_a_user_matplotlibrc_changes_no_picture(project: Project):
    (project.root / "matplotlibrc").write_text("figure.facecolor: red\nfont.size: 20\n")
    project.repro("--force", "--single-item", "plot", STAGES_STRICT="")
    assert project.run("git", "status", "--porcelain", "metrics") == ""
