"""release/ holds the recorded model, and others get it from the repository by name."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Project
from huggingface_hub import ModelCard
from test_verify import OTHER, number, painted

from tools import checks, record
from tools.dev import release


def test_the_committed_model_is_the_recorded_one():
    assert (ROOT / "release/lenet5.safetensors").is_file()
    assert checks.of_release(ROOT) == []


def test_the_card_is_that_of_docs_with_the_recorded_scores():
    text = (ROOT / "release/README.md").read_text()
    test = json.loads((ROOT / "metrics/evaluate.json").read_text())["test"]
    (commit,) = re.findall(r"code at commit (\w{10})\.", text)
    assert text == release.card((ROOT / "docs/model-card.md").read_text(), test, commit), "run make release"
    results = ModelCard(text).data.eval_results
    assert {result.metric_type: result.metric_value for result in results} == test
    assert {(result.task_type, result.dataset_split) for result in results} == {("image-classification", "test")}
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (ROOT / "release" / target).exists(), target


@pytest.fixture
def released(project: Project) -> Project:
    """A project with a committed release."""
    shutil.copytree(ROOT / "docs", project.root / "docs")
    project.commit("Docs")
    assert project.run("python", "-m", "tools.dev.release") == "wrote release: commit it\n"
    project.commit("Release")
    return project


def test_a_stale_release_is_no_false_record(released: Project):
    assert released.run("python", "-m", "tools.lock") == "dvc.lock is in sync\n"
    (released.root / "release/lenet5.safetensors").write_bytes(b"damaged")
    done = released.try_run("python", "-m", "tools.lock")
    stale = (
        "release/lenet5.safetensors is not the models/lenet5.safetensors that dvc.lock names: "
        "run make release, and commit release/\n"
    )
    assert (done.returncode, done.stdout) == (4, f"dvc.lock is in sync\n{stale}")


@pytest.mark.slow
def test_only_a_commit_is_released(released: Project):
    released.edit("params.yaml", "folds: 5", "folds: 4")
    assert "error: release/ names the commit that its model comes from: commit or stash params.yaml" in released.refuse(
        "python", "-m", "tools.dev.release"
    )
    released.commit("Params without results")
    assert "so nothing was released" in released.refuse("python", "-m", "tools.dev.release")


@pytest.mark.slow
def test_others_get_the_model_by_name(released: Project, tmp_path: Path):
    model = (released.root / "release/lenet5.safetensors").read_bytes()
    released.run("git", "tag", "--annotate", "lenet5@v1.0.0", "--message", "The first release")
    released.run("git", "clone", "--quiet", "--bare", ".", str(tmp_path / "origin.git"))
    url = f"file://{tmp_path}/origin.git"
    theirs = Project(tmp_path / "theirs", tmp_path)
    theirs.root.mkdir()
    theirs.run("git", "init", "--quiet")
    theirs.run("dvc", "init", "--quiet")
    commands = {
        "got": ["dvc", "get", url, "release/lenet5.safetensors", "--out"],
        "imported": ["dvc", "import", url, "release/lenet5.safetensors", "--out"],
        "artifact": ["dvc", "artifacts", "get", url, "lenet5", "--out"],
        "tagged": ["dvc", "artifacts", "get", url, "lenet5", "--rev", "v1.0.0", "--out"],
    }
    for name, command in commands.items():
        theirs.run(*command, name)
        assert (theirs.root / name).read_bytes() == model, name
    code = "import dvc.api, sys; sys.stdout.buffer.write(dvc.api.read(*sys.argv[1:], mode='rb')[:8])"
    assert theirs.run("python", "-c", code, "release/lenet5.safetensors", url).encode()[:8] == model[:8]


def damaged(path: str) -> Callable[[Project], None]:
    def damage(project: Project) -> None:
        data = (project.root / path).read_bytes()
        (project.root / path).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    return damage


QUICKLY_FOUND = {
    "a loss": (
        number("metrics/evaluate.json", "test", "loss", change=1e-9),
        "evaluate: metrics/evaluate.json, made from",
    ),
    "an accuracy": (number("metrics/evaluate.json", "val", "accuracy", change=0.001), "evaluate: val.accuracy is "),
    "the mean": (number("metrics/stats.json", "mean", change=1e-9), "stats: metrics/stats.json"),
    "a picture": (painted("metrics/filters.png"), "plot: metrics/filters.png"),
    "a count": (
        number("metrics/download.json", "test", "images", change=1),
        "download: metrics/download.json, made from",
    ),
    "the predictions in release/": (
        damaged("release/predictions.csv"),
        "release/predictions.csv is not",
    ),
    "a stale release": (damaged("release/lenet5.safetensors"), "release/lenet5.safetensors is not the models/lenet5"),
    "another data set": (
        lambda p: p.edit("dvc.lock", record.md5_of(p.root / "data/mnist"), f"{'0' * 32}.dir"),
        "download: data/mnist, made from",
    ),
    "an edit without a run": (
        lambda p: p.edit("params.yaml", "folds: 5", "folds: 4"),
        "train: its param split",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICKLY_FOUND)
def test_a_quick_look_finds_what_does_not_follow_from_the_model(name, released: Project):
    forgery, named = QUICKLY_FOUND[name]
    forgery(released)
    released.commit("A forgery")
    printed = released.refuse("python", "-m", "tools.verify", "--quick", status=1)
    assert re.search(f"^  {re.escape(named)}", printed, re.M), printed


@pytest.mark.slow
def test_a_quick_look_at_a_true_record(released: Project):
    """In a clone, whose only model is that in release/, and on another processor."""
    clone = released.clone("fresh")
    for name in ("user.name", "user.email"):
        clone.run("git", "config", name, "test@example.com")
    assert clone.refuse("python", "-m", "tools.verify", "--quick").startswith("error: there is no data/mnist")
    clone.repro("download")
    for env in ({}, {"STAGES_PROCESSOR": OTHER}):
        assert clone.run("python", "-m", "tools.verify", "--quick", **env).startswith("consistent: ")
    shutil.rmtree(clone.root / "release")
    clone.commit("Without a release")
    assert "is nowhere to be had" in clone.refuse("python", "-m", "tools.verify", "--quick")
