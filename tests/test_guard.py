"""An edit of code or params while a stage runs fails it, and leaves nothing wrong behind."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Project

EDITS = {
    "params": ("params.yaml", "lr: 0.1", "lr: 0.01", "params.yaml: train"),
    "a module": ("lenet/config.py", '"""From', '"""Changed:', "lenet/config.py"),
    "the script": ("stages/train.py", '"""Stands in', '"""Changed:', "stages/train.py"),
}


def while_training(project: Project, *command: str, edit: Callable[[], None]) -> tuple[int, str]:
    """Run `command`, call `edit` while stage train runs, and return the exit status and what was printed."""
    folder = project.root.parent
    log = folder / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=project.root, env=project.env | {"WAIT": str(folder)}, stdout=file, stderr=subprocess.STDOUT
        )
    wait_for((folder / "started").exists)
    edit()
    (folder / "go").touch()
    return process.wait(60), log.read_text()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("kind", EDITS)
def test_an_edit_in_the_work_tree(kind, standin: Project):
    path, old, new, named = EDITS[kind]
    standin.edit("params.yaml", "epochs: ", "epochs: 1")  # something to train for
    before = (standin.root / "dvc.lock").read_bytes()
    status, output = while_training(standin, "dvc", "repro", edit=lambda: standin.edit(path, old, new))
    assert status != 0
    assert f"error: {named} changed while the stage ran; run it again" in output
    assert (standin.root / "dvc.lock").read_bytes() == before
    # Nothing went into the run cache: with the edit undone, training is still to be done.
    standin.edit(path, new, old)
    assert standin.repro() == ["train", "evaluate", "plot"]


def test_an_edit_of_what_the_stage_does_not_use(standin: Project):
    standin.edit("params.yaml", "epochs: ", "epochs: 1")
    edits = [("params.yaml", "dpi: 1", "dpi: 2"), ("lenet/figures.py", '"""The pictures:', '"""Changed:')]
    status, output = while_training(standin, "dvc", "repro", edit=lambda: [standin.edit(*edit) for edit in edits])
    assert status == 0, output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "old", "new", "named"),
    [
        ("lenet/config.py", '"""From', '"""Changed:', "lenet/config.py"),
        ("params.yaml", "epochs: 40", "epochs: 41", "params.yaml: train"),
    ],
)
def test_an_edit_in_a_queued_experiment(path, old, new, named, standin: Project):
    standin.run("dvc", "exp", "run", "--queue", "-S", "train.epochs=40")

    def edit() -> None:
        (tree,) = {path.parents[1] for path in standin.root.glob(".dvc/tmp/exps/tmp*/stages/train.py")}
        Project(tree, Path()).edit(path, old, new)

    while_training(standin, "dvc", "queue", "start", edit=edit)
    wait_for(lambda: "Failed" in standin.run("dvc", "queue", "status"))
    task = standin.run("dvc", "queue", "status").splitlines()[1].split()[0]
    assert f"{named} changed while the stage ran" in standin.run("dvc", "queue", "logs", task)
