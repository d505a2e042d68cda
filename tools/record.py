"""The recorded results of a commit: the hash of each output, and the content of the metrics files."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from dvc.repo import Repo

from tools import resolved
from tools.errors import ToolError
from tools.resolved import Entry, Project


@dataclass(frozen=True)
class Record:
    """The results in a folder, by stage, as resolved.Project names them."""

    hashes: dict[str, dict[str, str]]  # by path; of an output in Git, that of the file itself
    metrics: dict[str, dict[str, Any]]  # the content of its JSON files in Git, with names like test.accuracy
    cached: set[str]  # the paths of the outputs that only DVC tracks
    locked: dict[str, Entry]

    def paths(self) -> dict[str, str]:
        """Return the hash of every output by its path."""
        return {path: md5 for hashes in self.hashes.values() for path, md5 in hashes.items()}

    def files(self, root: Path) -> dict[str, bytes]:
        """Return the content of every output in `root` that is a file there, by its path."""
        return {path: (root / path).read_bytes() for path in self.paths() if (root / path).is_file()}

    def differing(self, other: "Record", stage: str) -> list[str]:
        """Return the outputs of `stage` that are not the same in `other`."""
        ours, theirs = self.hashes[stage], other.hashes[stage]
        return [path for path in sorted(ours | theirs) if ours.get(path) != theirs.get(path)]


def read(root: Path) -> Record:
    """Return the results in `root`; raise ToolError (status 1) for a metrics file that is not valid JSON."""
    with resolved.project(root) as project:
        return _read(root, project)


def _read(root: Path, project: Project) -> Record:
    record = Record({}, {}, set(), project.locked)
    for name, stage in project.stages.items():
        entry = project.locked.get(name, {})
        record.hashes[name] = {out["path"]: str(out.get("md5")) for out in entry.get("outs", [])}
        record.metrics[name] = {}
        for path, output in stage.outputs.items():
            if output.use_cache:
                record.cached.add(path)
                continue
            record.hashes[name][path] = str(resolved.md5(output))
            if path.endswith(".json") and output.exists:
                record.metrics[name] |= _metrics((root / path).read_bytes(), path)
    return record


def _metrics(data: bytes, path: str) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except ValueError as error:
        raise ToolError(f"{path} is not valid JSON ({error}): it was not written by a stage", status=1) from None
    return dict(pd.json_normalize(content).astype(object).iloc[0]) if isinstance(content, dict) and content else {}


def downstream(project: Project, first: Iterable[str]) -> list[str]:
    """Return the stages `first` and every stage that reads what they or such stages write."""
    found = list(first)
    for name in found:  # the list grows in the loop
        written = project.stages[name].outputs.keys()
        found += [
            other for other, stage in project.stages.items() if written & stage.deps.keys() and other not in found
        ]
    return found


def md5(data: bytes) -> str:
    """Return the hash by which DVC knows `data`."""
    return hashlib.md5(data).hexdigest()


def md5_of(path: Path) -> str:
    """Return the hash by which DVC knows a file, or a folder without subfolders."""
    if path.is_file():
        return md5(path.read_bytes())
    entries = [{"md5": md5(file.read_bytes()), "relpath": file.name} for file in sorted(path.iterdir())]
    return f"{md5(json.dumps(entries).encode())}.dir"


def cache() -> Path:
    """Return the folder of DVC's cache, which its config may have moved, after fetching from a remote if there is one.

    An unreachable remote is ignored.
    """
    with Repo() as repo:
        if repo.config["remote"]:
            subprocess.run([sys.executable, "-m", "dvc", "fetch", "--quiet"], capture_output=True)
        return Path(repo.cache.local_cache_dir)


def words(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return in words which metrics differ."""
    names = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    return "; ".join(f"{name}: {before.get(name)} -> {after.get(name)}" for name in names)
