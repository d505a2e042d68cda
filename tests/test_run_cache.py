"""Nothing is trained twice: not here, not in a queued experiment, not by a colleague who shares a remote."""

from pathlib import Path

import pytest
from conftest import LR, PIPELINE, Project, ran

from stages.launch.pipeline import affected

CACHED = "Stage 'train' is cached - skipping run"


@pytest.fixture
def tried(standin: Project) -> Project:
    """A project that has also tried another learning rate and gone back."""
    standin.edit("params.yaml", LR, "\n  lr: 0.01 ")
    assert standin.repro() == affected(PIPELINE, "train")
    standin.run("git", "checkout", "--quiet", ".")
    return standin


def test_back_to_params_tried_before(tried: Project):
    output = tried.run("dvc", "repro")
    assert CACHED in output
    assert "Running stage" not in output
    assert tried.run("git", "status", "--porcelain") == ""


@pytest.mark.slow
def test_queued_experiments_after_an_edit_of_another_stage(tried: Project):
    script = tried.root / "stages/evaluate.py"
    script.write_text(script.read_text() + "# a comment\n")
    tried.run("dvc", "exp", "run", "--queue", "-S", "train.lr=0.01")
    script.write_text("raise SystemExit('not the code of the experiment')")
    output = tried.run("dvc", "exp", "run", "--run-all")
    assert CACHED in output
    assert ran(output) == ["evaluate"]


@pytest.fixture
def colleague(standin: Project) -> Project:
    """A clone by someone else; both share a Git remote, `origin`, and a DVC remote, `storage`."""
    folder = standin.root.parent
    standin.run("git", "init", "--quiet", "--bare", "../origin")
    standin.run("git", "remote", "add", "origin", str(folder / "origin"))
    standin.run("git", "push", "--quiet", "origin", "main")
    standin.run("git", "clone", "--quiet", "--branch", "main", "../origin", "../colleague")
    other = Project(folder / "colleague", Path("/nonexistent"))
    for project in (standin, other):
        project.run("dvc", "remote", "add", "--local", "--default", "storage", str(folder / "storage"))
    return other


@pytest.mark.slow
def test_the_committed_params_through_a_remote(standin: Project, colleague: Project):
    standin.run("dvc", "push")
    colleague.run("dvc", "pull")
    assert colleague.repro() == []
    assert colleague.run("git", "status", "--porcelain") == ""


@pytest.mark.slow
def test_an_experiment_through_a_remote(standin: Project, colleague: Project):
    standin.run("dvc", "exp", "run", "--name", "slower", "-S", "train.lr=0.02")
    standin.run("dvc", "exp", "push", "origin", "slower")
    colleague.run("dvc", "exp", "pull", "origin", "slower")
    colleague.run("dvc", "exp", "apply", "slower")
    assert colleague.repro("--pull") == []
    # Its params are now tried here, too: any way back to them is as quick.
    assert "lr: 0.02" in (colleague.root / "params.yaml").read_text()
