"""The experiments queued by `dvc exp run --queue`, and their names, which depend on their content."""

import hashlib
import json
import pickle
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import pandas as pd
from dvc.repo import Repo
from dvc.repo.experiments.queue.remove import remove_tasks

from stages.launch import pipeline, yaml12
from tools.errors import ToolError
from tools.git import git, git_bytes


@dataclass(frozen=True)
class Experiment:
    """A queued experiment.

    Experiments with the same code, data, params and targets have the same `content`, whoever queues them.
    """

    commit: str  # it holds the code and params; it is in DVC's stash
    baseline: str  # the commit that the experiment belongs to
    words: tuple[str, ...]  # the targets and switches of `dvc exp run`
    label: str  # for people: the params that differ from the baseline's
    content: str  # a hash
    device: str
    threads: int

    @property
    def name(self) -> str:
        """The name without the numerics."""
        return f"{self.label}-{self.content}"

    @property
    def ref(self) -> str:
        """The Git ref by which hosts fetch the commit."""
        return f"refs/fleet/{self.commit}"


def queued() -> list[Experiment]:
    """Return the experiments in DVC's queue, the oldest first."""
    with Repo() as repo:
        entries = list(repo.experiments.celery_queue.iter_queued())
    return [read(entry.stash_rev, entry.baseline_rev) for entry in entries]


def remove(commits: Collection[str]) -> None:
    """Remove the experiments with these commits from DVC's queue; those that are no longer there are ignored."""
    with Repo() as repo:
        queue = repo.experiments.celery_queue
        remove_tasks(queue, [entry for entry in queue.iter_queued() if entry.stash_rev in commits])


def read(commit: str, baseline: str) -> Experiment:
    """Return the experiment that DVC has stashed as `commit`."""
    tree = _tree(commit)
    stages = pipeline.parse(yaml12.load(_blob(tree["dvc.yaml"]), "dvc.yaml"))
    deps = {dep for stage in stages.values() for dep in stage.deps}
    deps -= {path for stage in stages.values() for path in stage.outputs}
    for path in sorted(deps - tree.keys()):
        if PurePosixPath(path).suffix == ".py":
            raise ToolError(f"{path} is a dep in dvc.yaml, but Git does not track it: git add it, and queue again")
    code = [f"{blob} {path}" for path, blob in tree.items() if {path, *map(str, PurePosixPath(path).parents)} & deps]
    params = _params(tree)
    title = label(params, _params(_tree(baseline)))
    if tree.get("requirements.lock") != git("hash-object", "requirements.lock").strip():
        raise ToolError(f"{title} was queued with another requirements.lock than the one here: queue it again")
    # DVC's record of the options of `dvc exp run`. It is safe to unpickle: it comes from this repository's own queue.
    asked = pickle.loads(_blob(tree[".dvc/tmp/repro.dat"]))["kwargs"]  # noqa: S301
    switches = sorted(f"--{name.replace('_', '-')}" for name, value in asked.items() if value is True)
    words = [*switches, *asked["targets"]]
    known = json.dumps([tree["dvc.yaml"], code, params, words], sort_keys=True)
    compute = params.get("compute")
    device, threads = (compute.get(key) if isinstance(compute, dict) else None for key in ("device", "threads"))
    return Experiment(
        commit=commit,
        baseline=baseline,
        words=tuple(words),
        label=title,
        content=hashlib.sha256(known.encode()).hexdigest()[:10],
        device=str(device),
        threads=threads if isinstance(threads, int) and threads > 0 else 1,  # else the stage says what is wrong
    )


@lru_cache
def _tree(commit: str) -> dict[str, str]:
    """Return the hash of each file in `commit` by its path."""
    lines = git("ls-tree", "-r", "-z", commit).rstrip("\0").split("\0")
    return {path: words.split()[2] for words, _, path in (line.partition("\t") for line in lines)}


@lru_cache
def _blob(name: str) -> bytes:
    return git_bytes("cat-file", "blob", name)


def _params(tree: dict[str, str]) -> dict[str, Any]:
    return dict(yaml12.load(_blob(tree["params.yaml"]), "params.yaml"))


def label(params: dict[str, Any], baseline: dict[str, Any]) -> str:
    """Return a short description, valid in a Git ref, of how `params` differ from `baseline`.

    {train: {seed: 3}} against {train: {seed: 0}} is `seed3`; no difference is `same`.
    """
    flat, old = (pd.json_normalize(tree).to_dict("records")[0] for tree in (params, baseline))
    differing = [f"{key.split('.')[-1]}{value}" for key, value in flat.items() if str(old.get(key)) != str(value)]
    text = re.sub(r"\.\.+", ".", re.sub(r"[^A-Za-z0-9._]+", "-", "_".join(differing) or "same"))
    return text[:40].strip(".-")


def results(lines: str) -> dict[str, str]:
    """Return the refs of experiments in `lines`, as git ls-remote and for-each-ref print them, by name."""
    refs = re.findall(r"\brefs/exps/[0-9a-f]{2}/[0-9a-f]{38}/\S+", lines)
    return {ref.rsplit("/", 1)[1]: ref for ref in refs}


def find(refs: dict[str, str], experiment: Experiment, numerics: str) -> str | None:
    """Return the ref of a result of `experiment` in `refs` with those numerics or, if none are given, with any."""
    pattern = re.compile(f".*-{experiment.content}-{numerics[:4] or '[0-9a-f]{4}'}")
    return next((ref for name, ref in refs.items() if pattern.fullmatch(name)), None)
