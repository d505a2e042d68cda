"""The pipeline as dvc.yaml describes it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet.errors import PipelineError
from stages.launch import yaml12


@dataclass(frozen=True)
class Stage:
    """One stage: its command, what it reads and what it writes."""

    cmd: str
    desc: str
    deps: list[str]
    params: list[str]  # sections of params.yaml
    outputs: dict[str, bool]  # path: whether it is in DVC's cache; otherwise it is in Git
    switches: list[str]  # `frozen` or `always_changed`, which make DVC never or always run the stage


def read(root: Path) -> dict[str, Stage]:
    """Return the stages in `root`'s dvc.yaml by name, in its order; raise PipelineError if it is invalid."""
    return parse(load(root / "dvc.yaml"))


def parse(content: Any) -> dict[str, Stage]:
    """Return the stages in `content`, a parsed dvc.yaml; raise PipelineError if it is invalid."""
    stages = {}
    try:
        for name, entry in content["stages"].items():
            outputs = {}
            for listed in [out for kind in ("outs", "metrics", "plots") for out in entry.get(kind) or []]:
                for path, options in listed.items() if isinstance(listed, dict) else [(listed, {})]:
                    outputs[path] = options.get("cache", True)
            switches = [switch for switch in ("frozen", "always_changed") if entry.get(switch)]
            deps, params = ([str(item) for item in entry.get(kind) or []] for kind in ("deps", "params"))
            stages[name] = Stage(entry["cmd"], entry.get("desc", ""), deps, params, outputs, switches)
    except (KeyError, TypeError, AttributeError) as error:
        raise PipelineError(f"dvc.yaml does not describe a pipeline: {error!r}; dvc status may say more") from None
    return stages


def load(path: Path) -> Any:
    """Return the content of the YAML file `path`; raise PipelineError if it can't be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PipelineError(
            f"{path} can't be read: {error.strerror}; run this in the project's folder, or restore it: "
            f"git checkout {path.name}"
        ) from None
    return yaml12.load(data, path.name)


def affected(stages: dict[str, Stage], change: str) -> list[str]:
    """Return the stages that run again after `change`, in the pipeline's order.

    `change` is a code file or a section of params.yaml. A code edit is assumed to leave all outputs unchanged (say, in
    a comment), so only the stages that list the file as a dep run. A changed param is assumed to change every output of
    the stages that take it, so everything downstream runs, too.
    """
    found: list[str] = []
    changed = {change}
    for name, stage in stages.items():
        if change in stage.params or changed & set(stage.deps):
            found.append(name)
            if change in stage.params or changed != {change}:  # then the outputs are taken to change
                changed |= set(stage.outputs)
    return found
