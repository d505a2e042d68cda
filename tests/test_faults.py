"""What goes wrong on a user's machine gets one line, and the next run continues to the same bytes."""

import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import PIPELINE, STAGES, Project, copy

OUTPUTS = [path for stage in PIPELINE.values() for path in stage.outputs]


def outputs(project: Project) -> dict[str, str]:
    """Return the hash of every file that the stages write, and of dvc.lock."""
    places = [project.root / path for path in OUTPUTS]
    around = {place.parent for place in places} - {project.root}  # a half-written file would lie there
    files = [path for place in [*places, *around] for path in [place, *place.rglob("*")] if path.is_file()]
    return {
        str(path.relative_to(project.root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in [*files, project.root / "dvc.lock"]
    }


def stage(project: Project, name: str, prefix: str = "") -> tuple[int, str]:
    """Run the stage, with `prefix` before it in the shell; return its exit status and what it printed."""
    done = project.try_run("bash", "-c", f"{prefix} python -m stages {name}")
    return done.returncode, done.stdout


def last_line(output: str) -> str:
    assert "Traceback" not in output
    return output.splitlines()[-1]


MISTAKES = {
    "cuda where there is none": (
        "train",
        ("device: auto", "device: cuda"),
        "error: compute.device is cuda, but PyTorch finds no usable GPU here: set it to auto or cpu",
    ),
    "a batch larger than the training set": (
        "train",
        ("batch_size: 8 ", "batch_size: 161 "),
        "error: train.batch_size is 161, but training has 160 images: set it to 160 or less, or raise split.folds",
    ),
    "a digit beyond the test set": (
        "plot",
        ("digit: 0", "digit: 100"),
        "error: plot.digit is 100, but there are only 100 test images",
    ),
    "a section that the stage reads second": (
        "evaluate",
        ("fold: 0", "fold: 5"),
        "error: params.yaml: split.fold is 5, but split.folds is 5: set split.fold to 0 to 4, or raise split.folds",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_users_mistake(name, project: Project):
    script, edit, line = MISTAKES[name]
    if "cuda" in name:
        project.env["CUDA_VISIBLE_DEVICES"] = ""
    before = outputs(project)
    project.edit("params.yaml", *edit)
    status, output = stage(project, script)
    assert (status, last_line(output)) == (2, line)
    assert outputs(project) == before


def test_divergence_leaves_no_model(project: Project):
    (project.root / "params.yaml").write_text(
        re.sub(r" lr: \S+", " lr: 100", (project.root / "params.yaml").read_text())
    )
    done = project.try_run("dvc", "repro")
    assert done.returncode != 0
    assert re.search(
        r"^error: training diverged: the loss of step \d+ is (nan|inf); train\.lr is 100: set it lower$",
        done.stdout,
        re.M,
    )
    assert "Traceback" not in done.stdout
    assert not any((project.root / "models").glob("lenet5*"))
    project.run("git", "checkout", "--quiet", ".")
    assert project.repro() == []  # the run cache has it


DAMAGES = {
    "truncated": lambda data: data[: len(data) // 2],
    "a pickle": lambda data: b"cposix\nsystem\n(S'touch pwned'\ntR.",
    "empty": lambda data: b"",
    "not finite": lambda data: data[:-4] + b"\x00\x00\xc0\x7f",
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "not finite")) for name in DAMAGES]
)
def test_a_damaged_model(name, project: Project):
    path = project.root / "models/lenet5.safetensors"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(DAMAGES[name](data))
    for script in ("evaluate", "plot"):
        before = outputs(project)
        status, output = stage(project, script)
        assert status == 2
        assert re.match(r"error: models/lenet5\.safetensors (is|holds)", last_line(output))
        assert outputs(project) == before
    assert not (project.root / "pwned").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "path", "content", "line"),
    [
        ("train", "metrics/stats.json", "{}", "metrics/stats.json has no valid mean and standard deviation"),
        ("train", "metrics/stats.json", '{"mean": 0.1, "std": 0}', "metrics/stats.json has no valid mean"),
        ("plot", "metrics/history.csv", "", "metrics/history.csv is damaged: No columns to parse"),
        ("plot", "models/predictions.csv", "index,actual\n0,1\n", "models/predictions.csv is damaged: "),
    ],
)
def test_a_damaged_table(script, path, content, line, project: Project):
    (project.root / path).unlink()
    (project.root / path).write_text(content)
    status, output = stage(project, script)
    assert status == 2
    assert last_line(output).startswith(f"error: {line}")


# Of each stage a file that it writes.
FIRST_OUTPUT = {name: next(iter(stage.outputs)) for name, stage in PIPELINE.items()}
FIRST_OUTPUT["download"] += "/t10k-images-idx3-ubyte"
# Root may write anywhere, unless it gives that power up.
NO_ROOT_POWER = "setpriv --bounding-set=-dac_override,-dac_read_search" if os.geteuid() == 0 else ""


def run_without_output(name: str, project: Project, prefix: str) -> tuple[int, str]:
    """Remove the stage's first output and run it with `prefix`; return as `stage`, after a look at what is left."""
    output = project.root / FIRST_OUTPUT[name]
    output.unlink()
    before = outputs(project)
    status, printed = stage(project, name, prefix)
    assert {path: outputs(project).get(path) for path in before} == before
    assert set(outputs(project)) - set(before) == set()  # no half-written file, no temporary one
    return status, last_line(printed)


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_an_output_folder_that_cannot_be_written(name, project: Project):
    before = outputs(project)
    folder = (project.root / FIRST_OUTPUT[name]).parent
    (project.root / FIRST_OUTPUT[name]).touch()  # for the mode, not the content: the file is removed next
    script = f"chmod 555 {folder}; trap 'chmod 755 {folder}' EXIT; {NO_ROOT_POWER}"
    status, line = run_without_output(name, project, script)
    assert (status, line) == (1, f"error: [Errno 13] Permission denied: '{FIRST_OUTPUT[name]}.tmp'")
    project.repro()
    assert outputs(project) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_a_disk_that_is_full_in_the_middle_of_a_write(name, project: Project):
    before = outputs(project)
    # In units of 1,024 bytes. The file size limit gives the same kind of error as a full disk.
    limit = ((project.root / FIRST_OUTPUT[name]).stat().st_size - 1) // 1024
    status, line = run_without_output(name, project, f"ulimit -f {limit};")
    assert (status, line) == (1, "error: [Errno 27] File too large")
    project.repro()
    assert outputs(project) == before


def test_ctrl_c_prints_no_traceback(project: Project):
    project.edit("params.yaml", "epochs: 2", "epochs: 1000")
    process = subprocess.Popen(
        ["python", "-m", "stages", "train"],
        cwd=project.root,
        env=project.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while not process.stdout.readline().startswith("epoch"):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in printed


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_killed_at_any_moment(name, finished: Project, tmp_path: Path):
    """Four times each stage: SIGKILL to all processes at a random moment; then a run ends with the same bytes."""
    project = copy(finished, tmp_path)
    undisturbed = outputs(project)
    command = ["dvc", "repro", "--force", "--single-item", name]
    start = time.monotonic()
    project.run(*command)
    duration = time.monotonic() - start
    delays = random.Random(name)
    for _ in range(4):
        process = subprocess.Popen(
            command,
            cwd=project.root,
            env=project.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(delays.uniform(0.3, 1) * duration)  # the first third is DVC's own start
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        done = project.try_run("dvc", "repro")
        if done.stdout.startswith("'./dvc.lock'"):  # DVC was just writing it, and does not accept what there is of it
            project.run("git", "checkout", "dvc.lock")
            done = project.try_run("dvc", "repro")
        if "RWLock-file" in done.stdout:  # the same of its lock on files
            (project.root / ".dvc/tmp/rwlock").unlink()
            done = project.try_run("dvc", "repro")
        assert done.returncode == 0, done.stdout
        assert outputs(project) == undisturbed
    assert project.run("git", "status", "--porcelain") == ""


LOSSES = {
    "the data": lambda root: shutil.rmtree(root / "data"),
    "the models": lambda root: shutil.rmtree(root / "models"),
    "metrics edited by hand": lambda root: (root / "metrics/evaluate.json").write_text("{}"),
    "all": lambda root: [shutil.rmtree(root / folder) for folder in ("data", "models", "metrics")],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_what_is_lost_comes_back(name, project: Project):
    before = outputs(project)
    LOSSES[name](project.root)
    project.repro()
    assert outputs(project) == before


@pytest.mark.slow
def test_an_unusual_place(finished: Project, tmp_path: Path):
    (tmp_path / "mné st").mkdir()
    project = copy(finished, tmp_path / "mné st")
    before = outputs(project)
    project.run("bash", "-c", "umask 077; dvc repro --force", LANG="C", LC_ALL="C")
    assert outputs(project) == before
