"""Compare experiments: `python -m tools.compare evaluate.val.accuracy evaluate.test.accuracy`.

Runs of the same code and params that differ only in train.seed, or only in split.fold, repeat one another: of each set
the mean, standard deviation and 95 % interval of each metric are shown, and of the commit that they started from.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pandas as pd
from scipy import stats
from tabulate import tabulate

from lenet.errors import PipelineError, run

SEED, FOLD = "train.seed", "split.fold"
MODEL, DATA = "models/lenet5.safetensors", "data/mnist"


def main() -> int:
    """Ask DVC for the experiments of this commit and print the summary; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.compare", description=__doc__)
    parser.add_argument("metrics", nargs="*", default=["evaluate.val.accuracy"], help="such as evaluate.test.loss")
    parser.add_argument("-A", "--all-commits", action="store_true", help="also the experiments of earlier commits")
    parser.add_argument("--format", choices=["table", "markdown", "csv"], default="table")
    options = parser.parse_args()
    command = [sys.executable, "-m", "dvc", "exp", "show", "--json"]
    command += ["--all-commits"] if options.all_commits else []
    shown = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if shown.returncode:
        return 1  # DVC has said why
    params, metrics, others = read(json.loads(shown.stdout))
    if others:
        # Not on standard output: a CSV is to hold nothing else.
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
    """Sort what `dvc exp show --json` shows into finished runs and others.

    Returns the params of the finished ones, a row a run, a column a param (`train.lr`), and the columns `code`, which
    is different where the data or any dep in dvc.yaml that no stage writes is, and `of`, the beginning of the hash of
    the model in the commit that the run started from; their metrics, likewise (`evaluate.test.accuracy`); and the state
    of each other experiment, by its name: DVC shows the metrics of the commit that it started from as if they were its
    own.
    """
    params: dict[str, dict[str, Any]] = {}
    metrics, others = {}, {}
    for commit in shown:
        if commit["rev"] == "workspace":
            continue
        model = (commit.get("data") or {}).get("outs", {}).get(MODEL, {}).get("hash") or ""
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
            data = last["data"]
            code = {path: dep["hash"] for path, dep in data["deps"].items() if path not in data["outs"] or path == DATA}
            params[name] = {key: value for file in data["params"].values() for key, value in file["data"].items()}
            params[name] |= {"code": hashlib.md5(repr(sorted(code.items())).encode()).hexdigest()[:8], "of": model[:8]}
            metrics[name] = {PurePosixPath(path).stem: file["data"] for path, file in data["metrics"].items()}
    tables = [pd.json_normalize(list(rows.values())).set_axis(list(rows)) for rows in (params, metrics)]
    return tables[0], tables[1], others


def _files(data: dict[str, Any]) -> list[dict[str, Any]]:
    return [*data["params"].values(), *data["metrics"].values()]


def summarise(params: pd.DataFrame, metrics: pd.DataFrame, wanted: list[str]) -> pd.DataFrame:
    """Return a row for each metric `wanted` and each set of runs that repeat one another, the best mean first.

    `params` and `metrics` are as `read` returns them. The columns:

    - the params in which the runs differ, but for the seed and the fold
    - `over`, in what the runs of the set differ; `metric`; `n`, the number of runs, those with equal params and code
      counted once, for they are the same run
    - `mean`; `std`, the sample standard deviation (with n - 1); `low` and `high`, the 95 % confidence interval of the
      mean by Student's t distribution, which ends at 0 and 1 for an accuracy; the last three are missing for n = 1
    - `shared`, the number of seeds (or folds) that the set shares with the best one over the same; `behind`, by how
      much it is lower than that on these in the mean, and `behind_low` and `behind_high`, the 95 % confidence interval
      of this paired difference: on the same seeds, a difference shows sooner than between two means
    - `of`

    Raises PipelineError if no run has a metric that is wanted.
    """
    for name in wanted:
        if name not in metrics:
            raise PipelineError(f"no run has the metric {name}, but {', '.join(metrics) or 'none: no run is finished'}")
    params = params[~params.duplicated()]
    apart = [name for name in params if params[name].nunique(dropna=False) > 1]
    differing = [name for name in apart if name not in (SEED, FOLD, "of")]
    rows = []
    for name in wanted:
        found, fraction = [], name.endswith("accuracy")
        for _, group in params.groupby(differing, dropna=False, sort=False) if differing else [((), params)]:
            for over, runs in repetitions(group):
                values = metrics.loc[runs, name].dropna()
                if len(values):
                    values.index = group.loc[values.index, FOLD if over.startswith(FOLD) else SEED]
                    found.append((group.iloc[0], over, values))
        found.sort(key=lambda entry: entry[2].mean(), reverse=fraction)
        best: dict[str, pd.Series] = {}
        for first, over, values in found:
            behind = (best[over] - values).dropna() if over in best else values[:0]
            best.setdefault(over, values)
            rows.append(
                {**first[differing], "over": over, "metric": name, "n": len(values), "mean": values.mean()}
                | {"std": values.std(), **interval(values, "low", "high", fraction), "shared": len(behind)}
                | {"behind": behind.mean(), **interval(behind, "behind_low", "behind_high"), "of": first["of"]}
            )
    return pd.DataFrame(rows)


def interval(values: pd.Series, low: str, high: str, fraction: bool = False) -> dict[str, float]:
    """Return the 95 % confidence interval of the mean of `values` by Student's t distribution, its ends named so.

    Those of a `fraction` stay between 0 and 1; those of a single value are not a number.
    """
    n = len(values)
    half = stats.t.ppf(0.975, n - 1) * values.std() / n**0.5 if n > 1 else float("nan")
    ends = {low: values.mean() - half, high: values.mean() + half}
    return {name: min(max(end, 0.0), 1.0) if fraction else end for name, end in ends.items()}


def repetitions(group: pd.DataFrame) -> Iterator[tuple[str, list[str]]]:
    """Yield the sets of runs in `group` that differ in nothing but the seed or nothing but the fold, and in which.

    The two are not mixed: runs of several seeds are independent, but the folds of one cross-validation share most of
    their training images. Runs that nothing repeats are sets of their own.
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
