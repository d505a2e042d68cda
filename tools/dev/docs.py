"""Write the generated parts of README.md and docs/: `python -m tools.dev.docs`.

Each part is between `<!-- NAME -->` and `<!-- end -->`, within a line or on lines of its own. It comes from dvc.yaml,
metrics/ and the tables in docs/, so that no number is copied by hand.
"""

import json
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from lenet.data.dataset import ITEM, TITLE
from lenet.model import NAME
from stages.launch import pipeline
from tools.compare import interval
from tools.errors import ToolError, run
from tools.recipes import RECIPES, matching

OF = f"{NAME} on {TITLE}"
OUTPUT = Path("docs/output")  # printed by commands

# Columns that would make a table of many experiments wider than a page.
UNSHOWN = "m|accuracy|.*(loss|error)|Created|State|Executor"


def headline() -> str:
    """Return a sentence about the committed run."""
    test = json.loads(Path("metrics/evaluate.json").read_text())["test"]
    images = json.loads(Path("metrics/download.json").read_text())["test"]["images"]
    return (
        f"The committed run classifies **{test['accuracy']:.2%}** of the {images:,} test {ITEM}s correctly "
        f"({round((1 - test['accuracy']) * images)} errors)."
    )


def metrics() -> str:
    """Return the table that `make repro` prints at its end if nothing has changed."""
    scores = pd.json_normalize(json.loads(Path("metrics/evaluate.json").read_text())).drop(columns="numerics").iloc[0]
    rows = [["metrics/evaluate.json", name, *2 * [round(value, 5)], 0.0] for name, value in sorted(scores.items())]
    headers = ["Path", "Metric", "HEAD", "workspace", "Change"]
    return f"```\n{tabulate(rows, headers, 'plain', disable_numparse=True)}\n```"


def results() -> str:
    """Return the table of recipes, from the rows in docs/results.csv that are of this model and data set."""
    results, params = pd.read_csv("docs/results.csv"), pipeline.load(Path("params.yaml"))
    results = results[results["of"] == OF]
    rows = []
    for name, recipe in RECIPES.items():
        found = matching(results, params, recipe.changes)
        if found.empty:
            rows.append([name, f"not measured for {OF}", ""])
        for over, runs in found.groupby("over", sort=False):
            kind = "seeds" if over.startswith("train.seed") else "folds"
            scores = {row.metric: f"{row.mean:.2%} ± {row.std:.2%}" for row in runs.itertuples()}
            cells = [scores.get(f"evaluate.{part}.accuracy", "") for part in ("val", "test")]
            rows.append([f"{name}, {runs['n'].iloc[0]} {kind}", *cells])
    return table(rows, ["recipe", "validation accuracy", "test accuracy"])


def recipes() -> str:
    """Return the commands that queue and run the experiments of docs/results.csv, and write that file."""
    commands = []
    for changes, seeds in RECIPES.values():
        words = "".join(f" -S {name}={str(value).lower()}" for name, value in changes.items())
        commands.append(f"$ dvc exp run --queue -S compute.threads=1 -S 'train.seed=range(0,{seeds})'{words} evaluate")
        if not changes:
            commands.append("$ dvc exp run --queue -S compute.threads=1 -S 'split.fold=range(1,5)' evaluate")
    named = "{train,evaluate.val,evaluate.test}.{loss,accuracy} evaluate.{val,test}.calibration_error"
    commands += [
        "$ python -m tools.fleet run",
        f"$ python -m tools.compare --format csv --of '{OF}' {named} > docs/results.csv",
    ]
    # A line breaks between two changes, not within one.
    whole = [command.replace(" -S ", " -S~") for command in commands]
    wrapped = [" \\\n    ".join(textwrap.wrap(command, 110, break_on_hyphens=False)) for command in whole]
    return "```console\n" + "\n".join(wrapped).replace("-S~", "-S ") + "\n```"


def dag() -> str:
    """Return the graph of the stages: an arrow from each to those that read its outputs."""
    pipe = pipeline.read(Path())
    lines = [
        f"  {name} --> {' & '.join(readers)}"
        for name, stage in pipe.items()
        if (readers := [reader for reader, other in pipe.items() if set(stage.outputs) & set(other.deps)])
    ]
    return "\n".join(["```mermaid", "flowchart LR", *lines, "```"])


def stages() -> str:
    """Return the table of the stages, from dvc.yaml."""
    rows = []
    for name, stage in pipeline.read(Path()).items():
        data = [dep for dep in stage.deps if not dep.startswith(("lenet/", "stages/", "requirements"))]
        cached = [path for path, is_cached in stage.outputs.items() if is_cached]
        tracked = [path for path, is_cached in stage.outputs.items() if not is_cached]
        tracked = sorted({path if path.endswith((".json", ".csv")) else "metrics/*.png" for path in tracked})
        rows.append([f"[{name}](../stages/{name}.py)", stage.desc, *map(code, (data, stage.params, cached, tracked))])
    return table(rows, ["stage", "", "reads", "params", "writes (DVC's cache)", "writes (Git)"])


def reruns() -> str:
    """Return the table of the stages that rerun after each change, from dvc.yaml."""
    pipe = pipeline.read(Path())
    files = [path for room in ("lenet", "stages") for path in sorted(Path(room).rglob("*.*"))]
    code_files = [str(path) for path in files if path.is_file() and "__pycache__" not in path.parts]
    changes = [*code_files, "requirements.lock", *(f"{section}" for section in pipeline.load(Path("params.yaml")))]
    groups: dict[tuple[str, ...], list[str]] = {}
    for change in changes:
        groups.setdefault(tuple(pipeline.affected(pipe, change)), []).append(change)
    rows = [
        [code(group), *("runs" if stage in affected else "" for stage in pipe)]
        for affected, group in sorted(groups.items(), key=lambda item: [stage not in item[0] for stage in pipe])
    ]
    return table(rows, ["change", *pipe])


def experiment() -> str:
    """Return the metrics of README's first experiment beside those of the commit."""
    return console(("dvc metrics diff", "experiment"))


def show() -> str:
    """Return DVC's list with README's first experiment."""
    return console(("dvc exp show --only-changed --drop m", "show"))


def sweep() -> str:
    """Return the tables of the runs in docs/experiments.md."""
    show = f"dvc exp show --only-changed --hide-workspace --drop '{UNSHOWN}'"
    return console((show, "sweep"), ("python -m tools.compare", "compare"))


def speed() -> str:
    """Return the measurements of `make bench`."""
    return measurements("docs/speed.csv")


def gpu() -> str:
    """Return the measurements of `make gpu`."""
    return measurements("docs/gpu.csv")


def measurements(path: str) -> str:
    """Return the table that tools.bench wrote to `path`."""
    rows = []
    for row in pd.read_csv(path).itertuples():
        spread = "" if row.n == 1 else f"{row.lowest:.3g} to {row.highest:.3g}"
        unit = "" if pd.isna(row.unit) else row.unit
        rows.append([row.measured, f"{row.median:.3g}", spread, unit])
    return table(rows, ["measured", "median", "range", "unit"])


def busy() -> str:
    """Return the table of how training shares a processor with other programs, from docs/busy.csv."""
    times = pd.read_csv("docs/busy.csv")
    times[["beside", "way"]] = times["measured"].str.removeprefix("beside ").str.split(": ", expand=True)
    alone = times["median"].iloc[0]
    rows: dict[str, dict[str, str]] = {}
    for row in times.itertuples():
        others = 2 if row.beside == "another such training" else int(row.beside.split()[0])  # threads
        cells = rows.setdefault(row.beside, {"a fair share": f"{alone * max(1, (2 + others) / 2):.3g}"})
        ends = ["over 30" if end == float("inf") else f"{end:.3g}" for end in (row.lowest, row.highest)]
        cells[row.way] = " to ".join(dict.fromkeys(ends))
    return table_of(rows, "beside")


def cost() -> str:
    """Return the table of the costs of a sweep by the number of experiments, from docs/fleet.csv."""
    costs = pd.read_csv("docs/fleet.csv")
    costs[["runs", "what"]] = costs["measured"].str.split(" experiments: ", expand=True)
    rows: dict[str, dict[str, str]] = {}
    for row in costs.astype({"runs": int}).sort_values("runs", kind="stable").itertuples():
        value = f"{row.median:,.0f}" if row.median >= 100 else f"{row.median:.3g}"
        rows.setdefault(f"{row.what} ({row.unit})", {})[f"{row.runs:,} experiments"] = value
    return table_of(rows, "")


def ingredients() -> str:
    """Return the table of the value of each ingredient of the recipe, from the runs in docs/ablation.csv."""
    scores = pd.read_csv("docs/ablation.csv").pivot_table(index="seed", columns="recipe", values="val_accuracy")
    rows = []
    for recipe, accuracy in scores.items():
        behind = scores["the recipe"] - accuracy
        ends = interval(behind, "low", "high")
        cells = [] if recipe == "the recipe" else [f"{behind.mean():.3%}", f"{ends['low']:.3%} to {ends['high']:.3%}"]
        rows.append((behind.mean(), [recipe, f"{accuracy.mean():.2%} ± {accuracy.std():.2%}", *cells]))
    return table([cells for _, cells in sorted(rows)], ["recipe", "validation accuracy", "behind", "95 % interval"])


def smoothing() -> str:
    """Return the table of runs with and without label smoothing, from docs/smoothing.csv."""
    groups = pd.read_csv("docs/smoothing.csv").dropna(subset="over").groupby("train.label_smoothing")
    rows = []
    for value, runs in groups:
        accuracy, error = (
            runs[runs["metric"] == f"evaluate.val.{name}"].iloc[0] for name in ("accuracy", "calibration_error")
        )
        cells = [f"{accuracy['mean']:.2%} ± {accuracy['std']:.2%}", f"{error['mean']:.2%} ± {error['std']:.2%}"]
        behind = f"{accuracy['behind']:.3%} ({accuracy['behind_low']:.3%} to {accuracy['behind_high']:.3%})"
        rows.append([value, *cells, behind if accuracy["shared"] else ""])
    return table(rows, ["label smoothing", "accuracy", "calibration error", "behind"])


def reading() -> str:
    """Return a sentence about the pictures of one digit in docs/pictures.csv."""
    table = ours("docs/pictures.csv").query("right > 0 and kind != 'validation images'")  # others have no digit
    if table.empty:
        return f"(How well has not been measured for {OF}.)"
    n, right, wrong = table[["n", "right", "wrong"]].sum()
    doubtful = table["wrong_doubtful"].sum()
    return (
        f"Of {n:,} drawn pictures of {len(table)} kinds, **{right / n:.1%}** are read right, and {doubtful} of the "
        f"{wrong} that are misread are flagged"
    )


def pictures() -> str:
    """Return the table of drawn pictures, from docs/pictures.csv."""
    headers = ["what the picture shows", "n", "right", "of these in doubt", "wrong", "of these in doubt", "message"]
    return table([[*map(str, row)] for row in ours("docs/pictures.csv").to_numpy()], headers)


def no_digit() -> str:
    """Return the table of measures that might tell what is no digit, from docs/no-digit.csv."""
    measured = ours("docs/no-digit.csv")
    return table([[name, *(f"{share:.0%}" for share in shares)] for name, *shares in measured.to_numpy()], [*measured])


def ours(path: str) -> pd.DataFrame:
    """Return those rows of a table that are of this model and data set, without the column that says so."""
    return pd.read_csv(path).query("of == @OF").drop(columns="of")


def host() -> str:
    """Return the output of a sweep in which a host died."""
    return console(("python -m tools.fleet run tcp://10.77.0.1:8786", "host"))


def table(rows: Iterable[Sequence[Any]], headers: Sequence[str]) -> str:
    """Return a table in Markdown."""
    return tabulate(rows, headers, "github", disable_numparse=True)


def table_of(rows: Mapping[str, Mapping[str, str]], header: str) -> str:
    """Return a table in Markdown from `rows`, which maps the name of a row to its cells by column."""
    cells = pd.DataFrame.from_dict(rows, orient="index").fillna("").rename_axis(header).reset_index()
    return table(cells.to_numpy(), list(cells))


def console(*commands: tuple[str, str]) -> str:
    """Return a block of commands, each with its output in the file of that name in docs/output.

    If these outputs, except that of `host`, are of another model or data set, the block says so instead.
    """
    if (of := (OUTPUT / "of.txt").read_text().strip()) != OF and commands[0][1] != "host":
        return f"```\nnot run for {OF} (docs/output has what the commands print for {of})\n```"
    lines = [f"$ {command}\n{(OUTPUT / f'{name}.txt').read_text().rstrip()}" for command, name in commands]
    return "```console\n" + "\n".join(line.rstrip() for line in "\n".join(lines).splitlines()) + "\n```"


def code(names: Iterable[str]) -> str:
    """Return `names` as a list, formatted as code."""
    return ", ".join(f"`{name}`" for name in names)


BLOCKS = [headline, metrics, results, recipes, dag, stages, reruns, experiment, show, sweep]
BLOCKS += [speed, busy, ingredients, smoothing, gpu, cost, host, reading, pictures, no_digit]


def filled(text: str) -> str:
    """Return the page `text` with its generated parts; raise ToolError for one that can't be generated."""
    blocks = {block.__name__: block for block in BLOCKS}

    def fill(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in blocks:
            raise ToolError(f"there is no block {name}; there are {', '.join(blocks)}")
        try:
            return f"<!-- {name} -->{match['line']}{blocks[name]()}{match['line']}<!-- end -->"
        except (OSError, ValueError, KeyError) as error:
            raise ToolError(f"the block {name} can't be written: {error}") from None

    return re.sub(r"<!-- (?P<name>\w+) -->(?P<line>\n?).*?<!-- end -->", fill, text, flags=re.DOTALL)


def main() -> None:
    """Write the pages, and print which have changed."""
    for path in [Path("README.md"), *sorted(Path("docs").glob("*.md"))]:
        text = path.read_text()
        if (new := filled(text)) != text:
            path.write_text(new)
            print(path)


if __name__ == "__main__":
    run(main)
