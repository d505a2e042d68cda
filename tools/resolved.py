"""The stages of any DVC project, as DVC resolves them from templates, foreach, matrix, wdir and several dvc.yaml."""

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.dependency.param import ParamsDependency
from dvc.exceptions import DvcException
from dvc.output import Output
from dvc.repo import Repo
from dvc.stage import PipelineStage
from dvc.utils.serialize import load_yaml
from dvc_data.hashfile.hash import file_md5

from tools.errors import ToolError

# A stage's entry in a dvc.lock, with paths relative to the project's root: its cmd, deps and outs, each a list of
# entries with a path and a hash, and params, by file and name.
Entry = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """A stage. Its paths are relative to the project's root."""

    cmd: str | list[str]
    deps: dict[str, Output]  # without params
    params: dict[str, dict[str, Any]]  # by file and name; None for a name that the file lacks
    outputs: dict[str, Output]
    switches: list[str]  # `frozen` or `always_changed`, which make DVC never or always run the stage


@dataclass(frozen=True)
class Project:
    """The stages of a project and their entries in dvc.lock, both by the name that `dvc repro` takes."""

    stages: dict[str, Stage]
    locked: dict[str, Entry]
    data: dict[str, str]  # the hash of what `dvc add` or `dvc import` tracks, by path
    wdirs: dict[str, str]  # the folder relative to which dvc.lock gives a stage's paths


@contextmanager
def project(root: Path) -> Iterator[Project]:
    """Read the DVC project in `root`; its outputs can be hashed within the context.

    Raises ToolError for a project that DVC can't read.
    """
    try:
        with Repo(str(root)) as repo:
            yield _read(repo)
    except DvcException as error:
        raise ToolError(
            f"DVC can't read this project: {' '.join(str(error).split())}; dvc status may say more"
        ) from None


def _read(repo: Repo) -> Project:
    found = Project({}, {}, {}, {})
    files: set[str] = set()
    for stage in repo.index.stages:
        folder = _within(repo, stage.wdir)
        if not isinstance(stage, PipelineStage):
            found.data.update({_join(folder, out.def_path): str(out.hash_info.value) for out in stage.outs})
            continue
        name = address(stage.path_in_repo, stage.name)
        found.stages[name] = Stage(
            stage.cmd,
            {_join(folder, dep.def_path): dep for dep in stage.deps if not isinstance(dep, ParamsDependency)},
            {_join(folder, dep.def_path): _values(dep) for dep in stage.params},
            {_join(folder, out.def_path): out for out in stage.outs},
            [switch for switch in ("frozen", "always_changed") if getattr(stage, switch)],
        )
        found.wdirs[name] = folder
        files.add(stage.path_in_repo)
    for path in sorted(files):
        lock = Path(repo.root_dir, path).with_suffix(".lock")
        content = load_yaml(str(lock)) if lock.exists() else {}
        found.locked.update(entries(content, path, found.wdirs))
    return found


def address(file: str, name: str) -> str:
    """Return how `dvc repro` calls the stage `name` of the `file` dvc.yaml, whose path is relative to the root."""
    return name if file == "dvc.yaml" else f"{file}:{name}"


def file_of(name: str) -> str:
    """Return the path of the dvc.yaml that has the stage `name`, relative to the root."""
    return name.rpartition(":")[0] or "dvc.yaml"


def entries(lock: dict[str, Any], file: str, wdirs: dict[str, str]) -> dict[str, Entry]:
    """Return the entries of the stages in `lock`, the content of the dvc.lock beside `file`, a dvc.yaml.

    `file` is relative to the root. A stage that is not in `wdirs` is taken to run in the folder of its dvc.yaml.
    """
    found = {}
    for name, entry in (lock.get("stages") or {}).items():
        folder = wdirs.get(address(file, name), posixpath.dirname(file))
        lists = {
            kind: [item | {"path": _join(folder, item["path"])} for item in entry.get(kind) or []]
            for kind in ("deps", "outs")
        }
        params = {_join(folder, path): values for path, values in (entry.get("params") or {}).items()}
        found[address(file, name)] = {"cmd": entry.get("cmd")} | lists | {"params": params}
    return found


def md5(output: Output, *, legacy: bool = False) -> str | None:
    """Return the hash of a file or folder as it is now, or None if it is missing.

    `legacy` hashes are those of DVC before 3.0, in which the line endings of a text count as LF.
    """
    if output.fs.protocol != "local" or not output.exists:
        return None
    if Path(output.fs_path).is_dir():
        return str(output.get_hash().value)
    # DVC itself would trust a file's size and time.
    return str(file_md5(output.fs_path, output.fs, name="md5-dos2unix" if legacy else "md5"))


def _values(dep: ParamsDependency) -> dict[str, Any]:
    values = dep.read_params()
    return {name: values.get(name) for name in dep.params or values}


def _within(repo: Repo, path: str) -> str:
    return Path(path).relative_to(repo.root_dir).as_posix()


def _join(folder: str, path: str) -> str:
    return path if "://" in path else posixpath.normpath(posixpath.join(folder, path))
