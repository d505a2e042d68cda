"""The summary of experiments, over what DVC really shows of finished, failed and queued ones."""

import io
import json
import statistics

import pandas as pd
import pytest
from conftest import Project

from tools import compare
from tools.errors import ToolError

SEEDS = "train.seed, split.fold 0"


def values(**columns: list) -> tuple[pd.DataFrame, pd.DataFrame]:
    n = len(next(iter(columns.values())))
    frame = pd.DataFrame({"train.seed": [0] * n, "split.fold": [0] * n, "code.m": ["a"] * n} | columns)
    metrics = [name for name in frame if name.startswith("m.")]
    return frame.drop(columns=metrics), frame[metrics]


def test_groups_differ_in_params_other_than_seed_and_fold():
    params, metrics = values(
        **{
            "train.lr": [0.1, 0.1, 0.1, 0.2, 0.2],
            "train.seed": [0, 1, 2, 0, 1],
            "train.epochs": [3] * 5,
            "m.accuracy": [0.90, 0.92, 0.97, 0.98, 0.96],
            "m.loss": [0.1, 0.2, 0.3, 0.5, 0.7],
        }
    )
    summary = compare.summarise(params, metrics, ["m.accuracy", "m.loss"])
    numbers = ["n", "mean", "std", "low", "high", "shared", "behind", "behind_low", "behind_high"]
    assert list(summary) == ["train.lr", "over", "metric", *numbers]
    # The best first: the highest accuracy, the lowest loss.
    assert list(zip(summary["train.lr"], summary["over"], summary["metric"], summary["n"], strict=True)) == [
        (0.2, SEEDS, "m.accuracy", 2),
        (0.1, SEEDS, "m.accuracy", 3),
        (0.1, SEEDS, "m.loss", 3),
        (0.2, SEEDS, "m.loss", 2),
    ]
    row = summary.iloc[1]
    assert row["mean"] == pytest.approx(0.93)
    assert row["std"] == pytest.approx(statistics.stdev([0.90, 0.92, 0.97]))
    # Student's t for 2 degrees of freedom and 95 %, two-sided, is 4.303 in any table.
    assert row["mean"] - row["low"] == pytest.approx(4.303 * row["std"] / 3**0.5, rel=1e-4)
    assert row["high"] == 1  # no accuracy is above that
    row = summary.iloc[2]
    assert row["low"] < 0  # but a loss may be anywhere
    assert row["mean"] - row["low"] == pytest.approx(row["high"] - row["mean"])


def test_the_paired_difference_is_over_the_shared_seeds():
    params, metrics = values(
        **{
            "train.lr": [0.1] * 4 + [0.2] * 3,
            "train.seed": [0, 1, 2, 3, 1, 2, 4],
            "m.accuracy": [0.9, 0.8, 0.7, 0.99, 0.79, 0.68, 0.2],
        }
    )
    best, other = compare.summarise(params, metrics, ["m.accuracy"]).itertuples()
    assert (best.n, best.shared, other.n, other.shared) == (4, 0, 3, 2)
    assert pd.isna(best.behind)
    assert other.behind == pytest.approx(0.015)  # 0.01 with seed 1, 0.02 with seed 2
    # Student's t for 1 degree of freedom and 95 %, two-sided, is 12.706 in any table.
    assert other.behind_high - other.behind == pytest.approx(12.706 * 0.005, rel=1e-4)


def test_seeds_and_folds_are_not_mixed():
    seeds, folds = [0, 1, 2, 0, 0], [0, 0, 0, 1, 2]
    params, metrics = values(**{"train.seed": seeds, "split.fold": folds, "m.loss": [1.0, 2.0, 3.0, 4.0, 7.0]})
    summary = compare.summarise(params, metrics, ["m.loss"])
    assert [(row.over, row.n, row.mean) for row in summary.itertuples()] == [
        (SEEDS, 3, 2.0),
        ("split.fold, train.seed 0", 3, 4.0),
    ]


def test_the_same_run_counts_once_but_not_that_of_other_code():
    params, metrics = values(**{"train.seed": [0, 0, 1], "m.loss": [1.0, 1.0, 2.0]})
    summary = compare.summarise(params, metrics, ["m.loss"])
    assert (summary["n"].tolist(), summary["mean"].tolist()) == ([2], [1.5])
    params["code.m"] = ["a", "b", "a"]
    assert compare.summarise(params, metrics, ["m.loss"])["n"].tolist() == [1, 2]


def test_one_run_has_no_spread_and_a_missing_metric_no_part():
    params, metrics = values(**{"split.folds": [1, 5], "m.val": [None, 0.9]})
    (row,) = compare.summarise(params, metrics, ["m.val"]).itertuples()
    assert (row.n, row.mean) == (1, 0.9)
    assert pd.isna(row.std)
    assert pd.isna(row.low)


def test_an_unknown_metric():
    params, metrics = values(**{"m.loss": [1.0]})
    with pytest.raises(ToolError, match=r"no run has the metric m\.accuracy; there are: m\.loss"):
        compare.summarise(params, metrics, ["m.accuracy"])


def entry(params: dict, outs: list[str], *deps: str) -> dict:
    lists = {kind: [{"path": path, "md5": "old"} for path in paths] for kind, paths in (("deps", deps), ("outs", outs))}
    return {"params": params} | lists


@pytest.mark.parametrize(
    ("path", "differs"),
    [
        *[(path, True) for path in ("raw", "download.py", "data/mnist", "train.py", "evaluate.py")],
        *[(path, False) for path in ("model", "metrics.json", "plot.py")],  # what params decide, and what is downstream
    ],
)
def test_the_code_behind_a_metric(path, differs):
    stages = {
        "download": entry({}, ["data/mnist"], "raw", "download.py"),
        "train": entry({"params.yaml": {"train": {}}}, ["model"], "data/mnist", "train.py"),
        "evaluate": entry({}, ["metrics.json"], "data/mnist", "model", "evaluate.py"),
        "plot": entry({}, ["picture"], "model", "metrics.json", "plot.py"),
    }
    before = compare.code(stages, "metrics.json")
    for stage in stages.values():
        for file in stage["deps"] + stage["outs"]:
            if file["path"] == path:
                file["md5"] = "new"
    assert (compare.code(stages, "metrics.json") != before) == differs


def test_a_metric_that_is_older_than_what_it_comes_from():
    stages = {
        "train": entry({}, ["model"], "train.py"),
        "evaluate": entry({}, ["metrics.json"], "model", "evaluate.py"),
    }
    assert compare.code(stages, "metrics.json")
    stages["train"]["outs"][0]["md5"] = "new"
    assert compare.code(stages, "metrics.json") == compare.code(stages, "other.json") == ""


def test_metrics_files_of_one_name_go_by_their_paths():
    names = compare._names({"a/scores.json", "b/scores.json", "b/loss.json"})
    assert names == {"a/scores.json": "a/scores.json", "b/scores.json": "b/scores.json", "b/loss.json": "loss"}


@pytest.fixture
def runs(standin: Project, enter, tool):
    """Return a function that says how many runs there are in each mean that is shown of a metric."""
    enter(standin)

    def runs(*arguments: str) -> list[int]:
        _, table, _ = tool("compare", "--format", "csv", *arguments)
        return sorted(pd.read_csv(io.StringIO(table))["n"])

    return runs


def test_a_run_without_a_seed_repeats_no_other():
    runs = pd.DataFrame({"train.seed": [1, None], "split.fold": [0, 0]}, index=["one", "other"])
    assert list(compare.repetitions(runs, compare.DEFAULT)) == [
        ("train.seed", "", ["one"]),
        ("train.seed", "", ["other"]),
    ]


def test_only_runs_that_have_ended_well_count(monkeypatch):
    def revision(name: str, error: str | None = None) -> dict:
        files = {"params": {"params.yaml": {"data": {"train": {"lr": 0.1}}}}, "metrics": {"m.json": {"data": {"a": 1}}}}
        return {"rev": name, "name": name, "error": error, "data": files}

    states = {"good": "Success", "bad": "Failed", "waiting": "Queued", "running": "Running"}
    runs = [{"name": name, "executor": {"state": state}, "revs": [revision(name)]} for name, state in states.items()]
    runs.append({"name": "damaged", "executor": None, "revs": [revision("damaged", "no params.yaml")]})
    monkeypatch.setattr(compare, "locked", lambda revs: [{} for _ in revs])
    shown = [{"rev": "workspace"}, revision("main") | {"experiments": runs}]
    params, _, others = compare.read(shown)
    assert list(params.index) == ["main", "good"]
    assert others == {"bad": "failed", "waiting": "queued", "running": "running", "damaged": "broken"}


def experiment(project: Project, seed: int, *targets: str) -> None:
    project.run("dvc", "exp", "run", "--temp", "-S", f"train.seed={seed}", *targets)


@pytest.mark.slow
def test_full_and_partial_runs_of_equal_code_are_averaged(standin: Project, runs):
    standin.edit("lenet/figures.py", "import", "# not behind the metric\nimport")
    experiment(standin, 1, "evaluate")
    assert runs("evaluate.number") == [2]
    standin.edit("lenet/augment.py", "import", "# behind it\nimport")
    experiment(standin, 2, "evaluate")
    assert runs("evaluate.number") == [1, 2]


@pytest.mark.slow
def test_other_commits_join_where_the_code_behind_the_metric_is_equal(standin: Project, runs):
    experiment(standin, 1)
    for path, n in (("lenet/figures.py", [3]), ("lenet/evaluation.py", [1, 3]), ("lenet/augment.py", [1, 1, 3])):
        standin.edit(path, "import", "# edited\nimport")
        standin.repro()
        standin.commit(f"Edit {path}")
        if path == "lenet/figures.py":
            experiment(standin, 2)
        assert runs("evaluate.number", "--all-commits") == n


@pytest.mark.slow
def test_failed_and_queued_experiments_enter_no_mean(standin: Project, enter, tool):
    fails = "    if any(getattr(section, 'lr', 0) == 0.03 for section in sections.values()):\n        raise OSError\n"
    standin.edit("stages/train.py", "    wait(STAGE)", f"{fails}    wait(STAGE)")
    standin.repro()
    standin.commit("A rate that fails")
    standin.run("dvc", "exp", "run", "--queue", "--name", "good", "-S", "train.lr=0.01", "-S", "train.seed=7")
    standin.run("dvc", "exp", "run", "--queue", "--name", "bad", "-S", "train.lr=0.03")
    standin.try_run("dvc", "exp", "run", "--run-all")
    standin.run("dvc", "exp", "run", "--queue", "--name", "waiting", "-S", "train.lr=0.04")
    enter(standin)

    params, metrics, others = compare.read(json.loads(standin.run("dvc", "exp", "show", "--json")))
    assert list(params.index) == ["main", "good"]
    assert others == {"bad": "failed", "waiting": "queued"}
    assert metrics.loc["good", "train.number"] != metrics.loc["main", "train.number"]

    _, printed, told = tool("compare", "train.number")
    assert "nan" not in printed  # of one run there is no standard deviation
    assert set(told.strip().removeprefix("left out: ").split(", ")) == {"bad (failed)", "waiting (queued)"}

    _, printed, _ = tool("compare", "--all-commits", "train.number")
    assert " code " in printed  # there is a row for each of the two commits, too

    _, table, _ = tool("compare", "train.number", "--format", "csv")
    assert pd.read_csv(io.StringIO(table))["n"].tolist() == [1, 1]
