"""`python -m stages NAME`: how a stage is started, what reaches it, and what is said of mistakes."""

import _ctypes
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PARAMS, PIPELINE, ROOT, STAGES, Project, wait_for

from lenet.errors import PipelineError
from stages import train
from stages.launch import environment as launcher
from stages.launch import guard, numerics, packages, params, pipeline, reads, yaml12

PRINT = """import os
def main() -> None:
    print("\\n".join(f"{key}={value}" for key, value in os.environ.items()))
"""


def environment(project: Project, stage: str) -> dict[str, str]:
    """Return the variables with which `stage` is started."""
    (project.root / f"stages/{stage}.py").write_text(PRINT)
    variables = dict(line.split("=", 1) for line in project.run("python", "-m", "stages", stage).splitlines())
    variables.pop("LC_CTYPE", None)  # Python itself sets it where no locale is named
    return variables


STRANGERS = {"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "7", "MALLOC_ARENA_MAX": "1", "MPLBACKEND": "svg", "RAN": "x"}


def examples(patterns: list[str]) -> dict[str, str]:
    """Return a variable for each pattern, with a value that no program takes offence at."""
    return {pattern.replace("*", "X" if pattern.isupper() else "x"): "C" for pattern in patterns}


def test_the_listed_variables_reach_a_stage_and_no_others(standin: Project):
    own = {"PATH": standin.env["PATH"], "HOME": standin.env["HOME"], "TMPDIR": str(standin.root.parent)}
    for_all, for_download = examples(launcher.PASSED), examples(launcher.PASSED_TO["download"])
    standin.env = for_all | for_download | STRANGERS | own | {"STAGES_PROCESSOR": "A=1 B=2"}
    standin.env |= dict.fromkeys(numerics.environment(), "other")
    computing = numerics.environment() | {"A": "1", "B": "2"}
    for stage, passed in (("stats", for_all), ("download", for_all | for_download)):
        found = environment(standin, stage)
        assert found.keys() == {*passed, *own, *computing, "MPLCONFIGDIR"}
        assert computing.items() <= found.items()


def test_outputs_are_cached_unless_dvc_yaml_says_otherwise():
    content = "stages: {a: {cmd: run, outs: [one, two: {cache: false}], metrics: [three: {persist: true}]}}"
    assert pipeline.parse(yaml12.load(content.encode(), "dvc.yaml"))["a"].outputs == {
        "one": True,
        "two": False,
        "three": True,
    }


@pytest.mark.parametrize(("flags", "avx2"), [("sse4_1 avx2 avx512f", True), ("sse4_1", False)])
def test_processors_with_and_without_avx512_agree(flags, avx2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "cpuinfo").write_text(f"flags\t: fpu {flags} \n")
    monkeypatch.setattr(numerics, "Path", lambda _: tmp_path / "cpuinfo")
    found = numerics.environment()
    assert (found.get("ATEN_CPU_CAPABILITY"), found.get("ONEDNN_MAX_CPU_ISA")) == (
        ("avx2", "AVX2") if avx2 else (None, None)
    )


@pytest.mark.slow
def test_only_listed_variables_reach_a_queued_experiment(standin: Project):
    (standin.root / "stages/stats.py").write_text(PRINT + "    open('metrics/stats.json', 'w').write('{}')\n")
    standin.commit("Print")
    standin.run("dvc", "exp", "run", "--queue", "--name", "printing", "stats")
    standin.run("dvc", "queue", "start", **STRANGERS)
    wait_for(lambda: "Success" in standin.run("dvc", "queue", "status"))
    printed = standin.run("dvc", "queue", "logs", "printing")
    assert f"HOME={standin.env['HOME']}" in printed
    assert not [name for name in STRANGERS if f"{name}=" in printed]


def test_another_folder_is_refused(standin: Project, tmp_path):
    elsewhere = Project(tmp_path, tmp_path)
    printed = elsewhere.refuse("python", "-m", "stages", "stats", PYTHONPATH=str(standin.root))
    assert printed == (f"error: python -m stages must be run in {standin.root}, not in {tmp_path}\n")


def test_a_python_without_the_packages(standin: Project):
    standin.run("python", "-m", "venv", "--without-pip", "../bare")
    bare = str(standin.root.parent / "bare/bin/python")
    assert re.fullmatch(
        rf"error: {bare} can't find \w+: run source \.venv/bin/activate first, or use make\n",
        standin.refuse(bare, "-m", "stages", "stats"),
    )


TAKES = "python -m stages takes one of " + ", ".join(sorted(STAGES))


@pytest.mark.parametrize(
    ("words", "edits", "lines"),
    [
        ([], {}, [f"{TAKES}, not nothing"]),
        (["trian"], {}, [f"{TAKES}, not 'trian'"]),
        (["stats", "plot"], {}, [f"{TAKES}, not 'stats plot'"]),
        (
            ["unlisted"],
            {"stages/unlisted.py": PRINT},
            [f"dvc.yaml has no stage unlisted: add it (it has {', '.join(STAGES)})"],
        ),
        (["stats"], {"dvc.yaml": "- 1"}, ["dvc.yaml does not describe a pipeline: "]),
        (["stats"], {"stages/stats.py": ""}, ["stages/stats.py has no function main"]),
        (["stats"], {"requirements.lock": "numpy is nice\n"}, ["requirements.lock is damaged: "]),
        (
            ["evaluate"],
            {"params.yaml": "- 1"},
            [f"params.yaml: the section {section} is missing" for section in PIPELINE["evaluate"].params],
        ),
    ],
)
def test_a_mistake_is_told(words, edits, lines, standin: Project):
    for path, content in edits.items():
        (standin.root / path).write_text(content)
    printed = standin.refuse("python", "-m", "stages", *words).splitlines()
    assert len(printed) == len(lines)
    assert all(line.startswith(f"error: {start}") for line, start in zip(printed, lines, strict=True))


@pytest.mark.parametrize("content", ["", "- 1", "stages:", "stages: 3", "stages: {stats: }", "stages: {stats: {}}"])
def test_a_file_that_is_no_pipeline(content):
    with pytest.raises(PipelineError, match=r"dvc\.yaml does not describe a pipeline: "):
        pipeline.parse(yaml12.load(content.encode(), "dvc.yaml"))


@pytest.mark.parametrize("content", ["", "- 1", "train: {}"])
def test_a_file_without_the_sections(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(content)
    assert guard.sections(["split", "evaluate"]) == {}


def test_params_that_dvc_yaml_does_not_list():
    message = (
        "dvc.yaml lists the params split, compute for the stage train, but main in stages/train.py takes "
        "split, compute, train: they must be the same"
    )
    with pytest.raises(PipelineError, match=message):
        params.arguments("train", train.main, ["split", "compute"], PARAMS)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_is_started_as_a_script(stage, capsys):
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(ROOT / f"stages/{stage}.py"), run_name="__main__")
    assert done.value.code == 2
    assert capsys.readouterr().err == f"error: run a stage with: python -m stages {stage}\n"


def test_what_a_stage_reads_beside_its_deps_is_named(standin: Project):
    secret = standin.root / "secret.txt"
    secret.write_text("0")
    (standin.root / "stages/stats.py").write_text("def main():\n    open('secret.txt'), open('lenet/augment.py')\n")
    files = f"{standin.root}/lenet/augment.py, {secret}"
    named = f"the stage stats reads files that its deps in dvc.yaml do not list: {files}\n"
    assert standin.run("python", "-m", "stages", "stats", STAGES_STRICT="") == f"warning: {named}"
    assert standin.refuse("python", "-m", "stages", "stats") == f"error: {named}"


def test_other_packages_than_those_of_the_lock_file_are_named(standin: Project):
    standin.edit("requirements.lock", "\nnumpy==", "\nno-such-package==1.0 \\\n    --hash=sha256:0\nnumpy==9")
    assert re.fullmatch(
        r"warning: packages differ from requirements\.lock: no-such-package is missing instead of 1\.0, "
        r"numpy \S+ instead of 9\S+; make repro installs them\n",
        standin.run("python", "-m", "stages", "stats", STAGES_STRICT=""),
    )


@pytest.mark.parametrize(
    ("installed", "found"),
    [
        ({"torch": "2.14.1", "nvidia-nvtx": "13.0.85"}, []),
        ({"torch": "2.14.1+cpu"}, []),  # this build has no CUDA
        ({"torch": "2.14.1+cu130"}, ["nvidia-nvtx is missing instead of 13.0.85"]),
        ({"torch": "2.14.0+cpu"}, ["torch 2.14.0+cpu instead of 2.14.1"]),
    ],
)
def test_a_build_of_a_version_is_that_version(installed, found, monkeypatch):
    monkeypatch.setattr(packages, "_version", lambda name: installed.get(name, ""))
    assert packages.drift("torch==2.14.1 \\\n    --hash=sha256:0\nnvidia-nvtx==13.0.85\n") == found


def test_a_temporary_folder_that_does_not_exist(standin: Project):
    standin.run("python", "-m", "stages", "stats", TMPDIR="/no/such/folder")


@pytest.mark.slow
def test_a_link_to_the_packages(project: Project, tmp_path):
    """Matplotlib opens its fonts where the link leads."""
    (tmp_path / "venv").symlink_to(sys.prefix)
    project.run(str(tmp_path / "venv/bin/python"), "-m", "stages", "plot")


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


def plant(project: Project, code: str) -> None:
    """Let the stage stats run `code` first."""
    project.edit("stages/stats.py", "def main(", f"{code}\n\n\ndef main(")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import subprocess\nsubprocess.run(['git', 'show', 'HEAD:dvc.lock'])", "starts programs, .*: git"),
        ("import os\nos.system('true')", "starts programs, .*: true"),
        ("import ctypes\nctypes.CDLL('{home}/own.so')", "reads files .*: {home}/own.so"),
        ("open('/proc/self/root{home}/secret').close()", "reads files .*: /proc/self/root{home}/secret"),
    ],
)
def test_what_a_stage_does_behind_dvcs_back_is_told(code, told, standin: Project):
    home = standin.env["HOME"]
    Path(home, "secret").touch()
    shutil.copy(_ctypes.__file__, f"{home}/own.so")
    plant(standin, code.format(home=home))
    printed = standin.refuse("python", "-m", "stages", "stats")
    assert re.search(f"^error: the stage stats {told.format(home=home)}", printed, re.M), printed


def test_a_project_among_the_files_of_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """As in a container, where it may be below Python's own folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reads, "PREFIXES", [tmp_path.parent, tmp_path / ".venv"])
    paths = [tmp_path / name for name in ("secret", "dep", ".venv/package.py")]
    (tmp_path / ".venv").mkdir()
    for path in [*paths, tmp_path.parent / "python"]:
        path.touch()
    opened = map(str, [*paths, tmp_path.parent / "python"])
    assert reads.undeclared(opened, ["dep"]) == [tmp_path / "secret"]


@pytest.mark.parametrize(
    ("error", "status"),
    [("RuntimeError('CUDA out of memory. Tried to allocate 2.00 GiB\\nand more')", 1), ("MemoryError()", 1)],
)
def test_too_little_memory_is_one_line(error, status, standin: Project):
    standin.edit("stages/stats.py", "    wait(STAGE)\n", f"    raise {error}\n")
    printed = standin.refuse("python", "-m", "stages", "stats", status=status)
    assert re.fullmatch(r"error: there is not enough memory \(.*\): lower train\.batch_size, or, .*\n", printed)


def test_code_is_loaded_from_its_source(standin: Project):
    """An edit that keeps size and time runs the new code, and damaged bytecode breaks nothing."""
    path = standin.root / "lenet/metrics.py"
    path.write_text("VALUE = 1\n")
    plant(standin, "from lenet.metrics import VALUE\nprint('value', VALUE)")
    standin.edit("dvc.yaml", "      - stages/stats.py\n", "      - stages/stats.py\n      - lenet/metrics.py\n")
    standin.run("python", "-m", "compileall", "-q", "lenet", "stages")
    assert "value 1\n" in standin.run("python", "-m", "stages", "stats")
    before = path.stat()
    path.write_text("VALUE = 2\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "value 2\n" in standin.run("python", "-m", "stages", "stats")
    for compiled in (standin.root / "lenet/__pycache__").glob("metrics.*.pyc"):
        compiled.write_bytes(compiled.read_bytes()[:20])
    assert "value 2\n" in standin.run("python", "-m", "stages", "stats")
