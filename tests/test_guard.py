"""An edit of anything that a stage reads, while it runs, fails it and leaves nothing wrong behind."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import LR, PIPELINE, Project, wait_for

from lenet.errors import PipelineError
from stages.launch import numerics, reads
from stages.launch.guard import guard

# Files that train reads; of those that the error does not name by their path, what it names.
NAMED = {"data/mnist/file": "data/mnist", "params.yaml": "params.yaml: train"}
READ = ["lenet/augment.py", "stages/train.py", "metrics/stats.json", "requirements.lock", *NAMED]


def edit(project: Project, path: str) -> None:
    """Add a line to the file, and change the learning rate if it is params.yaml."""
    file = project.root / path
    text = file.read_text()
    file.unlink()  # what DVC keeps in its cache is read-only
    file.write_text(text.replace(LR, "\n  lr: 0.01 ") + "\n")


def while_running(moment: str, project: Project, *command: str, edit: Callable[[], None]) -> tuple[int, str]:
    """Run `command`, call `edit` at a `moment` of a stage, and return the exit status and what was printed."""
    home = Path(project.env["HOME"])
    (home / f"wait: {moment}").touch()
    log = home / "log"
    with log.open("w") as file:
        process = project.start(*command, stdout=file)
    wait_for((home / "started").exists)
    edit()
    (home / "go").touch()
    return process.wait(60), log.read_text()


# The first before the stage itself runs.
@pytest.mark.parametrize(
    ("moment", "paths"),
    [pytest.param("train is imported", ["lenet/augment.py"], marks=pytest.mark.slow), ("train", READ)],
)
def test_an_edit_in_the_work_tree(moment, paths, standin: Project):
    standin.edit("params.yaml", "epochs: ", "epochs: 1")  # something to train
    before = {path: (standin.root / path).read_bytes() for path in [*paths, "dvc.lock"]}

    def edit_all() -> None:
        for path in paths:
            edit(standin, path)

    status, output = while_running(moment, standin, "dvc", "repro", edit=edit_all)
    assert status != 0
    (named,) = re.findall("error: (.*) changed while the stage ran; run it again", output)
    assert sorted(named.split(", ")) == sorted(NAMED.get(path, path) for path in paths)
    assert (standin.root / "dvc.lock").read_bytes() == before["dvc.lock"]
    # Nothing went into the run cache: with the edits undone, the stage is still to be run.
    for path, content in before.items():
        (standin.root / path).write_bytes(content)
    (Path(standin.env["HOME"]) / f"wait: {moment}").unlink()
    assert "train" in standin.repro()


def test_an_edit_of_what_the_stage_does_not_read(standin: Project):
    standin.edit("params.yaml", "epochs: ", "epochs: 1")

    def edits() -> None:
        standin.edit("params.yaml", "dpi: 1", "dpi: 2")
        for path in ("lenet/figures.py", "lenet/errors.py", "stages/__main__.py", "stages/launch/guard.py"):
            edit(standin, path)

    status, output = while_running("train", standin, "dvc", "repro", edit=edits)
    assert status == 0, output


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("threads: true", "params.yaml: compute changed while the stage ran"),  # to Python 1 and true are equal
        ("threads: [", "params.yaml is not valid YAML"),
    ],
)
def test_params_that_make_no_sense_at_the_end(edit, message, standin: Project, enter, monkeypatch):
    enter(standin)
    params = standin.root / "params.yaml"
    params.write_text(re.sub(r"threads: \d+", "threads: 1", params.read_text()))
    for name, value in numerics.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(reads, "watch", reads.Seen)  # which can't be undone
    with pytest.raises(PipelineError, match=message), guard("train", PIPELINE["train"]):
        standin.edit("params.yaml", "threads: 1", edit)


def test_numerics_other_than_those_that_the_stage_was_started_with(standin: Project, enter, monkeypatch):
    enter(standin)
    monkeypatch.setattr(numerics, "environment", lambda: {"ATEN_CPU_CAPABILITY": "edited"})
    monkeypatch.setattr(reads, "watch", reads.Seen)
    message = r"^stages/launch/numerics\.py changed while the stage ran"
    with pytest.raises(PipelineError, match=message), guard("stats", PIPELINE["stats"]):
        pass


def test_a_file_that_no_dep_names(standin: Project, enter, monkeypatch):
    enter(standin)
    for name, value in numerics.environment().items():
        monkeypatch.setenv(name, value)
    seen = reads.Seen()
    seen.files = {str(standin.root / path) for path in ("metrics/train.json", "metrics/stats.json")}
    monkeypatch.setattr(reads, "watch", lambda: seen)
    message = r"the stage stats reads files that its deps in dvc\.yaml do not list: \S+metrics/train\.json$"
    with pytest.raises(PipelineError, match=message), guard("stats", PIPELINE["stats"]):
        pass


@pytest.mark.slow
def test_an_edit_in_a_queued_experiment(standin: Project):
    standin.run("dvc", "exp", "run", "--queue", "-S", "train.epochs=40")

    def edit_there() -> None:
        (tree,) = {path.parents[1] for path in standin.root.glob(".dvc/tmp/exps/tmp*/stages/train.py")}
        for path in ("lenet/augment.py", "params.yaml"):
            edit(Project(tree, Path()), path)

    while_running("train", standin, "dvc", "queue", "start", edit=edit_there)
    wait_for(lambda: "Failed" in standin.run("dvc", "queue", "status"))
    task = standin.run("dvc", "queue", "status").splitlines()[1].split()[0]
    told = "lenet/augment.py, params.yaml: train changed while the stage ran"
    assert told in standin.run("dvc", "queue", "logs", task)
