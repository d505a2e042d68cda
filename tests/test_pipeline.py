"""The pipeline from end to end, with real DVC, on a fake MNIST."""

import json

import pytest
from conftest import Project, ran


def test_nothing_runs_twice(project: Project):
    assert project.repro() == []
    assert project.run("git", "status", "--porcelain") == ""


def test_metrics_and_tables(finished: Project):
    metrics = {path.stem: json.loads(path.read_text()) for path in (finished.root / "metrics").glob("*.json")}
    assert metrics["download"] == {"train": {"images": 200}, "test": {"images": 100}}
    assert set(metrics["stats"]) == {"mean", "std"}
    assert metrics["train"]["val"]["images"] == 40
    assert set(metrics["evaluate"]) == {"train", "val", "test"}
    assert metrics["evaluate"]["val"]["accuracy"] == metrics["train"]["val"]["accuracy"]
    predictions = (finished.root / "models/predictions.csv").read_text().splitlines()
    assert predictions[0] == "index,actual,predicted,confidence"
    assert len(predictions) == 101
    history = (finished.root / "models/history.csv").read_text().splitlines()
    assert history[0] == "epoch,lr,train_loss,train_accuracy,val_loss,val_accuracy"
    assert len(history) == 3


def test_a_clean_clone_makes_the_same_bytes(project: Project):
    project.run("git", "clone", "--quiet", ".", "../clone")
    clone = Project(project.root.parent / "clone", project.env["MNIST_MIRROR"])
    # What is in Git needs no run; what only DVC's cache has does.
    assert clone.repro() == ["download", "train", "evaluate"]
    assert clone.run("git", "status", "--porcelain") == ""


def test_an_experiment_runs_only_what_it_affects(project: Project):
    project.repro(MNIST_MIRROR="/nonexistent")
    output = project.run("dvc", "exp", "run", "-S", "train.lr=1e-3", MNIST_MIRROR="/nonexistent")
    assert ran(output) == ["train", "evaluate", "plot"]
    assert "lr: 0.001" in (project.root / "params.yaml").read_text()
    diff = json.loads(project.run("dvc", "metrics", "diff", "--json"))
    assert diff["metrics/evaluate.json"]["test.loss"]["diff"] != 0


@pytest.mark.slow
def test_without_validation(project: Project):
    project.edit("params.yaml", "folds: 5", "folds: 1")
    assert project.repro() == ["train", "evaluate", "plot"]
    for name in ("train", "evaluate"):
        metrics = json.loads((project.root / f"metrics/{name}.json").read_text())
        assert metrics.keys() == {"train", "test"} - ({"test"} if name == "train" else set())
    project.run("dvc", "plots", "show")


def test_plots_render(project: Project):
    project.run("dvc", "plots", "show")
    page = (project.root / "dvc_plots/index.html").read_text()
    for name in ("loss", "accuracy", "confusion", "samples.png", "misread.png"):
        assert name in page


def test_a_users_mistake_is_one_line_and_status_2(project: Project):
    project.edit("params.yaml", "lr: 0.1", "lr: fast")
    done = project.try_run("python", "-m", "stages.train")
    assert done.returncode == 2
    assert done.stdout == "error: params.yaml: train.lr is 'fast', but must be a number above 0 and at most 100\n"


@pytest.mark.slow
def test_a_user_matplotlibrc_changes_no_picture(project: Project):
    (project.root / "matplotlibrc").write_text("figure.facecolor: red\nfont.size: 20\n")
    project.repro("--force", "--single-item", "plot")
    assert project.run("git", "status", "--porcelain", "metrics") == ""
