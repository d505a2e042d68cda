"""Write the parts of README.md and docs/ that repeat what other files say: `python -m tools.docs`.

Each stands between `<!-- NAME -->` and `<!-- end -->`, within a line or in lines of its own, and is made of dvc.yaml,
metrics/ and the tables in docs/: no number is copied by hand. With `--check` nothing is written, and the exit status
is 1 if anything would be.
"""

import argparse
import json
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from lenet.errors import PipelineError, run
from tools import pipeline
from tools.compare import interval
from tools.recipes import RECIPES, matching

OUTPUT = Path("docs/output")  # what commands have printed

# Columns of `dvc exp show` that would make it wider than a page, as a regular expression.
UNSHOWN = ".*(loss|error|arith)|accuracy|models|metrics"


def headline() -> str:
    """Return a sentence on the committed run."""
    test = json.loads(Path("metrics/evaluate.json").read_text())["test"]
    images = json.loads(Path("metrics/download.json").read_text())["test"]["images"]
    return (
        f"The committed run reads **{test['accuracy']:.2%}** of the {images:,} test digits right. "
        f"It misreads {round((1 - test['accuracy']) * images)}, the most confident first:"
    )


def metrics() -> str:
    """Return of what `dvc metrics diff --all` prints the scores, where nothing has changed."""
    rows = []
    for name, value in pd.json_normalize(json.loads(Path("metrics/evaluate.json").read_text())).iloc[0].items():
        if isinstance(value, float):
            rows.append(["metrics/evaluate.json", name, round(value, 5), round(value, 5), 0.0])
    table = tabulate(sorted(rows), ["Path", "Metric", "HEAD", "workspace", "Change"], "plain", disable_numparse=True)
    return f"```\n{table}\n```"


def results() -> str:
    """Return the table of recipes, from docs/results.csv."""
    table, params = pd.read_csv("docs/results.csv"), pipeline.load(Path("params.yaml"))
    rows = []
    for recipe, changes in RECIPES.items():
        found = matching(table, params, changes)
        if found.empty:
            raise PipelineError(f"docs/results.csv has no row for the recipe {recipe}: docs/experiments.md makes it")
        for over, runs in found.groupby("over", sort=False):
            kind = "seeds" if over.startswith("train.seed") else "folds"
            scores = {row.metric: f"{row.mean:.2%} ± {row.std:.2%}" for row in runs.itertuples()}
            cells = [scores.get(f"evaluate.{part}.accuracy", "") for part in ("val", "test")]
            rows.append([f"{recipe}, {runs['n'].iloc[0]} {kind}", *cells])
    return tabulate(rows, ["recipe", "validation accuracy", "test accuracy"], "github", disable_numparse=True)


def recipes() -> str:
    """Return the commands that queue the runs of docs/results.csv, and write it."""
    commands = []
    for changes in RECIPES.values():
        words = "".join(f" -S {name}={str(value).lower()}" for name, value in changes.items())
        commands.append(f"$ dvc exp run --queue -S compute.threads=1 -S 'train.seed=range(0,10)'{words} evaluate")
        if not changes:
            commands.append("$ dvc exp run --queue -S compute.threads=1 -S 'split.fold=range(1,5)' evaluate")
    named = "{train,evaluate.val,evaluate.test}.{loss,accuracy} evaluate.{val,test}.calibration_error"
    commands += ["$ python -m tools.fleet run", f"$ python -m tools.compare --format csv {named} > docs/results.csv"]
    # A line breaks between two changes, not within one.
    whole = [command.replace(" -S ", " -S~") for command in commands]
    wrapped = [" \\\n    ".join(textwrap.wrap(command, 110, break_on_hyphens=False)) for command in whole]
    return "```console\n" + "\n".join(wrapped).replace("-S~", "-S ") + "\n```"


def dag() -> str:
    """Return the graph of the stages: an arrow from each to those that read what it writes."""
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
        if len(tracked) > 1:
            tracked = [f"{Path(tracked[0]).parent}/*{Path(tracked[0]).suffix}"]
        rows.append([f"[{name}](../stages/{name}.py)", stage.desc, *map(code, (data, stage.params, cached, tracked))])
    return tabulate(rows, ["stage", "", "reads", "params", "writes (DVC's cache)", "writes (Git)"], "github")


def reruns() -> str:
    """Return the table of what re-runs after which change, from dvc.yaml."""
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
    return tabulate(rows, ["change", *pipe], "github")


def experiment() -> str:
    """Return what README's first experiment has changed."""
    return console([("dvc metrics diff", printed("experiment"))])


def show() -> str:
    """Return how DVC lists README's first experiment."""
    return console([(f"dvc exp show --only-changed --drop '{UNSHOWN}|Created'", printed("show"))])


def sweep() -> str:
    """Return what is shown of the runs in docs/experiments.md."""
    shown = f"dvc exp show --only-changed --hide-workspace --drop '{UNSHOWN}|Created|State|Executor'"
    return console([(shown, printed("sweep")), ("python -m tools.compare", printed("compare"))])


def speed() -> str:
    """Return the table of what tools.bench has measured, from docs/speed.csv."""
    rows = []
    for row in pd.read_csv("docs/speed.csv").itertuples():
        spread = "" if row.n == 1 else f"{row.lowest:.3g} to {row.highest:.3g}"
        unit = "" if pd.isna(row.unit) else row.unit
        rows.append([row.measured, f"{row.median:.3g}", spread, unit])
    return tabulate(rows, ["measured", "median", "range", "unit"], "github", disable_numparse=True)


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
    table = pd.DataFrame.from_dict(rows, orient="index")
    return tabulate(table, ["beside", *table.columns], "github", disable_numparse=True)


def cost() -> str:
    """Return the table of what a sweep costs, by the number of its experiments, from docs/fleet.csv."""
    costs = pd.read_csv("docs/fleet.csv")
    costs[["runs", "what"]] = costs["measured"].str.split(" experiments: ", expand=True)
    rows: dict[str, dict[str, str]] = {}
    for row in costs.astype({"runs": int}).sort_values("runs", kind="stable").itertuples():
        value = f"{row.median:,.0f}" if row.median >= 100 else f"{row.median:.3g}"
        rows.setdefault(f"{row.what} ({row.unit})", {})[f"{row.runs:,} experiments"] = value
    table = pd.DataFrame.from_dict(rows, orient="index").fillna("")
    return tabulate(table, ["", *table.columns], "github", disable_numparse=True)


def ingredients() -> str:
    """Return the table of what each ingredient of the recipe is worth, from the runs in docs/ingredients.csv."""
    runs = pd.read_csv("docs/ingredients.csv").query("typ != 'baseline'").set_index("train.seed")
    params = runs.filter(like="train.").rename(columns=lambda key: key.split(".")[-1])
    differs = params != params.mode().iloc[0]  # most runs have most of the recipe
    without = differs.apply(lambda run: code(params.columns[run]), axis=1)
    whole = runs["val.accuracy"][without == ""]
    rows = []
    for ingredients, accuracy in runs["val.accuracy"].groupby(without):
        worth = (whole - accuracy).dropna()
        ends = interval(worth, "low", "high")
        cells = [len(accuracy), f"{accuracy.mean():.2%} ± {accuracy.std():.2%}"]
        if ingredients:
            cells += [f"{worth.mean():.3%}", f"{ends['low']:.3%} to {ends['high']:.3%}"]
        rows.append((worth.mean(), [ingredients or "nothing", *cells]))
    headers = ["without", "seeds", "validation accuracy", "worth", "95 % interval"]
    return tabulate([cells for _, cells in sorted(rows)], headers, "github", disable_numparse=True)


def smoothing() -> str:
    """Return the table of runs with and without label smoothing, from docs/smoothing.csv."""
    table = pd.read_csv("docs/smoothing.csv")
    table = table[table["over"].str.startswith("train.seed").fillna(False)]
    rows = []
    for value, runs in table.groupby("train.label_smoothing"):
        accuracy, error = (
            runs[runs["metric"] == f"evaluate.val.{name}"].iloc[0] for name in ("accuracy", "calibration_error")
        )
        cells = [f"{accuracy['mean']:.2%} ± {accuracy['std']:.2%}", f"{error['mean']:.2%} ± {error['std']:.2%}"]
        behind = f"{accuracy['behind']:.3%} ({accuracy['behind_low']:.3%} to {accuracy['behind_high']:.3%})"
        rows.append([value, *cells, behind if accuracy["shared"] else ""])
    headers = ["label smoothing", "accuracy", "calibration error", "behind"]
    return tabulate(rows, headers, "github", disable_numparse=True)


def gpu() -> str:
    """Return what `make gpu` has printed."""
    return console([("make gpu", printed("gpu"))])


def host() -> str:
    """Return what a sweep has printed in which a host died."""
    return console([("python -m tools.fleet run tcp://10.77.0.1:8786", printed("host"))])


def printed(name: str) -> str:
    """Return what a command has printed into the file `name` in docs/output."""
    return (OUTPUT / f"{name}.txt").read_text().rstrip()


def console(commands: Iterable[tuple[str, str]]) -> str:
    """Return a block of commands, each with what it prints."""
    lines = [f"$ {command}\n{output}" for command, output in commands]
    return "```console\n" + "\n".join(line.rstrip() for line in "\n".join(lines).splitlines()) + "\n```"


def code(names: Iterable[str]) -> str:
    """Return `names` as a list in the type of code."""
    return ", ".join(f"`{name}`" for name in names)


BLOCKS = {
    block.__name__: block
    for block in (
        headline,
        metrics,
        results,
        recipes,
        dag,
        stages,
        reruns,
        experiment,
        show,
        sweep,
        speed,
        busy,
        ingredients,
        smoothing,
        gpu,
        cost,
        host,
    )
}


def filled(text: str) -> str:
    """Return the page `text` with its blocks as they should be; raise PipelineError for one that can't be written."""

    def fill(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in BLOCKS:
            raise PipelineError(f"there is no block {name}, but {', '.join(BLOCKS)}")
        try:
            return f"<!-- {name} -->{match['line']}{BLOCKS[name]()}{match['line']}<!-- end -->"
        except (OSError, ValueError, KeyError) as error:
            raise PipelineError(f"the block {name} can't be written: {error}") from None

    return re.sub(r"<!-- (?P<name>\w+) -->(?P<line>\n?).*?<!-- end -->", fill, text, flags=re.DOTALL)


def main() -> int:
    """Write the pages, or with `--check` only name those that would change; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.docs", description="Write the parts of README.md and docs/.")
    parser.add_argument("--check", action="store_true", help="only say which pages would change; 1 if any would")
    options, changed = parser.parse_args(), False
    for path in [Path("README.md"), *sorted(Path("docs").glob("*.md"))]:
        text = path.read_text()
        new = filled(text)
        if new != text:
            changed = True
            if not options.check:
                path.write_text(new)
            print(f"{path} is not what python -m tools.docs writes" if options.check else path)
    return int(options.check and changed)


if __name__ == "__main__":
    run(main)
