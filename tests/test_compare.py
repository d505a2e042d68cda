"""The summary of experiments, over what DVC really shows of finished, failed and queued ones."""

import io
import json
import statistics
import sys

import pandas as pd
import pytest
from conftest import Project

from lenet import compare
from lenet.errors import PipelineError


def values(**columns) -> tuple[pd.DataFrame, pd.DataFrame]:
    frame = pd.DataFrame(columns)
    metrics = [name for name in frame if name.startswith("m.")]
    return frame.drop(columns=metrics), frame[metrics]


def test_groups_differ_in_params_other_than_seed_and_fold():
    params, metrics = values(
        **{
            "train.lr": [0.1, 0.1, 0.1, 0.2, 0.2],
            "train.seed": [0, 1, 2, 0, 1],
            "split.fold": [0, 0, 1, 0, 0],
            "train.epochs": [3] * 5,
            "m.accuracy": [0.90, 0.92, 0.97, 0.98, 0.96],
            "m.loss": [0.3, 0.2, 0.1, 0.5, 0.7],
        }
    )
    summary = compare.summarise(params, metrics, ["m.accuracy", "m.loss"])
    assert list(summary) == ["train.lr", "metric", "n", "mean", "std", "low", "high"]
    # The best first: the highest accuracy, the lowest loss.
    assert list(zip(summary["train.lr"], summary["metric"], summary["n"], strict=True)) == [
        (0.2, "m.accuracy", 2),
        (0.1, "m.accuracy", 3),
        (0.1, "m.loss", 3),
        (0.2, "m.loss", 2),
    ]
    row = summary.iloc[1]
    assert row["mean"] == pytest.approx(0.93)
    assert row["std"] == pytest.approx(statistics.stdev([0.90, 0.92, 0.97]))
    # Student's t for 2 degrees of freedom and 95 %, two-sided, is 4.303 in any table.
    assert row["high"] - row["mean"] == pytest.approx(4.303 * row["std"] / 3**0.5, rel=1e-4)
    assert row["mean"] - row["low"] == pytest.approx(row["high"] - row["mean"])


def test_the_same_run_counts_once():
    params, metrics = values(**{"train.seed": [0, 0, 1], "m.loss": [1.0, 1.0, 2.0]})
    (row,) = compare.summarise(params, metrics, ["m.loss"]).itertuples()
    assert (row.n, row.mean) == (2, 1.5)


def test_one_run_has_no_spread_and_a_missing_metric_no_part():
    params, metrics = values(**{"split.folds": [1, 5], "m.val": [None, 0.9]})
    (row,) = compare.summarise(params, metrics, ["m.val"]).itertuples()
    assert (row.n, row.mean) == (1, 0.9)
    assert pd.isna(row.std)
    assert pd.isna(row.low)


def test_an_unknown_metric():
    params, metrics = values(**{"train.seed": [0], "m.loss": [1.0]})
    with pytest.raises(PipelineError, match="no experiment has the metric"):
        compare.summarise(params, metrics, ["m.accuracy"])


def call(monkeypatch, text: str, *arguments: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    monkeypatch.setattr(sys, "argv", ["compare", *arguments])
    compare.main()


@pytest.mark.parametrize("text", ["", "3", "[1]", "{}", '[{"experiments": [{}]}]', "[]"])
def test_what_dvc_does_not_print(text, monkeypatch, capsys):
    with pytest.raises(SystemExit) as caught:
        call(monkeypatch, text)
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_failed_and_queued_experiments_enter_no_mean(standin: Project, monkeypatch, capsys):
    fails = "    if '0.03' in repr(params._raw('train')):\n        sys.exit(1)\n"
    standin.edit("stages/train.py", "    if log :=", f"{fails}    if log :=")
    standin.repro()
    standin.run("git", "commit", "--quiet", "--all", "--message", "A rate that fails")
    standin.run("dvc", "exp", "run", "--queue", "--name", "good", "-S", "train.lr=0.01", "-S", "train.seed=7")
    standin.run("dvc", "exp", "run", "--queue", "--name", "bad", "-S", "train.lr=0.03")
    standin.try_run("dvc", "exp", "run", "--run-all")
    standin.run("dvc", "exp", "run", "--queue", "--name", "waiting", "-S", "train.lr=0.04")
    shown = standin.run("dvc", "exp", "show", "--json")

    params, metrics, others = compare.read(json.loads(shown))
    assert list(params.index) == ["good"]
    assert others == {"bad": "failed", "waiting": "queued"}
    number = json.loads((standin.root / "metrics/train.json").read_text())["number"]
    assert metrics.loc["good", "train.number"] != number  # that of the commit that it started from

    call(monkeypatch, shown, "train.number")
    assert "nan" not in capsys.readouterr().out  # of one run there is no standard deviation

    call(monkeypatch, shown, "train.number", "--format", "csv")
    printed = capsys.readouterr()
    assert printed.out.startswith("metric,n,mean,std,low,high\ntrain.number,1,")
    assert printed.out.count("\n") == 2
    assert "bad (failed)" in printed.err
    assert "waiting (queued)" in printed.err
