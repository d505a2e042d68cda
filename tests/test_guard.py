"""An edit of anything that a stage reads, while it runs, fails it and leaves nothing wrong behind."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Project, wait_for

# Stage, file, and what to replace there by what (nothing: add a line); and how the error names it.
EDITS = {
    "params": ("train", "params.yaml", ("lr: 0.1", "lr: 0.01"), "params.yaml: train"),
    "a module": ("train", "lenet/augment.py", None, "lenet/augment.py"),
    "the stage itself": ("train", "stages/train.py", None, "stages/train.py"),
    "the data": ("train", "data/mnist/file", None, "data/mnist"),
    "the metrics of another stage": ("train", "metrics/stats.json", None, "metrics/stats.json"),
    "the packages": ("train", "requirements.lock", None, "requirements.lock"),
    "a module, before the stage runs": ("train is imported", "lenet/augment.py", None, "lenet/augment.py"),
    "the model": ("evaluate", "models/lenet5.safetensors", None, "models/lenet5.safetensors"),
}


def edit(project: Project, path: str, change: tuple[str, str] | None) -> None:
    file = project.root / path
    text = file.read_text()
    assert change is None or change[0] in text
    file.unlink()  # what DVC keeps in its cache is read-only
    file.write_text(text.replace(*change) if change else text + "\n")


def while_running(moment: str, project: Project, *command: str, edit: Callable[[], None]) -> tuple[int, str]:
    """Run `command`, call `edit` at a `moment` of a stage, and return the exit status and what was printed."""
    home = Path(project.env["HOME"])
    (home / f"wait: {moment}").touch()
    log = home / "log"
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=project.root, env=project.env, stdout=file, stderr=subprocess.STDOUT)
    wait_for((home / "started").exists)
    edit()
    (home / "go").touch()
    return process.wait(60), log.read_text()


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (place > 2)) for place, kind in enumerate(EDITS)]
)
def test_an_edit_in_the_work_tree(kind, standin: Project):
    moment, path, change, named = EDITS[kind]
    stage = moment.split()[0]
    standin.edit("params.yaml", "epochs: ", "epochs: 1")  # something to train and to evaluate
    if stage != "train":
        standin.repro("train")
    before = (standin.root / "dvc.lock").read_bytes()
    content = (standin.root / path).read_bytes()
    status, output = while_running(moment, standin, "dvc", "repro", edit=lambda: edit(standin, path, change))
    assert status != 0
    assert f"error: {named} changed while the stage ran; run it again" in output
    assert (standin.root / "dvc.lock").read_bytes() == before
    # Nothing went into the run cache: with the edit undone, the stage is still to be run.
    (standin.root / path).write_bytes(content)
    (Path(standin.env["HOME"]) / f"wait: {moment}").unlink()
    assert stage in standin.repro()


def test_an_edit_of_what_the_stage_does_not_read(standin: Project):
    standin.edit("params.yaml", "epochs: ", "epochs: 1")

    def edits() -> None:
        standin.edit("params.yaml", "dpi: 1", "dpi: 2")
        for path in ("lenet/figures.py", "lenet/errors.py", "stages/__main__.py", "stages/launch/guard.py"):
            edit(standin, path, None)

    status, output = while_running("train", standin, "dvc", "repro", edit=edits)
    assert status == 0, output


def test_another_type_of_the_same_value(standin: Project):
    """To Python 1 and true are equal, to the checks of params.yaml they are not."""
    standin.edit("params.yaml", "threads: 2", "threads: 1")
    retyped = lambda: standin.edit("params.yaml", "threads: 1", "threads: true")  # noqa: E731
    status, output = while_running("train", standin, "dvc", "repro", edit=retyped)
    assert status != 0
    assert "error: params.yaml: compute changed while the stage ran; run it again" in output


def test_params_that_cannot_be_read_at_the_end(standin: Project):
    standin.edit("params.yaml", "epochs: ", "epochs: 1")
    edit_to_nonsense = lambda: (standin.root / "params.yaml").write_text("train: [")  # noqa: E731
    status, output = while_running("train", standin, "dvc", "repro", edit=edit_to_nonsense)
    assert status != 0
    assert "error: params.yaml is not valid YAML" in output
    assert "Traceback" not in output


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["params", "a module"])
def test_an_edit_in_a_queued_experiment(kind, standin: Project):
    stage, path, change, named = EDITS[kind]
    standin.run("dvc", "exp", "run", "--queue", "-S", "train.epochs=40")

    def edit_there() -> None:
        (tree,) = {path.parents[1] for path in standin.root.glob(".dvc/tmp/exps/tmp*/stages/train.py")}
        edit(Project(tree, Path()), path, change)

    while_running(stage, standin, "dvc", "queue", "start", edit=edit_there)
    wait_for(lambda: "Failed" in standin.run("dvc", "queue", "status"))
    task = standin.run("dvc", "queue", "status").splitlines()[1].split()[0]
    assert f"{named} changed while the stage ran" in standin.run("dvc", "queue", "logs", task)
