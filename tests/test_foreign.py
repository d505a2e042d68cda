"""The tools lock, compare and verify in another project, which knows nothing of this one."""

import io
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from conftest import ROOT, Project
from dvc.fs import LocalFileSystem

from tools import record, resolved

# What docs/make-it-yours.md tells people to copy.
(NAMES,) = re.findall(r"cp lenet/tools/\{(.*)\}\.py", (ROOT / "docs/make-it-yours.md").read_text())
TOOLS = NAMES.split(",")

PREPARE = """
import sys
from pathlib import Path

count, target = int(sys.argv[1]), Path(sys.argv[2])
rows = [row for row in Path("raw.csv").read_text().split() if int(row) < count]
target.parent.mkdir(exist_ok=True)
target.write_text("\\n".join(rows) + "\\n")
"""
FIT = """
import json
from pathlib import Path

import yaml

params = yaml.safe_load(Path("../params.yaml").read_text())["model"]
rows = sum(len(path.read_text().split()) for path in Path("../prepared").glob("*.csv"))
Path("weights.txt").write_text(f"{rows * params['rate']}\\n")
Path("scores.json").write_text(json.dumps({"error": 1 / (rows * params["rate"] + params["random_state"])}) + "\\n")
"""
PLOT = """
from pathlib import Path

Path("plots").mkdir(exist_ok=True)
Path("plots/weights.svg").write_text(f"<svg><!-- {Path('model/weights.txt').read_text()} --></svg>\\n")
"""
FILES = {
    ".gitignore": "__pycache__/\n",
    "scripts/prepare.py": PREPARE,
    "scripts/fit.py": FIT,
    "scripts/plot.py": PLOT,
    "params.yaml": "sets:\n  small: 3\n  large: 7\nmodel:\n  rate: 0.5\n  random_state: 1\n",
    "raw.csv": "".join(f"{number}\n" for number in range(10)),
    "dvc.yaml": """
stages:
  prepare:
    foreach: ${sets}
    do:
      cmd: python scripts/prepare.py ${item} prepared/${key}.csv
      deps: [raw.csv, scripts/prepare.py]
      params: ["sets.${key}"]
      outs: ["prepared/${key}.csv"]
  fit:
    wdir: model
    cmd: python ../scripts/fit.py
    deps: [../prepared/small.csv, ../prepared/large.csv, ../scripts/fit.py]
    params:
      - ../params.yaml: [model.rate, model.random_state]
    outs: [weights.txt]
    metrics:
      - scores.json: {cache: false}
""",
    "drawing/dvc.yaml": """
stages:
  draw:
    wdir: ..
    cmd: python scripts/plot.py
    deps: [scripts/plot.py, model/weights.txt]
    outs: [plots]
""",
}


@pytest.fixture(scope="session")
def finished_foreign(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of plain scripts with a template, a loop, a working folder and two dvc.yaml; not to be changed."""
    root = tmp_path_factory.mktemp("foreign") / "project"
    for path, text in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (root / "model").mkdir()
    (root / "model/.gitkeep").touch()
    (root / "tools").mkdir()
    for name in TOOLS:
        shutil.copy(ROOT / f"tools/{name}.py", root / "tools")
    project = Project(root, root)
    project.run("git", "init", "--quiet", "--initial-branch=main")
    project.run("git", "config", "user.name", "Test")
    project.run("git", "config", "user.email", "test@example.com")
    project.run("dvc", "init", "--quiet")
    project.run("dvc", "add", "--quiet", "raw.csv")
    project.run("dvc", "repro", "--quiet", "--all-pipelines")
    project.commit("The pipeline and its results")
    return project


@pytest.fixture
def foreign(finished_foreign: Project, tmp_path: Path) -> Project:
    """A copy of the foreign project, to be changed."""
    shutil.copytree(finished_foreign.root, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project", tmp_path)


CHANGES = {  # in which file, what, to what, and what is said first
    "params.yaml": (
        "rate: 0.5",
        "rate: 0.6",
        "fit: its param model.rate in params.yaml differs from the one in dvc.lock",
    ),
    "scripts/prepare.py": ("sys.argv[1]", "sys.argv[-2]", "prepare@small: its dep scripts/prepare.py is "),
    "dvc.yaml": ("py ${item}", "py  ${item}", "prepare@small: its cmd is 'python scripts/prepare.py  3 "),
    "raw.csv.dvc": ("md5: ", "md5: a", "prepare@small: its dep raw.csv is "),
    "model/scores.json": ("0.", "0.9", "fit: its output model/scores.json is "),
    "drawing/dvc.lock": ("cmd: python", "cmd: python3", "drawing/dvc.yaml:draw: its cmd is 'python scripts/plot.py'"),
}


@pytest.mark.parametrize("path", CHANGES)
def test_what_is_out_of_sync_is_named(path, foreign: Project):
    assert foreign.run("python", "-m", "tools.lock") == "dvc.lock is in sync\n"
    old, new, expected = CHANGES[path]
    foreign.edit(path, old, new)
    done = foreign.try_run("python", "-m", "tools.lock")
    assert done.returncode == 1, done.stdout
    assert done.stdout.startswith(expected)


def test_a_clean_clone_is_in_sync(foreign: Project):
    assert foreign.clone("clone").run("python", "-m", "tools.lock") == "dvc.lock is in sync\n"


def test_hashes_of_dvc_2_count_line_endings_as_lf(tmp_path: Path):
    (tmp_path / "text").write_bytes(b"one\r\ntwo\r\n")
    output = SimpleNamespace(fs=LocalFileSystem(), fs_path=str(tmp_path / "text"), exists=True)
    assert resolved.md5(output, legacy=True) == record.md5(b"one\ntwo\n")
    assert resolved.md5(output) == record.md5(b"one\r\ntwo\r\n")


@pytest.mark.slow
def test_its_record_is_proven_and_a_forged_metric_named(foreign: Project):
    assert foreign.run("python", "-m", "tools.verify").endswith("(identical to the bit)\n")
    scores = foreign.root / "model/scores.json"
    scores.write_text(json.dumps({"error": 0.001}) + "\n")
    foreign.run("dvc", "commit", "--force", "--quiet", "fit")
    foreign.commit("Forge a metric")
    assert foreign.run("python", "-m", "tools.lock") == "dvc.lock is in sync\n"
    done = foreign.try_run("python", "-m", "tools.verify")
    assert done.returncode == 1, done.stdout
    assert done.stdout.endswith("not with the record\n  fit: model/scores.json\n")


@pytest.mark.slow
def test_its_experiments_are_compared(foreign: Project):
    for rate in (0.5, 0.7):
        for seed in (2, 3):
            changes = ["-S", f"model.rate={rate}", "-S", f"model.random_state={seed}"]
            foreign.run("dvc", "exp", "run", "--quiet", *changes, "fit")
    foreign.run("git", "checkout", "--quiet", ".")
    table = foreign.run(
        *("python", "-m", "tools.compare", "scores.error", "--seed", "model.random_state", "--format", "csv")
    )
    rows = pd.read_csv(io.StringIO(table))
    assert rows[["model.rate", "over", "n"]].to_numpy().tolist() == [
        [0.7, "model.random_state", 2],
        [0.5, "model.random_state", 3],
    ]
    assert rows["mean"][1] == pytest.approx((1 / 6 + 1 / 7 + 1 / 8) / 3)
