"""A whole project in a temporary folder, with this tree's code and a fake MNIST of a few hundred images."""

import importlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fakes
import pytest
from filelock import FileLock

from lenet.config import Config
from stages.launch import pipeline
from tools.errors import run

# Tests run side by side, as many as there are cores: more threads would wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).parent.parent
PIPELINE = pipeline.read(ROOT)
STAGES = list(PIPELINE)
PARAMS = pipeline.load(ROOT / "params.yaml")
LR = f"\n  lr: {PARAMS['train']['lr']} "  # as params.yaml has it
TRACKED = [
    *("lenet", "stages", "tools", "params.yaml", "dvc.yaml", "requirements.lock"),
    *(".dvc/config", ".dvc/plots", ".dvc/plots.html", ".dvcignore", ".gitignore"),
]
SEED = "PYTEST_DVC_CACHE"  # the variable that names the cache of a finished pipeline


def configured(kind: type[Config], section: str, **changes: object) -> Any:
    """Return the `section` of params.yaml, such as `train.augment`, with `changes`, as a `kind`."""
    content = PARAMS
    for name in section.split("."):
        content = content[name]
    return kind.model_validate(content | changes)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name a test by its bytes' number: themselves, they differ between pytest's workers where gzip puts the time."""
    return f"{len(val)} bytes" if isinstance(val, bytes) else None


def captured(command: Sequence[str], env: dict[str, str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `command`; standard output and error both end up in its `stdout`."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=env,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
    )


class Project:
    """A git and DVC repository, whose commands see neither the network nor this machine's settings."""

    def __init__(self, root: Path, mirror: Path):
        self.root = root
        self.env = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "GIT_", "PYTHON"))}
        self.env |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "STAGES_STRICT": "1",
            "MNIST_MIRROR": str(mirror),
            "HOME": str(root.parent),
            "GIT_CONFIG_NOSYSTEM": "1",
            "http_proxy": "http://127.0.0.1:9",
            "https_proxy": "http://127.0.0.1:9",
            "npm_config_registry": "http://127.0.0.1:9",
            "npm_config_fetch_retry_mintimeout": "10",  # milliseconds
        }

    def try_run(self, *command: str, **env: str) -> subprocess.CompletedProcess:
        """Run `command` in the project's folder; standard output and error both end up in its `stdout`."""
        return captured(command, self.env | env, self.root)

    def run(self, *command: str, **env: str) -> str:
        """Run `command`, which must succeed, and return what it printed."""
        done = self.try_run(*command, **env)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def refuse(self, *command: str, status: int = 2, **env: str) -> str:
        """Run `command`, which must end with `status` and without a traceback, and return what it printed."""
        done = self.try_run(*command, **env)
        assert done.returncode == status, done.stdout
        assert "Traceback" not in done.stdout
        return done.stdout

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start `command` in the background; standard output and error both go where `stdout` among `options` says."""
        options = {"text": True, "stderr": subprocess.STDOUT} | options
        return subprocess.Popen(command, cwd=self.root, env=self.env, **options)

    def commit(self, message: str) -> None:
        """Commit every change."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def clone(self, name: str) -> "Project":
        """Return a fresh clone beside this project, as a reader has it."""
        self.run("git", "clone", "--quiet", ".", f"../{name}")
        return Project(self.root.parent / name, Path(self.env["MNIST_MIRROR"]))

    def in_a_subfolder(self, whole: Path) -> "Project":
        """Return a clone of this project in the subfolder `sub` of the repository `whole`, which does not exist yet."""
        self.run("git", "clone", "--quiet", ".", str(whole))
        moved = Project(whole / "sub", Path(self.env["MNIST_MIRROR"]))
        moved.root.mkdir()
        for path in set(whole.iterdir()) - {moved.root, whole / ".git"}:
            path.rename(moved.root / path.name)
        for name in ("user.name", "user.email"):
            moved.run("git", "config", name, "test@example.com")
        moved.run("git", "add", "--all", "..")
        moved.commit("Move")
        return moved

    def repro(self, *arguments: str, **env: str) -> list[str]:
        """Run `dvc repro` and return the stages that ran, in order."""
        return ran(self.run("dvc", "repro", *arguments, **env))

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace `old`, which must be there, in the file `path`."""
        text = (self.root / path).read_text()
        assert old in text
        (self.root / path).write_text(text.replace(old, new))


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Return when `condition` holds; fail if it does not within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ran(output: str) -> list[str]:
    """Return the stages that `dvc repro` or `dvc exp run` says it ran."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")]


def build(folder: Path, adapt: Callable[[Path], None]) -> Project:
    """Return a project in `folder`, changed by `adapt`, whose pipeline has run, with everything committed.

    What is in the cache that the variable SEED names is not run again.
    """
    root = folder / "project"
    for name in TRACKED:
        source = ROOT / name
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, root / name)
    adapt(root)
    if cache := os.environ.get(SEED):
        shutil.copytree(cache, root / ".dvc/cache")
    project = Project(root, folder / "mirror")
    project.run("git", "init", "--quiet", "--initial-branch=main")
    project.run("git", "config", "user.name", "Test")
    project.run("git", "config", "user.email", "test@example.com")
    stages = project.repro()
    assert stages == STAGES or cache
    project.commit("The pipeline and its results")
    return project


def copy(project: Project, folder: Path) -> Project:
    """Return a copy of `project`, cache included, to be changed."""
    shutil.copytree(project.root, folder / "project", symlinks=True)
    return Project(folder / "project", Path(project.env["MNIST_MIRROR"]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let one of pytest's workers begin with the tests of the finished pipeline, while another runs those without."""
    items.sort(key=lambda item: "finished" not in getattr(item, "fixturenames", []))


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Project]) -> Project:
    """Return a copy of what `make` builds in a folder called `name`, once for all of pytest's workers."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker that has failed
            make(folder)
            (folder / "done").touch()
    return copy(Project(folder / "project", folder / "mirror"), factory.mktemp(f"{name}-copy"))


def real(folder: Path) -> Project:
    """Return the real pipeline after a run on a fake MNIST."""
    content = fakes.files(train=200, test=100)
    fakes.write_mirror(folder / "mirror", content)

    def adapt(root: Path) -> None:
        dataset = root / "lenet/data/dataset.py"
        dataset.write_text(fakes.dataset(dataset.read_text(), content))
        params = (root / "params.yaml").read_text()
        for key, value in {"epochs": 2, "batch_size": 8, "threads": 1}.items():
            params = re.sub(rf"(?<=\n  {key}: )\d+", str(value), params)
        (root / "params.yaml").write_text(params)

    return build(folder, adapt)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The real pipeline after a run on a fake MNIST; not to be changed."""
    return once(tmp_path_factory, "finished", real)


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished project, to be changed."""
    return copy(finished, tmp_path)


def stood_in(folder: Path) -> Project:
    """Return the pipeline after a run in which tests/standin.py stood in for each stage."""

    def adapt(root: Path) -> None:
        for stage in STAGES:
            shutil.copy(ROOT / "tests/standin.py", root / f"stages/{stage}.py")

    return build(folder, adapt)


@pytest.fixture(scope="session")
def finished_standin(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The stand-in's finished pipeline; not to be changed."""
    return once(tmp_path_factory, "standin", stood_in)


@pytest.fixture
def standin(finished_standin: Project, tmp_path: Path) -> Project:
    """A copy of the finished stand-in, to be changed."""
    return copy(finished_standin, tmp_path)


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch) -> Callable[[Project], None]:
    """Return a function that lets this process work in a project's folder, with the environment of its commands."""

    def enter(project: Project) -> None:
        monkeypatch.chdir(project.root)
        for name, value in project.env.items():
            monkeypatch.setenv(name, value)

    return enter


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that calls `python -m tools.NAME WORDS…` within this process, where PyTorch is there already.

    It returns the exit status, and what was printed to standard output and to standard error.
    """

    def tool(name: str, *words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [name, *words])
        capfd.readouterr()
        with pytest.raises(SystemExit) as done:
            run(importlib.import_module(f"tools.{name}").main)
        return done.value.code or 0, *capfd.readouterr()

    return tool
