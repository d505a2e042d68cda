"""Compare experiments: `python -m tools.compare evaluate.val.accuracy evaluate.test.accuracy`.

Runs of the same code and params that differ only in train.seed, or only in split.fold, are repetitions: for each set of
them, and for the commit that they started from, it shows the mean, standard deviation and 95 % interval of each metric.
"""

import argparse
import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import PurePosixPath
from typing import Any

import pandas as pd
import yaml
from scipy import stats
from tabulate import tabulate

from lenet.errors import PipelineError
from stages.artifacts import model
from stages.launch.errors import run
from tools.git import git_bytes

SEED, FOLD = "train.seed", "split.fold"


def main() -> int:
    """Print the summary of the experiments that DVC shows for this commit; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.compare", description=__doc__)
    parser.add_argument("metrics", nargs="*", default=["evaluate.val.accuracy"], help="such as evaluate.test.loss")
    parser.add_argument("-A", "--all-commits", action="store_true", help="also the experiments of earlier commits")
    parser.add_argument("--format", choices=["table", "markdown", "csv"], default="table")
    options = parser.parse_args()
    command = [sys.executable, "-m", "dvc", "exp", "show", "--json"]
    command += ["--all-commits"] if options.all_commits else []
    shown = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if shown.returncode:
        return 1  # DVC has printed the reason
    params, metrics, others = read(json.loads(shown.stdout))
    if others:
        # To standard error, because standard output may be a CSV file.
        print("left out: " + ", ".join(f"{name} ({state})" for name, state in others.items()), file=sys.stderr)
    summary = summarise(params, metrics, options.metrics)
    if options.format == "csv":
        print(summary.to_csv(index=False), end="")
    else:
        style = {"table": "simple", "markdown": "github"}[options.format]
        unshown = ["of"] if summary["shared"].any() else ["of", "shared", "behind", "behind_low", "behind_high"]
        cells = summary.drop(columns=unshown).astype(object).where(summary.notna(), None)
        print(tabulate(cells, headers="keys", tablefmt=style, showindex=False, floatfmt=".5g", missingval="-"))
    return 0


def read(shown: list[dict[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, str]]:
    """Sort the output of `dvc exp show --json` into finished runs and others.

    Returns the params of the finished runs, a row for each run, a column for each param (`train.lr`); their metrics,
    likewise (`evaluate.test.accuracy`); and the state of each other experiment by its name. The metrics of those others
    are ignored, because DVC shows the metrics of the commit that an experiment started from as if they were its own.
    The params have more columns: `of`, the first digits of the hash of the model in the commit that the run started
    from, and for each metrics file the hash of the code behind it (`code.evaluate`, see `code`) or, where that is
    unknown, the run's revision.
    """
    params: dict[str, dict[str, Any]] = {}
    metrics, revs, others = {}, [], {}
    for commit in shown:
        if commit["rev"] == "workspace":
            continue
        weights = (commit.get("data") or {}).get("outs", {}).get(str(model.PATH), {}).get("hash") or ""
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
            files = last["data"]["params"].values()
            params[name] = {key: value for file in files for key, value in file["data"].items()} | {"of": weights[:8]}
            metrics[name] = {path: file["data"] for path, file in last["data"]["metrics"].items()}
            revs.append(last["rev"])
    for rev, stages, row, written in zip(revs, locked(revs), params.values(), metrics.values(), strict=True):
        row["code"] = {PurePosixPath(path).stem: code(stages, path) or rev[:8] for path in written}
    named = [{PurePosixPath(path).stem: content for path, content in written.items()} for written in metrics.values()]
    tables = [pd.json_normalize(rows).set_axis(list(params)) for rows in (list(params.values()), named)]
    return tables[0], tables[1], others


def _files(data: dict[str, Any]) -> list[dict[str, Any]]:
    return [*data["params"].values(), *data["metrics"].values()]


def locked(revs: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the stages in dvc.lock at each of the Git revisions; none where there is no such file."""
    names = "".join(f"{rev}:./dvc.lock\n" for rev in revs)
    output = io.BytesIO(git_bytes("cat-file", "--batch", stdin=names.encode()))
    for header in output:  # <hash> blob <size>, or <name> missing
        size = header.split()[2:]
        yield _parsed(output.read(int(size[0]) + len("\n"))) if size else {}


@cache  # runs may share a dvc.lock
def _parsed(lock: bytes) -> dict[str, Any]:
    # This loader leaves each scalar a string, and takes half the time of the next fastest.
    return dict((yaml.load(lock, yaml.CBaseLoader) or {}).get("stages", {}))  # noqa: S506 - creates no objects


def code(stages: dict[str, Any], path: str) -> str:
    """Return a hash of the code and data behind the metrics file `path`, given the `stages` in dvc.lock.

    These are the deps of the stage that writes the file and of all stages upstream of it, except those that params may
    change: the outputs of a stage with params or downstream of one. Returns an empty string if no stage writes the
    file, or if a stage upstream has run again since and changed a dep: then the metrics are those of an earlier run.
    """
    outs = {out["path"]: (stage, out.get("md5")) for stage in stages.values() for out in stage.get("outs", [])}

    def behind(path: str) -> list[dict[str, Any]]:
        chain = [outs[path][0]] if path in outs else []
        for stage in chain:  # the list grows in the loop
            upstream = [outs[dep["path"]][0] for dep in stage.get("deps", []) if dep["path"] in outs]
            chain += [stage for stage in upstream if stage not in chain]
        return chain

    deps = {(dep["path"], dep.get("md5")) for stage in behind(path) for dep in stage.get("deps", [])}
    fixed = [dep for dep in deps if not any("params" in stage for stage in behind(dep[0]))]
    stale = any(path in outs and outs[path][1] != md5 for path, md5 in deps)
    return "" if stale or not deps else hashlib.md5(repr(sorted(fixed)).encode()).hexdigest()[:8]


def summarise(params: pd.DataFrame, metrics: pd.DataFrame, wanted: list[str]) -> pd.DataFrame:
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
    - `of`

    Raises PipelineError if no run has a metric that is wanted.
    """
    for name in wanted:
        if name not in metrics:
            raise PipelineError(f"no run has the metric {name}; there are: {', '.join(metrics) or 'none'}")
    codes = {name: params[f"code.{name.partition('.')[0]}"] for name in wanted}
    params = params[[name for name in params if not name.startswith("code.")]]
    differing = [name for name in params.drop(columns="of") if params[name].nunique(dropna=False) > 1]
    differing = [name for name in differing if name not in (SEED, FOLD)] + ["code"]
    rows = []
    for name in wanted:
        fraction = name.endswith("accuracy")
        sets = _sets(params.assign(code=codes[name]), metrics[name].dropna(), differing)
        best: dict[str, pd.Series] = {}
        for first, over, values in sorted(sets, key=lambda entry: entry[2].mean(), reverse=fraction):
            behind = (best[over] - values).dropna() if over in best else values[:0]
            best.setdefault(over, values)
            rows.append(
                {**first[differing], "over": over, "metric": name, "n": len(values), "mean": values.mean()}
                | {"std": values.std(), **interval(values, "low", "high", fraction), "shared": len(behind)}
                | {"behind": behind.mean(), **interval(behind, "behind_low", "behind_high"), "of": first["of"]}
            )
    summary = pd.DataFrame(rows)
    return summary if (summary.groupby("metric")["code"].nunique() > 1).any() else summary.drop(columns="code")


def _sets(params: pd.DataFrame, values: pd.Series, differing: list[str]) -> Iterator[tuple[pd.Series, str, pd.Series]]:
    """Yield the params of each set of runs, what its runs differ in, and their `values` by seed or fold."""
    params = params.loc[values.index].drop_duplicates()
    for _, group in params.groupby(differing, dropna=False, sort=False):
        for over, runs in repetitions(group):
            index = group.loc[runs, FOLD if over.startswith(FOLD) else SEED]
            yield group.iloc[0], over, values[runs].set_axis(index)


def interval(values: pd.Series, low: str, high: str, fraction: bool = False) -> dict[str, float]:
    """Return the 95 % confidence interval of the mean of `values` (Student's t), with `low` and `high` as its keys.

    The ends are limited to 0 and 1 for a `fraction`, and are NaN for a single value.
    """
    n = len(values)
    half = stats.t.ppf(0.975, n - 1) * values.std() / n**0.5 if n > 1 else float("nan")
    ends = {low: values.mean() - half, high: values.mean() + half}
    return {name: min(max(end, 0.0), 1.0) if fraction else end for name, end in ends.items()}


def repetitions(group: pd.DataFrame) -> Iterator[tuple[str, list[str]]]:
    """Yield the sets of runs in `group` that differ only in the seed or only in the fold: (what differs, the runs).

    The two are not mixed: runs of several seeds are independent, but the folds of one cross-validation share most of
    their training images. A run without repetitions is a set of its own.
    """
    alone = set(group.index)
    for over, fixed in ((SEED, FOLD), (FOLD, SEED)):
        for value, runs in group.groupby(fixed) if {SEED, FOLD} <= set(group) else []:
            if len(runs) > 1:
                alone -= set(runs.index)
                yield f"{over}, {fixed} {value}", list(runs.index)
    yield from (("", [name]) for name in group.index if name in alone)


if __name__ == "__main__":
    run(main)
