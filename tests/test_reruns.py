"""What re-runs after which change: what docs/pipeline.md says, against real DVC on quick stand-ins."""

from collections.abc import Callable

import pytest
from conftest import PARAMS, PIPELINE, ROOT, STAGES, Project
from dvc.repo import Repo

from stages.launch import guard
from stages.launch.pipeline import affected

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")

FILES = [
    str(path.relative_to(ROOT))
    for room in ("lenet", "stages")
    for path in (ROOT / room).rglob("*.*")
    if path.is_file() and "__pycache__" not in path.parts
]


@pytest.fixture
def runs(standin: Project, enter) -> Callable[[], list[str]]:
    """Return a function that lets DVC reproduce the pipeline, in this process, and returns the stages that ran."""
    enter(standin)

    def runs() -> list[str]:
        with Repo() as repo:
            repo.reproduce()
            assert repo.status() == {}  # and every output is there
        log = standin.root.parent / "ran"
        return log.read_text().split() if log.exists() else []

    return runs


def comment(project: Project, path: str) -> None:
    file = project.root / path
    file.write_text(file.read_text() + "# a comment\n")


def test_files_that_dvc_finds_changed(standin: Project, enter):
    for path in (paths := [*FILES, "requirements.lock"]):
        comment(standin, path)
    enter(standin)
    with Repo() as repo:
        found = {
            (stage, path)
            for stage, (changed,) in repo.status().items()
            for path, how in changed["changed deps"].items()
            if how == "modified"
        }
    assert found == {(stage, path) for path in paths for stage in affected(PIPELINE, path)}


@pytest.mark.parametrize("path", ["lenet/data/dataset.py", "lenet/evaluation.py", "stages/train.py"])
def test_a_comment_in_a_file(path, standin: Project, runs):
    """The outputs stay as they are, so no other stage runs than those that list the file."""
    comment(standin, path)
    assert runs() == affected(PIPELINE, path)


# The slow ones have the same consequences as split.
@pytest.mark.parametrize(
    "section", [pytest.param(name, marks=[pytest.mark.slow] * (name in ("compute", "train"))) for name in PARAMS]
)
def test_another_value_of_a_param(section, standin: Project, runs):
    standin.edit("params.yaml", f"\n{section}:", f"\n{section}:\n  another: 1")
    assert runs() == affected(PIPELINE, section)


@pytest.mark.parametrize(("stages", "run"), [(["download"], ["download"]), (STAGES[1:], [])], ids=["data", "others"])
def test_lost_outputs(stages, run, standin: Project, runs):
    """They come back from DVC's cache; only download keeps what it had, and so has no run cache."""
    places = [standin.root / path for stage in stages for path in PIPELINE[stage].outputs]
    files = [place / "file" if place.is_dir() else place for place in places]
    before = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    assert runs() == run
    assert [file.read_bytes() for file in files] == before


def test_a_comment_in_the_launcher_runs_nothing():
    for path in guard.NOT_DEPS:
        assert affected(PIPELINE, path) == []


def test_an_edit_of_pictures_or_scores_does_not_retrain():
    for path in ("lenet/figures.py", "lenet/evaluation.py", "stages/plot.py", "stages/evaluate.py"):
        assert affected(PIPELINE, path)
        assert "train" not in affected(PIPELINE, path)
