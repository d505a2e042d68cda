"""What goes wrong on a user's machine gets one line, and the next run continues to the same bytes."""

import hashlib
import importlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import LR, PIPELINE, STAGES, Project, copy, wait_for

from lenet.errors import PipelineError
from stages.artifacts import files
from stages.launch import git, guard, params
from tools.git import unnoticed

KILLS = 6  # of `dvc exp run`, at random moments
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


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "metrics.json"
    files.write_json(path, {"loss": 1})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="nan"):
        files.write_json(path, {"loss": float("nan")})
    monkeypatch.setattr(Path, "replace", lambda *_: sys.exit("killed"))
    with pytest.raises(SystemExit):
        files.write_json(path, {"loss": 2})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


MODEL = "models/lenet5.safetensors"
PICKLE = b"cposix\nsystem\n(S'touch pwned'\ntR."


def edited(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data.replace(old, new)


def just(data: bytes) -> Callable[[bytes], bytes]:
    return lambda _: data


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


CUDA = edited(b"device: auto", b"device: cuda")
BATCH = edited(b"batch_size: 8 ", b"batch_size: 161 ")
DIGIT = edited(b"digit: 0", b"digit: 100")
FOLD = edited(b"fold: 0", b"fold: 5")  # in a section that evaluate reads second


@pytest.mark.parametrize(
    ("stage", "path", "change", "message"),
    [
        ("train", "params.yaml", CUDA, "compute.device is cuda, but PyTorch finds no GPU here: use "),
        ("train", "params.yaml", BATCH, "train.batch_size is 161, but training has 160 images: set it to 160 or less"),
        ("plot", "params.yaml", DIGIT, "plot.digit is 100, but there are only 100 test images"),
        (
            "evaluate",
            "params.yaml",
            FOLD,
            "params.yaml: split.fold is 5, but split.folds is 5: set split.fold to 0 to 4",
        ),
        ("train", "metrics/stats.json", just(b"{}"), "metrics/stats.json has no valid mean and standard deviation"),
        ("train", "metrics/stats.json", just(b'{"mean": 0.1, "std": 0}'), "metrics/stats.json has no valid mean"),
        ("plot", "metrics/history.csv", just(b""), "metrics/history.csv is damaged: No columns to parse"),
        ("plot", "models/predictions.csv", just(b"index,actual\n0,1\n"), "models/predictions.csv is damaged: "),
        ("plot", MODEL, cut, f"{MODEL} is not a safetensors file"),
        ("report", MODEL, cut, f"{MODEL} is not a safetensors file"),
        ("evaluate", MODEL, just(PICKLE), f"{MODEL} is not a safetensors file"),
    ],
)
def test_a_stage_refuses_what_makes_no_sense(stage, path, change, message, project: Project, enter, monkeypatch):
    enter(project)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    data = Path(path).read_bytes()
    Path(path).unlink()  # what DVC keeps in its cache is read-only
    Path(path).write_bytes(change(data))
    before = outputs(project)
    main, listed = importlib.import_module(f"stages.{stage}").main, PIPELINE[stage].params
    with pytest.raises(PipelineError, match=f"^{re.escape(message)}") as caught:
        main(**params.arguments(stage, main, listed, guard.sections(listed)))
    assert caught.value.status == 2
    assert outputs(project) == before
    assert not Path("pwned").exists()


def test_divergence_leaves_no_model(project: Project):
    project.edit("params.yaml", LR, "\n  lr: 100 ")
    printed = project.refuse("dvc", "repro", status=255)
    assert re.search(r"^error: training diverged: the loss of step \d+ is (nan|inf); train\.lr is 100", printed, re.M)
    assert not any((project.root / MODEL).parent.glob(f"*{Path(MODEL).stem}*"))
    project.run("git", "checkout", "--quiet", ".")
    assert project.repro() == []  # the run cache has it


# Of each stage a file that it writes.
FIRST_OUTPUT = {name: next(iter(stage.outputs)) for name, stage in PIPELINE.items()}
FIRST_OUTPUT["download"] += "/t10k-images-idx3-ubyte"


def check_a_failed_write(name: str, project: Project, prefix: str, error: str) -> None:
    """Remove the stage's first output and run it, with `prefix` before it in the shell: it must fail with `error`."""
    before = outputs(project)
    (project.root / FIRST_OUTPUT[name]).unlink()
    left = outputs(project)
    printed = project.refuse("bash", "-c", f"{prefix} python -m stages {name}", status=1)
    assert printed.splitlines()[-1] == f"error: {error}"
    now = outputs(project)
    assert now.keys() <= left.keys()  # no half-written file, no temporary one
    assert {path: now.get(path) for path in left} == left
    project.repro()
    assert outputs(project) == before


@pytest.mark.slow
def test_an_output_folder_that_cannot_be_written(project: Project):
    path = FIRST_OUTPUT["stats"]
    folder = (project.root / path).parent
    # Root may write anywhere, unless it gives that power up.
    powerless = "setpriv --bounding-set=-dac_override,-dac_read_search" if os.geteuid() == 0 else ""
    script = f"chmod 555 {folder}; trap 'chmod 755 {folder}' EXIT; {powerless}"
    check_a_failed_write("stats", project, script, f"[Errno 13] Permission denied: '{path}.tmp'")


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_a_disk_that_is_full_in_the_middle_of_a_write(name, project: Project):
    # In units of 1,024 bytes. The file size limit gives the same kind of error as a full disk.
    limit = ((project.root / FIRST_OUTPUT[name]).stat().st_size - 1) // 1024
    path = FIRST_OUTPUT[name]
    check_a_failed_write(name, project, f"ulimit -f {limit};", f"[Errno 27] File too large: '{path}.tmp'")


def test_a_full_disk_is_named(standin: Project):
    standin.edit("stages/stats.py", "    wait(STAGE)\n", "    open('/dev/full', 'wb', 0).write(b'x')\n")
    assert standin.refuse("python", "-m", "stages", "stats", status=1) == (
        "error: [Errno 28] No space left on device: '/dev/full'; free space there: "
        "dvc gc --workspace --all-commits removes old data and models from DVC's cache\n"
    )


def test_ctrl_c_prints_no_traceback(project: Project):
    project.edit("params.yaml", "epochs: 2", "epochs: 1000")
    process = project.start("python", "-m", "stages", "train", stdout=subprocess.PIPE)
    while not process.stdout.readline().startswith("epoch"):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in printed


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_killed_at_any_moment(name, project: Project):
    """SIGKILL to all processes, at a random moment in each third of the stage; then a run ends with the same bytes."""
    undisturbed = outputs(project)
    command = ["dvc", "repro", "--force", "--single-item", name]
    start = time.monotonic()
    project.run(*command)
    duration = time.monotonic() - start
    random_number = random.Random(name)
    for third in range(3):
        process = project.start(*command, stdout=subprocess.DEVNULL, start_new_session=True)
        moment = (third + random_number.random()) / 3
        time.sleep((0.3 + 0.7 * moment) * duration)  # what comes first is DVC's own start
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


@pytest.mark.slow
def test_an_experiment_killed_at_any_moment(standin: Project):
    """One command leads back to the commit; what runs next records nothing of the experiment."""
    undisturbed = outputs(standin)
    command = ["dvc", "exp", "run", "-S"]
    start = time.monotonic()
    standin.run(*command, "train.seed=9")
    duration = time.monotonic() - start
    random_number = random.Random(0)
    for seed in range(1, KILLS + 1):
        standin.run("python", "-m", "tools.back")
        process = standin.start(
            *(*command, f"train.seed={seed}"), stdout=subprocess.DEVNULL, start_new_session=True
        )  # a value as long as the old one: see tools/back.py
        time.sleep((0.2 + 0.8 * random_number.random()) * duration)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        printed = standin.run("python", "-m", "tools.back")
        assert printed.endswith("this is main, as it was committed\n"), printed
        assert outputs(standin) == undisturbed
        assert standin.run("git", "rev-parse", "--abbrev-ref", "HEAD") == "main\n"
        assert standin.run("git", "hash-object", "params.yaml") == standin.run("git", "rev-parse", "HEAD:params.yaml")
        assert standin.repro() == []
        assert standin.run("git", "status", "--porcelain") == ""
    standin.run(*command, "train.seed=8")
    assert "seed: 8 " in (standin.root / "params.yaml").read_text()


def hide(project: Project) -> None:
    """Edit params.yaml so that Git does not notice, as a killed `dvc exp run` does where two writes share a second."""
    path, time = project.root / "params.yaml", (10**9, 10**9)
    os.utime(path, time)
    project.run("git", "config", "core.trustctime", "false")
    project.run("git", "status")
    path.write_text(path.read_text().replace("seed: 0", "seed: 5"))
    os.utime(path, time)
    assert project.run("git", "status", "--porcelain") == ""


@pytest.mark.parametrize("place", ["root", "subfolder"])
def test_params_that_git_takes_for_unchanged(place, standin: Project, tmp_path: Path, enter, monkeypatch):
    if place == "subfolder":
        standin = standin.in_a_subfolder(tmp_path / "whole")
    enter(standin)
    git.check_params()
    standin.edit("params.yaml", "seed: 0", "seed: 1")
    git.check_params()  # Git knows
    standin.run("git", "checkout", "params.yaml")
    hide(standin)
    assert unnoticed("params.yaml", standin.root)
    with pytest.raises(
        PipelineError, match=r"^params\.yaml is not what the last commit has, but Git does not notice, "
    ):
        git.check_params()
    monkeypatch.setenv("DVC_EXP_NAME", "name")  # within an experiment
    git.check_params()
    monkeypatch.delenv("DVC_EXP_NAME")
    (standin.root / "params.yaml").touch()  # the way out for who wants these values
    git.check_params()
    assert standin.run("git", "status", "--porcelain", ".").endswith("params.yaml\n")
    standin.run("git", "checkout", "params.yaml")
    hide(standin)
    monkeypatch.setenv("PATH", "")  # there is no Git
    git.check_params()
    assert not unnoticed("params.yaml")
    assert not unnoticed("params.yaml", tmp_path)  # nor a repository


def test_lock_and_launcher_look_behind_git(standin: Project, enter, tool):
    enter(standin)
    hide(standin)
    told = "params.yaml is not what the last commit has, but Git does not notice, as after a killed dvc exp run: "
    assert standin.refuse("python", "-m", "stages", "stats").startswith(f"error: {told}make back ")
    status, printed, _ = tool("lock")
    assert status == 1
    assert "params.yaml: is not what HEAD has, but Git does not notice, " in printed


def test_the_way_back(standin: Project, enter, tool):
    enter(standin)
    assert tool("back") == (0, "nothing to do: this is main, as it was committed\n", "")
    hide(standin)
    standin.run("git", "checkout", "--quiet", "--detach")
    (standin.root / ".git/index.lock").touch()
    (standin.root / "metrics/train.json").unlink()
    (standin.root / "report.html").unlink()
    (standin.root / "mine.txt").touch()  # Git knows nothing of it
    status, printed, _ = tool("back")
    saved, last = printed.splitlines()
    assert (status, last) == (0, "this is main, as it was committed")
    assert standin.run("git", "status", "--porcelain", "--branch") == "## main\n?? mine.txt\n"
    assert "seed: 0" in (standin.root / "params.yaml").read_text()
    assert (standin.root / "report.html").exists()
    (patch,) = re.findall(r"git apply (\S+) ", saved)
    standin.run("git", "apply", patch)
    assert "seed: 5" in (standin.root / "params.yaml").read_text()
    assert not (standin.root / "metrics/train.json").exists()


def test_the_way_back_where_the_branch_is_unclear(standin: Project, enter, tool):
    enter(standin)
    standin.run("git", "branch", "other")
    standin.run("git", "checkout", "--quiet", "--detach")
    shutil.rmtree(standin.root / ".git/logs")
    standin.edit("params.yaml", "seed: 0", "seed: 5")
    status, _, errors = tool("back")
    assert status == 2
    assert re.fullmatch(
        r"error: HEAD is detached at \w+, .*: make back BRANCH=NAME, with one of main, other; .*\n", errors
    )
    assert "seed: 5" in (standin.root / "params.yaml").read_text()
    assert tool("back", "nowhere")[0] == 2
    assert tool("back", "main")[0] == 0
    assert standin.run("git", "status", "--porcelain", "--branch") == "## main\n"


def test_no_way_back_while_something_runs(standin: Project, enter, tool):
    enter(standin)
    (standin.root.parent / "wait: stats").touch()
    process = standin.start("python", "-m", "stages", "stats")
    wait_for((standin.root.parent / "started").exists)
    status, _, errors = tool("back")
    (standin.root.parent / "go").touch()
    process.wait(60)
    assert status == 2
    assert re.fullmatch(r"error: still running here: \d+ \(.* stages --restarted stats\); stop them first.*\n", errors)


@pytest.mark.slow
def test_what_is_lost_comes_back(project: Project):
    before = outputs(project)
    (project.root / "metrics/evaluate.json").write_text("{}")  # edited by hand
    project.repro()
    assert outputs(project) == before
    for folder in ("data", "models", "metrics"):
        shutil.rmtree(project.root / folder)
    project.repro()
    assert outputs(project) == before


@pytest.mark.slow
def test_an_unusual_place(finished: Project, tmp_path: Path):
    (tmp_path / "mné st").mkdir()
    project = copy(finished, tmp_path / "mné st")
    before = outputs(project)
    project.run("bash", "-c", "umask 077; dvc repro --force", LANG="C", LC_ALL="C")
    assert outputs(project) == before
