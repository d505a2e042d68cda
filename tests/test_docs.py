"""README and docs agree with the code and the results, and the commands in them work."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT, Project

from tools.dev import docs
from tools.lock import problems
from tools.recipes import RECIPES

PAGES = {path.name: path.read_text() for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]}
# Results of others, and what is no result.
CITED = {"95.22 %", "99.05 %", "99.2 %", "99.46 %", "99.6 %", "95 %", "99 %", "1 %"}


def prose(text: str) -> str:
    """Return a page without the parts that tools.dev.docs writes."""
    return re.sub(r"<!-- \w+ -->.*?<!-- end -->", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("name", PAGES)
def test_the_generated_parts_are_up_to_date(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert docs.filled(PAGES[name]) == PAGES[name], "run `make docs`"


def test_a_forged_number_is_noticed(monkeypatch):
    monkeypatch.chdir(ROOT)
    forged = re.sub(r"\*\*\d\d\.\d\d%\*\*", "**99.95%**", PAGES["README.md"])
    assert forged != PAGES["README.md"]
    assert docs.filled(forged) == PAGES["README.md"]


def test_results_of_another_model_are_not_shown(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(docs, "OF", "An MLP on MNIST")
    assert docs.show() == docs.experiment() == docs.sweep()
    assert docs.show().startswith("```\nnot run for An MLP on MNIST ")
    assert docs.results().count("not measured for An MLP on MNIST") == len(RECIPES)
    assert "%" not in docs.results()


@pytest.mark.parametrize("name", PAGES)
def test_no_result_is_typed_by_hand(name):
    text = re.sub(r"```.*?```|`[^`]*`", "", prose(PAGES[name]), flags=re.DOTALL)
    assert set(re.findall(r"\d[\d.,]*\s?(?:%|percent)|\b0\.9\d+|± ?\d", text)) <= CITED


def printed(name: str) -> list[list[str]]:
    """Return the cells of what a command has printed into docs/output, line by line, without frames and branches."""
    lines = re.sub("[─├└│]", " ", (ROOT / f"docs/output/{name}.txt").read_text()).splitlines()
    return [re.split(r"\s{2,}", line.strip()) for line in lines if line.strip(" -")]


def test_what_commands_printed_agrees():
    """The outputs in docs/output belong to the committed run and to each other: to forge one, all have to be forged."""
    if (ROOT / "docs/output/of.txt").read_text().strip() != docs.OF:
        pytest.skip(f"docs/output has not been made for {docs.OF}")
    now = {}
    for path in ("metrics/train.json", "metrics/evaluate.json"):
        content = pd.json_normalize(json.loads((ROOT / path).read_text())).iloc[0]
        now |= {(path, name): round(value, 5) for name, value in content.drop("numerics").items()}
    default = [now["metrics/evaluate.json", f"{part}.accuracy"] for part in ("val", "test")]

    _, *experiment = printed("experiment")  # what has not changed is not there
    assert {(path, metric): float(head) for path, metric, head, *_ in experiment}.items() <= now.items()
    assert all(
        float(new) - float(old) == pytest.approx(float(change), abs=1.1e-5) for _, _, old, new, change in experiment
    )
    slower = now | {(path, metric): float(new) for path, metric, _, new, _ in experiment}

    header, *rows = printed("show")
    for row, (run, lr) in zip(rows, ((slower, 0.02), (now, 0.1), (slower, 0.02)), strict=True):
        cells = dict(zip(header[2:], map(float, row[2:]), strict=True))  # after the name and the time
        assert cells.pop("train.lr") == lr
        assert len(cells) >= 6
        for name, value in cells.items():  # of the metrics in evaluate.json, the name has two parts
            assert value == pytest.approx(run[f"metrics/{'evaluate' if '.' in name else 'train'}.json", name], abs=6e-6)

    header, main, *rows = printed("sweep")
    assert [float(cell) for cell in main[1:3]] == default
    runs = pd.DataFrame(rows, columns=header).astype({"val.accuracy": float})
    assert len(runs) == 9
    header, _, *summary = printed("compare")
    for lr, group in runs.groupby("train.lr"):
        (row,) = (dict(zip(header, row, strict=True)) for row in summary if row[:3] == ["1", "2", lr])
        assert float(row["mean"]) == pytest.approx(group["val.accuracy"].mean(), abs=2e-5)
        assert float(row["std"]) == pytest.approx(group["val.accuracy"].std(), abs=2e-5)


def test_an_ingredient_is_worth_what_the_same_seeds_lose_without_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/ablation.csv").write_text(
        "recipe,seed,val_accuracy\n"
        "the recipe,0,0.91\nthe recipe,1,0.92\nthe recipe,2,0.99\n"
        "without shift,0,0.90\nwithout shift,1,0.91\n"
    )
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in docs.ingredients().splitlines()[2:]]
    assert rows == [
        ["the recipe", "94.00% ± 4.36%", "", ""],
        ["without shift", "90.50% ± 0.71%", "1.000%", "1.000% to 1.000%"],
    ]


def test_readme_is_read_in_one_sitting():
    assert len(PAGES["README.md"].split()) <= 1500


@pytest.mark.parametrize("name", PAGES)
def test_the_links_lead_somewhere(name):
    folder = ROOT if (ROOT / name).exists() else ROOT / "docs"
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[name]):
        path, _, anchor = target.partition("#")
        if "://" not in target:
            assert not path or Path(folder, path.replace("\\", "")).exists(), target
            headings = re.findall(r"^#+ (.*)$", PAGES[Path(path or name).name], re.MULTILINE) if anchor else []
            assert not anchor or anchor in [re.sub(r"[^\w ]", "", text).lower().replace(" ", "-") for text in headings]


def commands(name: str, section: str = "") -> list[str]:
    """Return the commands that the page tells the reader to type, from top to bottom."""
    text = PAGES[name].split(section)[1].split("\n## ")[0] if section else PAGES[name]
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    return [command for block in blocks for command in re.findall(r"^\$ (.*)$", block, re.MULTILINE)]


@pytest.fixture
def clone(project: Project) -> Project:
    """A fresh clone, as a reader has it."""
    clone = project.clone("lenet")
    for name in ("user.name", "user.email"):
        clone.run("git", "config", name, "test@example.com")
    return clone


@pytest.mark.slow
def test_readme_from_top_to_bottom(clone: Project):
    typed = commands("README.md")
    assert len(typed) >= 9
    here = {  # what installs packages or is there already
        "git clone <this repository> lenet && cd lenet": "true",
        "make repro": "dvc repro && dvc metrics diff --all --targets metrics/evaluate.json",
        "source .venv/bin/activate": "true",
        "make verify": "python -m tools.verify",
    }
    assert set(here) <= set(typed)
    outputs = [clone.run("bash", "-euo", "pipefail", "-c", here.get(command, command)) for command in typed]
    assert clone.run("git", "status", "--porcelain") == ""
    assert clone.repro() == []
    assert "slower" not in clone.run("dvc", "exp", "list")
    (shown,) = (output for command, output in zip(typed, outputs, strict=True) if command.startswith("dvc exp show"))
    assert "[slower]" in shown
    assert outputs[-1].endswith("(identical to the bit)\n")


@pytest.mark.slow
def test_from_question_to_merged_result(clone: Project):
    clone.repro()
    clone.env["MNIST_MIRROR"] = "/nonexistent"  # a queued experiment never downloads
    typed = commands("experiments.md", "## From question to merged result")
    assert len(typed) >= 5
    outputs = [clone.run("bash", "-euo", "pipefail", "-c", command) for command in typed]
    assert any("evaluate.val.accuracy" in output for output in outputs)
    assert "lr: 0.05" in clone.run("git", "show", "HEAD:params.yaml")
    assert clone.run("git", "status", "--porcelain") == ""
    assert clone.repro() == []
    assert problems(clone.root) == []
    assert "lr-1" not in clone.run("dvc", "exp", "list")
