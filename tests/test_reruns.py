"""What re-runs after which change: README.md's tables, row by row, against real runs of DVC on quick stand-ins."""

import re

import pytest
from conftest import ROOT, STAGES, Project
from dvc.repo import Repo
from ruamel.yaml import YAML

FILES = sorted(str(path.relative_to(ROOT)) for folder in ("lenet", "stages") for path in (ROOT / folder).glob("*.py"))
PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text())


def keys(section: dict, prefix: str = "") -> list[str]:
    return [
        key
        for name, value in section.items()
        for key in (keys(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name])
    ]


def rows() -> list[tuple[list[str], list[str]]]:
    """Return of each row of README.md's tables the changes and the stages that re-run."""
    lines = [line.split("|")[1:-1] for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("|")]
    return [
        (re.findall("`([^`]+)`", changes), [stage for stage, cell in zip(STAGES, cells, strict=True) if cell.strip()])
        for changes, *cells in lines
        if len(cells) == len(STAGES) and {cell.strip() for cell in cells} <= {"runs", ""}
    ]


# `make test` tries the first change of each row, .ci/run the others, too.
CHANGES = [
    pytest.param(change, stages, marks=[pytest.mark.slow] if place else [], id=change)
    for changes, stages in rows()
    for place, change in enumerate(changes)
]


def apply(change: str, project: Project) -> None:
    path = project.root / change
    if change in keys(PARAMS):
        yaml = YAML()
        params = yaml.load(project.root / "params.yaml")
        *sections, key = change.split(".")
        section = params
        for name in sections:
            section = section[name]
        old = section[key]
        section[key] = not old if isinstance(old, bool) else f"not {old}" if isinstance(old, str) else old + 1
        yaml.dump(params, project.root / "params.yaml")
    elif change.startswith("metrics/"):
        path.unlink()
    elif change.startswith("data/"):
        for file in path.iterdir():
            file.unlink()
            file.write_text("damaged")
    else:
        path.write_text(path.read_text() + "# a comment\n")


def test_the_tables_are_complete():
    outputs = [f"metrics/{path.name}" for path in (ROOT / "metrics").iterdir()]
    listed = [change for changes, _ in rows() for change in changes]
    assert sorted(listed) == sorted([*FILES, "requirements.lock", *keys(PARAMS), "data/mnist", *outputs])


@pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")
@pytest.mark.parametrize(("change", "stages"), CHANGES)
def test_what_reruns(change, stages, standin: Project, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(standin.root)
    monkeypatch.setenv("PATH", standin.env["PATH"])
    monkeypatch.setenv("RAN", str(standin.root.parent / "ran"))
    apply(change, standin)
    with Repo() as repo:
        repo.reproduce()
        log = standin.root.parent / "ran"
        assert (log.read_text().split() if log.exists() else []) == stages
        assert repo.status() == {}  # and every output is there
