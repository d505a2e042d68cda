"""What re-runs after which change: what docs/pipeline.md says, against real runs of DVC on quick stand-ins."""

import pytest
from conftest import PARAMS, PIPELINE, ROOT, Project
from dvc.repo import Repo

from stages.launch import guard
from stages.launch.pipeline import affected

FILES = sorted(
    str(path.relative_to(ROOT))
    for room in ("lenet", "stages")
    for path in (ROOT / room).rglob("*.*")
    if path.is_file() and "__pycache__" not in path.parts
)


def first_of_its_kind(changes: list[str]) -> list:
    """Mark all changes but the first of each set with the same consequences as slow."""
    seen, marked = [], []
    for change in changes:
        stages = affected(PIPELINE, change)
        marked.append(pytest.param(change, marks=[pytest.mark.slow] * (stages in seen), id=change))
        seen.append(stages)
    return marked


def runs(project: Project, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let DVC reproduce the pipeline, in this process, and return the stages that ran."""
    monkeypatch.chdir(project.root)
    for name in ("PATH", "HOME"):
        monkeypatch.setenv(name, project.env[name])
    with Repo() as repo:
        repo.reproduce()
        assert repo.status() == {}  # and every output is there
    log = project.root.parent / "ran"
    return log.read_text().split() if log.exists() else []


@pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")
@pytest.mark.parametrize("path", first_of_its_kind([*FILES, "requirements.lock"]))
def test_a_comment_in_a_file(path, standin: Project, monkeypatch: pytest.MonkeyPatch):
    file = standin.root / path
    file.write_text(file.read_text() + "# a comment\n")
    assert runs(standin, monkeypatch) == affected(PIPELINE, path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")
@pytest.mark.parametrize("section", first_of_its_kind(list(PARAMS)))
def test_another_value_of_a_param(section, standin: Project, monkeypatch: pytest.MonkeyPatch):
    standin.edit("params.yaml", f"\n{section}:", f"\n{section}:\n  another: 1")
    assert runs(standin, monkeypatch) == affected(PIPELINE, section)


OUTPUTS = [(stage, path) for stage, entry in PIPELINE.items() for path in entry.outputs]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")
@pytest.mark.parametrize(
    ("stage", "path"),
    [
        pytest.param(*output, marks=[pytest.mark.slow] * (place > 2), id=output[1])
        for place, output in enumerate(OUTPUTS)
    ],
)
def test_a_damaged_output(stage, path, standin: Project, monkeypatch: pytest.MonkeyPatch):
    """It comes back from DVC's cache; only download keeps what it had, and so has no run cache."""
    file = standin.root / path
    before = file.read_bytes() if file.is_file() else (file / "file").read_bytes()
    (file if file.is_file() else file / "file").unlink()
    assert runs(standin, monkeypatch) == (["download"] if stage == "download" else [])
    assert (file.read_bytes() if file.is_file() else (file / "file").read_bytes()) == before


def test_a_comment_in_the_launcher_runs_nothing():
    for path in guard.NOT_DEPS:
        assert affected(PIPELINE, path) == []


def test_an_edit_of_pictures_or_scores_does_not_retrain():
    for path in ("lenet/figures.py", "lenet/evaluation.py", "stages/plot.py", "stages/evaluate.py"):
        assert affected(PIPELINE, path)
        assert "train" not in affected(PIPELINE, path)
