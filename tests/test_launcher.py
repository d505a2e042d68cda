"""`python -m stages NAME`: how a stage is started, what reaches it, and what is said of mistakes."""

import re
import subprocess
import sys

import pytest
from conftest import PIPELINE, ROOT, STAGES, Project, wait_for

from stages.launch import environment as launcher
from stages.launch import numerics

PRINT = """import os
def main() -> None:
    print("\\n".join(f"{key}={value}" for key, value in os.environ.items()))
"""


def line(project: Project, *command: str, **env: str) -> tuple[int, str]:
    """Run `command`; return its exit status and what it printed."""
    done = project.try_run(*command, **env)
    return done.returncode, done.stdout


def environment(project: Project, stage: str, **env: str) -> set[str]:
    """Return the names of the variables with which `stage` is started."""
    (project.root / f"stages/{stage}.py").write_text(PRINT)
    status, printed = line(project, "python", "-m", "stages", stage, **env)
    assert status == 0, printed
    # Python itself sets LC_CTYPE where no locale is named.
    return {name.split("=")[0] for name in printed.splitlines()} - {"LC_CTYPE"}


STRANGERS = {"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "7", "MALLOC_ARENA_MAX": "1", "MPLBACKEND": "svg", "RAN": "x"}


def examples(patterns: list[str]) -> dict[str, str]:
    """Return a variable for each pattern, with a value that no program takes offence at."""
    return {pattern.replace("*", "X" if pattern.isupper() else "x"): "C" for pattern in patterns}


def test_the_listed_variables_reach_a_stage_and_no_others(standin: Project):
    own = {"PATH": standin.env["PATH"], "HOME": standin.env["HOME"], "TMPDIR": str(standin.root.parent)}
    for_all, for_download = examples(launcher.PASSED), examples(launcher.PASSED_TO["download"])
    standin.env = for_all | for_download | STRANGERS | own | {"STAGES_PROCESSOR": "A=1 B=2"}
    expected = {*for_all, *own, *numerics.environment(), "A", "B"}
    assert environment(standin, "stats") == expected | {"MPLCONFIGDIR"}
    assert environment(standin, "download") == expected | {"MPLCONFIGDIR", *for_download}


def test_the_processor_is_told_how_to_compute(standin: Project):
    (standin.root / "stages/stats.py").write_text(PRINT)
    printed = standin.run("python", "-m", "stages", "stats", **dict.fromkeys(numerics.environment(), "other"))
    assert {f"{name}={value}" for name, value in numerics.environment().items()} <= set(printed.splitlines())


@pytest.mark.slow
def test_only_listed_variables_reach_a_queued_experiment(standin: Project):
    (standin.root / "stages/stats.py").write_text(PRINT + "    open('metrics/stats.json', 'w').write('{}')\n")
    standin.run("git", "commit", "--quiet", "--all", "--message", "Print")
    standin.run("dvc", "exp", "run", "--queue", "--name", "printing", "stats")
    standin.run("dvc", "queue", "start", **STRANGERS)
    wait_for(lambda: "Success" in standin.run("dvc", "queue", "status"))
    printed = standin.run("dvc", "queue", "logs", "printing")
    assert f"HOME={standin.env['HOME']}" in printed
    assert not [name for name in STRANGERS if f"{name}=" in printed]


def test_another_folder_is_refused(standin: Project, tmp_path):
    elsewhere = Project(tmp_path, tmp_path)
    status, printed = line(elsewhere, "python", "-m", "stages", "stats", PYTHONPATH=str(standin.root))
    assert status == 2
    assert printed == (f"error: python -m stages must be run in {standin.root}, not in {tmp_path}\n")


def test_a_python_without_the_packages(standin: Project):
    standin.run("python", "-m", "venv", "--without-pip", "../bare")
    bare = str(standin.root.parent / "bare/bin/python")
    status, printed = line(standin, bare, "-m", "stages", "stats")
    assert status == 2
    assert re.fullmatch(rf"error: {bare} can't find \w+: run source \.venv/bin/activate first, or use make\n", printed)


@pytest.mark.parametrize(
    ("words", "found"), [([], "nothing"), (["trian"], "'trian'"), (["stats", "plot"], "'stats plot'")]
)
def test_what_names_no_stage(words, found, standin: Project):
    status, printed = line(standin, "python", "-m", "stages", *words)
    names = ", ".join(sorted(STAGES))
    assert status == 2
    assert printed == f"error: python -m stages takes one of {names}, not {found}\n"


@pytest.mark.parametrize(
    "stage", [pytest.param(stage, marks=[pytest.mark.slow] * (stage != "stats")) for stage in STAGES]
)
def test_a_stage_that_is_started_as_a_module(stage, finished: Project):
    status, printed = line(finished, "python", "-m", f"stages.{stage}")
    assert (status, printed) == (2, f"error: run a stage with: python -m stages {stage}\n")


def test_a_stage_that_dvc_yaml_does_not_have(standin: Project):
    (standin.root / "stages/export.py").write_text(PRINT)
    status, printed = line(standin, "python", "-m", "stages", "export")
    assert (status, printed) == (
        2,
        f"error: dvc.yaml has no stage export: add it (it has {', '.join(STAGES)})\n",
    )


def test_params_that_dvc_yaml_does_not_list(project: Project):
    project.edit("dvc.yaml", "      - compute\n      - train\n", "      - compute\n")
    status, printed = line(project, "python", "-m", "stages", "train")
    assert (status, printed) == (
        2,
        "error: dvc.yaml lists the params split, compute for the stage train, but main in stages/train.py takes "
        "split, compute, train: they must be the same\n",
    )


def test_every_mistake_in_params_is_told_a_line_each(project: Project):
    project.edit("params.yaml", "lr: 0.1", "lr: fast")
    project.edit("params.yaml", "  fold: 0", "  flod: 0")
    status, printed = line(project, "python", "-m", "stages", "train")
    assert status == 2
    assert printed.splitlines() == [
        "error: params.yaml: split.fold is missing; split has the keys folds, fold",
        "error: params.yaml: split has the unknown key 'flod'; its keys are folds, fold",
        "error: params.yaml: train.lr is 'fast', but must be a number above 0 and at most 100",
    ]


@pytest.mark.parametrize("content", ["", "- 1", "stages:", "stages: 3", "stages: {stats: }", "stages: {plot: {}}"])
def test_a_file_that_is_no_pipeline(content, standin: Project):
    (standin.root / "dvc.yaml").write_text(content)
    status, printed = line(standin, "python", "-m", "stages", "stats")
    assert status == 2
    assert re.fullmatch(
        r"error: dvc\.yaml (has no stage stats: add it \(it has \w+\)|does not describe a pipeline: .*)\n", printed
    )


def test_a_stage_without_main(standin: Project):
    (standin.root / "stages/stats.py").write_text("")
    assert line(standin, "python", "-m", "stages", "stats") == (2, "error: stages/stats.py has no function main\n")


def test_what_a_stage_reads_beside_its_deps_is_named(standin: Project):
    secret = standin.root / "secret.txt"
    secret.write_text("0")
    (standin.root / "stages/stats.py").write_text("def main():\n    open('secret.txt'), open('lenet/augment.py')\n")
    files = f"{standin.root}/lenet/augment.py, {secret}"
    named = f"the stage stats reads files that its deps in dvc.yaml do not list: {files}\n"
    assert line(standin, "python", "-m", "stages", "stats", STAGES_STRICT="") == (0, f"warning: {named}")
    assert line(standin, "python", "-m", "stages", "stats") == (2, f"error: {named}")


def test_other_packages_than_those_of_the_lock_file_are_named(standin: Project):
    standin.edit("requirements.lock", "\nnumpy==", "\nnumpy==9")
    lock = standin.root / "requirements.lock"
    lock.write_text(lock.read_text() + "no-such-package==1.0 \\\n    --hash=sha256:0\n")
    status, printed = line(standin, "python", "-m", "stages", "stats", STAGES_STRICT="")
    assert status == 0
    assert re.fullmatch(
        r"warning: packages differ from requirements\.lock: numpy \S+ instead of 9\S+, "
        r"no-such-package is missing instead of 1\.0; make repro installs them\n",
        printed,
    )
    lock.write_text("numpy is nice\n")
    status, printed = line(standin, "python", "-m", "stages", "stats")
    assert status == 2
    assert printed.startswith("error: requirements.lock is damaged: ")


@pytest.mark.parametrize("content", ["", "- 1", "train: {}"])
def test_a_file_without_the_sections(content, standin: Project):
    (standin.root / "params.yaml").write_text(content)
    status, printed = line(standin, "python", "-m", "stages", "evaluate")
    assert status == 2
    assert printed.splitlines() == [
        f"error: params.yaml: the section {section} is missing" for section in PIPELINE["evaluate"].params
    ]


def test_importing_changes_nothing():
    """No module of the project sets a variable or a signal handler, or opens a file of its own, when it is imported."""
    script = """
import importlib, os, pathlib, signal, sys
names = [".".join(path.with_suffix("").parts) for room in ("lenet", "stages", "tools")
         for path in pathlib.Path(room).rglob("[!_]*.py")] + ["stages.__main__"]
root, opened = os.getcwd(), []
def watch(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], str):
        path = os.path.abspath(arguments[0])
        if path.startswith(root) and "/.venv/" not in path and not path.endswith((".py", ".pyc")) \\
                and "__pycache__" not in path and sys._getframe(1).f_globals.get("__name__") in names:
            opened.append(path)
import torch, pandas, matplotlib.figure, scipy.stats, requests, torchvision  # what they do is not ours
state = lambda: ({number: signal.getsignal(number) for number in signal.valid_signals()}, dict(os.environ), os.getcwd(),
                 sys.path[:], torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
before = state()
sys.addaudithook(watch)
for name in names:
    importlib.import_module(name)
assert state() == before
assert opened == [], opened
print(len(names))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    assert int(done.stdout) > 25
