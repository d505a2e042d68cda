"""Compare experiments: `dvc exp show --json | python -m lenet.compare evaluate.val.accuracy`.

Experiments that differ only in train.seed and split.fold are repetitions of one another: they make a group, for which
the mean, standard deviation and 95 % interval of each metric are shown.
"""

import argparse
import json
import sys
from pathlib import PurePosixPath
from typing import Any

import pandas as pd
from scipy import stats
from tabulate import tabulate

from lenet.errors import PipelineError

REPETITIONS = ["train.seed", "split.fold"]


def read(shown: list[dict[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, str]]:
    """Sort what `dvc exp show --json` shows into finished experiments and others.

    Returns the params of the finished ones, a row an experiment, a column a param (`train.lr`); their metrics, likewise
    (`evaluate.test.accuracy`); and the state of each other one, by its name: DVC shows the metrics of the commit that
    it started from as if they were its own.
    """
    params, metrics, others = {}, {}, {}
    for commit in shown:
        for experiment in commit.get("experiments") or []:
            last = experiment["revs"][0]
            name = experiment["name"] or last["name"] or last["rev"][:7]
            state = ((experiment["executor"] or {}).get("state") or "success").lower()
            if state != "success" or last["error"]:
                others[name] = state if state != "success" else "broken"
                continue
            data = last["data"]
            params[name] = {key: value for file in data["params"].values() for key, value in file["data"].items()}
            metrics[name] = {PurePosixPath(path).stem: file["data"] for path, file in data["metrics"].items()}
    tables = (pd.json_normalize(list(rows.values())).set_axis(list(rows)) for rows in (params, metrics))
    return *tables, others


def summarise(params: pd.DataFrame, metrics: pd.DataFrame, wanted: list[str]) -> pd.DataFrame:
    """Return a row for each metric `wanted` and each group of experiments, the best mean of each metric first.

    `params` and `metrics` are as `read` returns them. The columns: the params in which the experiments differ, but for
    the seed and the fold; `metric`; `n`, the number of experiments, those with equal params counted once, for they are
    the same run; `mean`; `std`, the sample standard deviation (with n - 1), and `low` and `high`, the 95 % confidence
    interval of the mean by Student's t distribution, all three missing for n = 1.

    Raises PipelineError if no experiment has a metric that is wanted.
    """
    for name in wanted:
        if name not in metrics:
            raise PipelineError(f"no experiment has the metric {name}; there are {', '.join(metrics)}")
    distinct = ~params.duplicated()
    params, metrics = params[distinct], metrics[distinct]
    differing = [name for name in params if params[name].nunique(dropna=False) > 1 and name not in REPETITIONS]
    blocks = []
    for name in wanted:
        long = params[differing].assign(metric=name, value=metrics[name]).dropna(subset="value")
        block = long.groupby([*differing, "metric"], dropna=False)["value"].agg(n="count", mean="mean", std="std")
        half = stats.t.ppf(0.975, block["n"] - 1) * block["std"] / block["n"] ** 0.5
        block = block.assign(low=block["mean"] - half, high=block["mean"] + half)
        blocks.append(block.reset_index().sort_values("mean", ascending=not name.endswith("accuracy")))
    return pd.concat(blocks, ignore_index=True)


def main() -> None:
    """Read the JSON from standard input and print the summary."""
    parser = argparse.ArgumentParser(prog="dvc exp show --json | python -m lenet.compare", description=__doc__)
    parser.add_argument("metrics", nargs="*", default=["evaluate.val.accuracy"], help="such as evaluate.test.loss")
    parser.add_argument("--format", choices=["table", "markdown", "csv"], default="table")
    options = parser.parse_args()
    try:
        params, metrics, others = read(json.load(sys.stdin))
    except (ValueError, TypeError, AttributeError, KeyError, IndexError):
        parser.error("standard input is not what `dvc exp show --json` prints")
    if params.empty:
        parser.error("there is no finished experiment")
    try:
        summary = summarise(params, metrics, options.metrics)
    except PipelineError as error:
        parser.error(str(error))
    if options.format == "csv":
        print(summary.to_csv(index=False), end="")
    else:
        style = {"table": "simple", "markdown": "github"}[options.format]
        summary = summary.astype(object).where(summary.notna(), None)
        print(tabulate(summary, headers="keys", tablefmt=style, showindex=False, floatfmt=".5g", missingval="-"))
    if others:
        # Not on standard output: a CSV is to hold nothing else.
        print("left out: " + ", ".join(f"{name} ({state})" for name, state in others.items()), file=sys.stderr)


if __name__ == "__main__":
    main()
