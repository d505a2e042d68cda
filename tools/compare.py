"""Compare experiments: `python -m tools.compare evaluate.val.accuracy evaluate.test.accuracy`.

Runs of the same code and params that differ only in the seed, or only in the fold, are repetitions: for each set of
them, and for the commit that they started from, it shows the mean, standard deviation and 95 % interval of each metric.
In another DVC project, name its params for the seed and the fold with --seed and --fold.
"""

import argparse
import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pandas as pd
import yaml
from dvc.config import Config
from dvc.repo import Repo
from scipy import stats
from tabulate import tabulate

from tools import resolved
from tools.errors import ToolError, run
from tools.git import git_bytes


class Repetition(NamedTuple):
    """The params in which runs that repeat one another may differ; a project may lack either."""

    seed: str = "train.seed"
    fold: str = "split.fold"


DEFAULT = Repetition()


def main() -> int:
    """Print the summary of the experiments that DVC shows for this commit; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.compare", description=__doc__)
    parser.add_argument("metrics", nargs="*", default=["evaluate.val.accuracy"], help="such as evaluate.test.loss")
    for name, default in DEFAULT._asdict().items():
        parser.add_argument(f"--{name}", metavar="PARAM", default=default, help=f"the {name} (default: {default})")
    parser.add_argument("-A", "--all-commits", action="store_true", help="also the experiments of earlier commits")
    parser.add_argument("--of", metavar="TEXT", help="add a column with this text, such as the model's name")
    parser.add_argument("--format", choices=["table", "markdown", "csv"], default="table")
    options = parser.parse_args()
    Config(Repo.find_dvc_dir())  # what is broken there would be a traceback of `dvc exp show`
    command = [sys.executable, "-m", "dvc", "exp", "show", "--json"]
    command += ["--all-commits"] if options.all_commits else []
    shown = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if shown.returncode:
        return 1  # DVC has printed the reason
    params, metrics, others = read(json.loads(shown.stdout))
    if others:
        # To standard error, because standard output may be a CSV file.
        print("left out: " + ", ".join(f"{name} ({state})" for name, state in others.items()), file=sys.stderr)
    summary = summarise(params, metrics, options.metrics, Repetition(options.seed, options.fold))
    summary = summary.assign(**{"of": options.of} if options.of else {})
    if options.format == "csv":
        print(summary.to_csv(index=False), end="")
    else:
        style = {"table": "simple", "markdown": "github"}[options.format]
        unshown = [] if summary["shared"].any() else ["shared", "behind", "behind_low", "behind_high"]
        cells = summary.drop(columns=unshown).astype(object).where(summary.notna(), None)
        print(tabulate(cells, headers="keys", tablefmt=style, showindex=False, floatfmt=".5g", missingval="-"))
    return 0


def read(shown: list[dict[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, str]]:
    """Sort the output of `dvc exp show --json` into finished runs and others.

    Returns the params of the finished runs, a row for each run, a column for each param (`train.lr`); their metrics,
    likewise (`evaluate.test.accuracy`); and the state of each other experiment by its name. The metrics of those others
    are ignored, because DVC shows the metrics of the commit that an experiment started from as if they were its own.
    The params have another column for each metrics file: the hash of the code behind it (`code.evaluate`, see `code`)
    or, where that is unknown, the run's revision. A metrics file goes by its name without the suffix, or by its path if
    several have that name.
    """
    params: dict[str, dict[str, Any]] = {}
    metrics, revs, others = {}, [], {}
    for commit in shown:
        if commit["rev"] == "workspace":
            continue
        for shown_run in [{"name": commit["name"], "executor": None, "revs": [commit]}, *(commit["experiments"] or [])]:
            last = shown_run["revs"][0]
            name = shown_run["name"] or last["name"] or last["rev"][:7]
            if name in params or name in others:  # several commits may have experiments of one name
                name += f" ({last['rev'][:7]})"
            state = ((shown_run["executor"] or {}).get("state") or "success").lower()
            if state == "success" and (last["error"] or any("error" in file for file in _files(last["data"]))):
                state = "broken"
            if state != "success":
                others[name] = state
                continue
            params[name] = {}
            for path, file in last["data"]["params"].items():
                before = "" if path == "params.yaml" else f"{path}:"
                params[name] |= {f"{before}{key}": value for key, value in file["data"].items()}
            metrics[name] = {path: file["data"] for path, file in last["data"]["metrics"].items()}
            revs.append(last["rev"])
    names = _names({path for written in metrics.values() for path in written})
    for rev, stages, row, written in zip(revs, locked(revs), params.values(), metrics.values(), strict=True):
        row["code"] = {names[path]: code(stages, path) or rev[:8] for path in written}
    named = [{names[path]: content for path, content in written.items()} for written in metrics.values()]
    tables = [pd.json_normalize(rows).set_axis(list(params)) for rows in (list(params.values()), named)]
    return tables[0], tables[1], others


def _names(paths: set[str]) -> dict[str, str]:
    stems = [PurePosixPath(path).stem for path in paths]
    return {path: stem if stems.count(stem) == 1 else path for path, stem in zip(paths, stems, strict=True)}


def _files(data: dict[str, Any]) -> list[dict[str, Any]]:
    return [*data["params"].values(), *data["metrics"].values()]


def locked(revs: list[str]) -> Iterator[dict[str, resolved.Entry]]:
    """Yield the entries of the stages in dvc.lock at each of the Git revisions, by stage.

    A stage's paths are taken to be relative to the folder in which it runs in the working tree.
    """
    with resolved.project(Path()) as project:
        wdirs = project.wdirs
    files = sorted({resolved.file_of(name) for name in wdirs})
    names = "".join(f"{rev}:./{PurePosixPath(file).with_suffix('.lock')}\n" for rev in revs for file in files)
    output = io.BytesIO(git_bytes("cat-file", "--batch", stdin=names.encode()))
    for _ in revs:
        stages: dict[str, resolved.Entry] = {}
        for file in files:
            size = output.readline().split()[2:]  # <hash> blob <size>, or <name> missing
            if size:
                stages |= resolved.entries(_parsed(output.read(int(size[0]) + len("\n"))), file, wdirs)
        yield stages


@cache  # runs may share a dvc.lock
def _parsed(lock: bytes) -> dict[str, Any]:
    # This loader leaves each scalar a string, and takes half the time of the next fastest.
    return dict(yaml.load(lock, yaml.CBaseLoader) or {})  # noqa: S506 - creates no objects


def code(stages: dict[str, Any], path: str) -> str:
    """Return a hash of the code and data behind the metrics file `path`, given `stages` as `locked` yields them.

    These are the deps of the stage that writes the file and of all stages upstream of it, except those that params may
    change: the outputs of a stage with params or downstream of one. Returns an empty string if no stage writes the
    file, or if a stage upstream has run again since and changed a dep: then the metrics are those of an earlier run.
    """
    outs = {out["path"]: (stage, out.get("md5")) for stage in stages.values() for out in stage["outs"]}

    def behind(path: str) -> list[dict[str, Any]]:
        chain = [outs[path][0]] if path in outs else []
        for stage in chain:  # the list grows in the loop
            upstream = [outs[dep["path"]][0] for dep in stage["deps"] if dep["path"] in outs]
            chain += [stage for stage in upstream if stage not in chain]
        return chain

    deps = {(dep["path"], dep.get("md5")) for stage in behind(path) for dep in stage["deps"]}
    fixed = [dep for dep in deps if not any(stage["params"] for stage in behind(dep[0]))]
    stale = any(path in outs and outs[path][1] != md5 for path, md5 in deps)
    return "" if stale or not deps else hashlib.md5(repr(sorted(fixed)).encode()).hexdigest()[:8]


def summarise(
    params: pd.DataFrame, metrics: pd.DataFrame, wanted: list[str], repetition: Repetition = DEFAULT
) -> pd.DataFrame:
    """Return a row for each metric `wanted` and each set of runs that repeat one another, the best mean first.

    `params` and `metrics` are as `read` returns them. The columns:

    - the params in which the runs differ, except the seed and the fold; `code`, if there are runs of different code
      behind one metric
    - `over`, what the runs of the set differ in; `metric`; `n`, the number of runs, counting runs with equal params and
      code once
    - `mean`; `std`, the sample standard deviation (with n - 1); `low` and `high`, the 95 % confidence interval of the
      mean by Student's t distribution, which ends at 0 and 1 for an accuracy; the last three are missing for n = 1
    - `shared`, the number of seeds (or folds) that the set has in common with the best set of the same `over`;
      `behind`, by how much its mean over these is below that of the best set; `behind_low` and `behind_high`, the 95 %
      confidence interval of this paired difference

    Raises ToolError if no run has a metric that is wanted.
    """
    for name in wanted:
        if name not in metrics:
            raise ToolError(f"no run has the metric {name}; there are: {', '.join(metrics) or 'none'}")
    codes = {name: params[f"code.{name.partition('.')[0]}"] for name in wanted}
    params = params[[name for name in params if not name.startswith("code.")]]
    params = params.reindex(columns=dict.fromkeys([*params, *repetition]))  # one that is missing is the same everywhere
    differing = [name for name in params.drop(columns=[*repetition]) if params[name].nunique(dropna=False) > 1]
    differing.append("code")
    rows = []
    for name in wanted:
        fraction = name.endswith("accuracy")
        sets = _sets(params.assign(code=codes[name]), metrics[name].dropna(), differing, repetition)
        best: dict[str, pd.Series] = {}
        for first, over, values in sorted(sets, key=lambda entry: entry[2].mean(), reverse=fraction):
            behind = (best[over] - values).dropna() if over in best else values[:0]
            best.setdefault(over, values)
            rows.append(
                {**first[differing], "over": over, "metric": name, "n": len(values), "mean": values.mean()}
                | {"std": values.std(), **interval(values, "low", "high", fraction), "shared": len(behind)}
                | {"behind": behind.mean(), **interval(behind, "behind_low", "behind_high")}
            )
    summary = pd.DataFrame(rows)
    return summary if (summary.groupby("metric")["code"].nunique() > 1).any() else summary.drop(columns="code")


def _sets(
    params: pd.DataFrame, values: pd.Series, differing: list[str], repetition: Repetition
) -> Iterator[tuple[pd.Series, str, pd.Series]]:
    """Yield the params of each set of runs, what its runs differ in, and their `values` by seed or fold."""
    params = params.loc[values.index].drop_duplicates()
    for _, group in params.groupby(differing, dropna=False, sort=False):
        for varied, over, runs in repetitions(group, repetition):
            yield group.iloc[0], over, values[runs].set_axis(group.loc[runs, varied])


def interval(values: pd.Series, low: str, high: str, fraction: bool = False) -> dict[str, float]:
    """Return the 95 % confidence interval of the mean of `values` (Student's t), with `low` and `high` as its keys.

    The ends are limited to 0 and 1 for a `fraction`, and are NaN for a single value.
    """
    n = len(values)
    half = stats.t.ppf(0.975, n - 1) * values.std() / n**0.5 if n > 1 else float("nan")
    ends = {low: values.mean() - half, high: values.mean() + half}
    return {name: min(max(end, 0.0), 1.0) if fraction else end for name, end in ends.items()}


def repetitions(group: pd.DataFrame, repetition: Repetition) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the sets of runs in `group` that differ only in the seed or only in the fold.

    Each is the param in which they differ, the same in words, and the runs. The two are not mixed: runs of several
    seeds are independent, but the folds of one cross-validation share most of their training images. A run without
    repetitions is a set of its own, in no words.
    """
    alone = set(group.index)
    for varied, fixed in (repetition, repetition[::-1]):
        for value, runs in group.groupby(fixed, dropna=False):
            if len(runs) > 1 and runs[varied].notna().all():
                alone -= set(runs.index)
                yield varied, varied if pd.isna(value) else f"{varied}, {fixed} {value}", list(runs.index)
    yield from ((repetition.seed, "", [name]) for name in group.index if name in alone)


if __name__ == "__main__":
    run(main)
