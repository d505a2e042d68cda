"""`dvc plots` draws, in a real browser, without the network."""

import hashlib
import re
from collections import Counter

import browser
import pandas as pd
import pytest
from browser import needs_browser
from conftest import ROOT, Project

from tools.dev import plots_page
from tools.errors import ToolError

PAGE = (ROOT / plots_page.PAGE).read_text()
SCRIPT = re.compile("<script[^>]*>(.*?)</script>", re.DOTALL)
CELL = r'aria-label="predicted: (\d); actual: (\d); count: (\d+)"'


def test_the_page_is_what_the_tool_makes():
    *scripts, _ = SCRIPT.findall(PAGE)
    assert [hashlib.sha256(script.encode()).hexdigest() for script in scripts] == list(plots_page.SCRIPTS.values())
    assert plots_page.page(scripts, (ROOT / plots_page.LICENSES).read_text()) == PAGE


def test_another_script_is_refused(monkeypatch):
    monkeypatch.setattr(plots_page, "npm_file", lambda *_, **__: b"another")
    with pytest.raises(ToolError, match=r"the script of vega@\S+ has the SHA-256 \w{64} instead of \w{64}"):
        plots_page.fetch(next(iter(plots_page.SCRIPTS)))


def check_page(project: Project, tables: list[pd.DataFrame]) -> None:
    """Check that the page which DVC has written is drawn, with the confusions in `tables`, one for each revision."""
    page = project.root / "dvc_plots/index.html"
    dom = browser.dump(page, project.root.parent / "profile")
    drawn = re.findall(r'<div id="((?!metrics_)\w+|metrics_\w+_csv)"|<svg [^>]*class="(marks)"', dom)
    plots = ["loss", "accuracy", "metrics_history_csv", "metrics_confusion_csv"]
    assert [name or svg for name, svg in drawn] == [word for plot in plots for word in (plot, "marks")]

    rows = pd.concat(tables)[["predicted", "actual", "count"]].astype(str)
    cells = Counter(rows.itertuples(index=False, name=None))
    assert Counter(re.findall(f"<text {CELL}", dom)) == cells
    # Only the errors are coloured.
    assert Counter(re.findall(f"<path {CELL}", dom)) == Counter(
        {cell: n for cell, n in cells.items() if cell[0] != cell[1]}
    )

    resources = re.findall(r'\s(?:src|href)="([^"]*)"', SCRIPT.sub("", dom))
    assert any(name.endswith("metrics_misread.png") for name in resources)
    assert [name for name in resources if name != "#" and not (page.parent / name).is_file()] == []


@pytest.mark.slow
@needs_browser
def test_show_and_diff(project: Project):
    path = project.root / "metrics/confusion.csv"
    committed = pd.read_csv(path)
    another = committed.assign(count=committed["count"] + 1)
    another.to_csv(path, index=False)
    project.run("dvc", "plots", "show")
    check_page(project, [another])
    project.run("dvc", "plots", "diff")
    check_page(project, [committed, another])


@pytest.mark.slow
@needs_browser
def test_a_queued_experiment_and_a_clean_clone(project: Project):
    project.run("dvc", "exp", "run", "--queue", "--name", "shorter", "-S", "train.epochs=1")
    project.run("dvc", "exp", "run", "--run-all")
    tables = []
    for rev in ("HEAD", "shorter"):
        project.run("dvc", "get", ".", "metrics/confusion.csv", "--rev", rev, "--out", f"{rev}.csv")
        tables.append(pd.read_csv(project.root / f"{rev}.csv"))
    assert not tables[0].equals(tables[1])
    project.run("dvc", "plots", "diff", "HEAD", "shorter", "workspace")
    check_page(project, [*tables, tables[0]])

    project.run("dvc", "exp", "branch", "shorter", "shorter")
    project.run("git", "clone", "--quiet", "--branch", "shorter", ".", "../clone")
    clone = Project(project.root.parent / "clone", project.env["MNIST_MIRROR"])
    clone.run("dvc", "plots", "diff", "HEAD~1", "HEAD")
    check_page(clone, tables)
