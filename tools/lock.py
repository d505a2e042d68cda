"""Check that dvc.lock is in sync with the files that it records, without DVC's cache or a remote.

`python -m tools.lock` prints what is out of sync and exits with 1 if anything is, or with 4 if only release/ is. (`dvc
status` can't do this in a clean clone, where the data and the model are missing, and its exit status doesn't show the
result.) It works in any DVC project: what only one project demands of itself is in tools/checks.py, if there is such a
file.
"""

from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dvc.output import Output

from tools import resolved
from tools.errors import run
from tools.git import unnoticed
from tools.resolved import Entry, Stage

# This project's own checks, if there are any.
checks: Any = import_module("tools.checks") if find_spec("tools.checks") else None


def problems(root: Path) -> list[str]:
    """Return a line for each disagreement between `root`'s dvc.lock and its dvc.yaml, params and tracked files.

    Each line names the stage and the reason. Raises ToolError for a project that DVC can't read.

    A forged hash of a cached output goes unnoticed if it is forged everywhere in dvc.lock; tools.verify finds it.
    """
    with resolved.project(root) as project:
        stages, locked = project.stages, project.locked
        found = [f"{name}: is in dvc.yaml, but not in dvc.lock" for name in stages if name not in locked]
        found += [f"{name}: is in dvc.lock, but not in dvc.yaml" for name in locked if name not in stages]
        made = {path: (f"{path}.dvc", md5) for path, md5 in project.data.items()}
        made |= {out["path"]: (name, _hash(out)) for name in stages for out in locked.get(name, {}).get("outs", [])}
        for name, stage in stages.items():
            if name in locked:
                found += [f"{name}: {reason}" for reason in _disagreements(stage, locked[name], made)]
        files = sorted({file for stage in stages.values() for file in stage.params})
        found += [
            f"{file}: is not what HEAD has, but Git does not notice, as after a killed dvc exp run: touch {file}"
            for file in files
            if unnoticed(file, root)
        ]
        return found + (checks.of_lock(root, project) if checks else [])


def _disagreements(stage: Stage, entry: Entry, made: dict[str, tuple[str, str]]) -> list[str]:
    found = [f"it is {switch}, so DVC does not check whether it is up to date" for switch in stage.switches]
    if stage.cmd != entry["cmd"]:
        found.append(f"its cmd is {stage.cmd!r} in dvc.yaml, but {entry['cmd']!r} in dvc.lock")

    deps = {dep["path"]: dep for dep in entry["deps"]}
    found += _compare("dep", stage.deps, deps)
    for path, dep in deps.items():
        if path in made:
            maker, md5 = made[path]
            if _hash(dep) != md5:
                found.append(f"its dep {path} is {_hash(dep)} in dvc.lock, but as an output of {maker} it is {md5}")
        elif path in stage.deps:
            found += _file("dep", stage.deps[path], dep)

    outs = {out["path"]: out for out in entry["outs"]}
    found += _compare("output", stage.outputs, outs)
    for path, out in outs.items():
        if path in stage.outputs and not stage.outputs[path].use_cache:
            found += _file("output", stage.outputs[path], out)

    return found + _differing_params(stage, entry)


def _differing_params(stage: Stage, entry: Entry) -> list[str]:
    found = []
    for file in stage.params | entry["params"]:
        values, recorded = stage.params.get(file, {}), entry["params"].get(file, {})
        found += _compare("param", values, recorded)
        for name in values.keys() & recorded.keys():
            if values[name] is None and recorded[name] is not None:
                found.append(f"its param {name} is missing in {file}")
            elif _plain(values[name]) != recorded[name]:
                found.append(f"its param {name} in {file} differs from the one in dvc.lock")
    return found


def _compare(kind: str, listed: Iterable[str], recorded: Iterable[str]) -> list[str]:
    found = [f"its {kind} {name} is in dvc.yaml, but not in dvc.lock" for name in listed if name not in recorded]
    return found + [f"its {kind} {name} is in dvc.lock, but not in dvc.yaml" for name in recorded if name not in listed]


def _file(kind: str, output: Output, entry: dict[str, Any]) -> list[str]:
    if output.fs.protocol != "local":
        return []
    found = resolved.md5(output, legacy="hash" not in entry)
    if found is None:
        return [f"its {kind} {entry['path']} is missing"]
    return [] if found == _hash(entry) else [f"its {kind} {entry['path']} is {found}, but {_hash(entry)} in dvc.lock"]


def _hash(entry: dict[str, Any]) -> str:
    return str(entry.get("md5", ""))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value  # of params in a Python file


def main() -> int:
    """Print the disagreements; return the exit status."""
    lines = problems(Path())
    stale = checks.of_release(Path()) if checks else []
    print(*lines or ["dvc.lock is in sync"], *stale, sep="\n")
    return 1 if lines else 4 if stale else 0


if __name__ == "__main__":
    run(main)
