"""Check that dvc.lock is in sync with the files that it records, without DVC's cache or a remote.

`python -m tools.lock` prints what is out of sync and exits with 1 if anything is. (`dvc status` can't do this in a
clean clone, where the data and the model are missing, and its exit status doesn't show the result.)
"""

import hashlib
from pathlib import Path
from typing import Any

from lenet.errors import PipelineError
from stages.launch import pipeline
from stages.launch.errors import run
from stages.launch.pipeline import Stage


def problems(root: Path) -> list[str]:
    """Return a line for each disagreement between `root`'s dvc.lock and its dvc.yaml, params.yaml and tracked files.

    Each line names the stage and the reason. Raises PipelineError for a file that can't be read.

    A forged hash of a cached output goes unnoticed if it is forged everywhere in dvc.lock; `make verify` finds it.
    """
    try:
        return _problems(pipeline.read(root), root)
    except (KeyError, TypeError, AttributeError) as error:
        raise PipelineError(f"dvc.lock or params.yaml is malformed: {error!r}") from None


def _problems(stages: dict[str, Stage], root: Path) -> list[str]:
    locked, params = pipeline.load(root / "dvc.lock")["stages"], pipeline.load(root / "params.yaml")
    found = [f"{name}: is in dvc.yaml, but not in dvc.lock" for name in stages if name not in locked]
    found += [f"{name}: is in dvc.lock, but not in dvc.yaml" for name in locked if name not in stages]
    modules = [path.stem for path in sorted((root / "stages").glob("[!_]*.py"))]
    found += [
        f"{name}: stages/{name}.py exists, but dvc.yaml has no such stage" for name in modules if name not in stages
    ]
    written = {path for stage in stages.values() for path in stage.outputs}
    there = [str(path.relative_to(root)) for path in sorted((root / "metrics").glob("[!.]*"))]
    found += [f"{path}: is written by no stage in dvc.yaml" for path in there if path not in written]
    both = {name: (stages[name], locked[name]) for name in stages if name in locked}
    made = {out["path"]: (name, out["md5"]) for name, (_, lock) in both.items() for out in lock.get("outs", [])}
    for name, (stage, lock) in both.items():
        found += [f"{name}: {reason}" for reason in _disagreements(root, stage, lock, params, made)]
    return found


def _disagreements(root: Path, stage: Stage, lock: Any, params: Any, made: dict[str, tuple[str, str]]) -> list[str]:
    found = [f"it is {switch}, so DVC does not check whether it is up to date" for switch in stage.switches]
    if stage.cmd != lock["cmd"]:
        found.append(f"its cmd is {stage.cmd!r} in dvc.yaml, but {lock['cmd']!r} in dvc.lock")

    deps = {dep["path"]: dep["md5"] for dep in lock.get("deps", [])}
    found += _compare("dep", stage.deps, deps)
    for path, md5 in deps.items():
        if path in made:
            maker, output = made[path]
            if md5 != output:
                found.append(f"its dep {path} is {md5} in dvc.lock, but as an output of {maker} it is {output} there")
        else:
            found += _file(root, "dep", path, md5)

    outs = {out["path"]: out["md5"] for out in lock.get("outs", [])}
    found += _compare("output", stage.outputs, outs)
    for path, md5 in outs.items():
        if not stage.outputs.get(path, True):
            found += _file(root, "output", path, md5)

    recorded = lock.get("params", {}).get("params.yaml", {})
    found += _compare("params section", stage.params, recorded)
    for section in recorded:
        if section in params and params[section] != recorded[section]:
            found.append(f"its params section {section} differs from the one in dvc.lock")
        elif section not in params:
            found.append(f"its params section {section} is missing in params.yaml")
    return found


def _compare(kind: str, listed: Any, recorded: Any) -> list[str]:
    found = [f"its {kind} {name} is in dvc.yaml, but not in dvc.lock" for name in listed if name not in recorded]
    return found + [f"its {kind} {name} is in dvc.lock, but not in dvc.yaml" for name in recorded if name not in listed]


def _file(root: Path, kind: str, path: str, md5: str) -> list[str]:
    if not (root / path).is_file():
        return [f"its {kind} {path} is missing"]
    found = hashlib.md5((root / path).read_bytes()).hexdigest()
    return [] if found == md5 else [f"its {kind} {path} is {found}, but {md5} in dvc.lock"]


def main() -> int:
    """Print the disagreements; return the exit status."""
    lines = problems(Path())
    print("\n".join(lines) or "dvc.lock is in sync")
    return int(bool(lines))


if __name__ == "__main__":
    run(main)
