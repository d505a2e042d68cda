"""What dvc.yaml says of the pipeline, for the tools that check and describe it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet import yaml12
from lenet.errors import PipelineError


@dataclass(frozen=True)
class Stage:
    """A stage: what it runs, what it reads, and what it writes."""

    cmd: str
    desc: str
    deps: list[str]
    params: list[str]  # the sections of params.yaml
    outputs: dict[str, bool]  # the path of each, and whether DVC's cache holds it; what it does not hold is in Git
    switches: list[str]  # those that are on of the ones that let DVC run a stage never, or always


def read(root: Path) -> dict[str, Stage]:
    """Return the stages in `root`'s dvc.yaml by name, in its order; raise PipelineError if it holds none."""
    return parse(load(root / "dvc.yaml"))


def parse(content: Any) -> dict[str, Stage]:
    """Return the stages in `content`, that of a dvc.yaml, likewise."""
    stages = {}
    try:
        for name, entry in content["stages"].items():
            outputs = {}
            for listed in [*entry.get("outs", []), *entry.get("metrics", []), *entry.get("plots", [])]:
                for path, options in listed.items() if isinstance(listed, dict) else [(listed, {})]:
                    outputs[path] = options.get("cache", True)
            switches = [switch for switch in ("frozen", "always_changed") if entry.get(switch)]
            deps, params = list(entry.get("deps", [])), list(entry.get("params", []))
            stages[name] = Stage(entry["cmd"], entry.get("desc", ""), deps, params, outputs, switches)
    except (KeyError, TypeError, AttributeError) as error:
        raise PipelineError(
            f"dvc.yaml is no pipeline as this project has it: {error!r}; dvc status may say more"
        ) from None
    return stages


def load(path: Path) -> Any:
    """Return the content of a YAML file; raise PipelineError if there is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PipelineError(f"{path} can't be read: {error.strerror}; run this in the project's folder") from None
    return yaml12.load(data, path.name)


def affected(stages: dict[str, Stage], change: str) -> list[str]:
    """Return the stages that run again after `change`, in the pipeline's order.

    `change` is a file of code or a section of params.yaml. An edit of code is taken to change no result, as that of a
    comment does: then only the stages run that have it among their deps. Another value of a param is taken to change
    every output of the stages that read it, and so what depends on these runs, too.
    """
    found: list[str] = []
    changed = {change}
    for name, stage in stages.items():
        if change in stage.params or changed & set(stage.deps):
            found.append(name)
            if change in stage.params or changed != {change}:
                changed |= set(stage.outputs)
    return found
