"""dvc.lock and metrics/ come from the code and params beside them; and the check that says so can fail."""

import re
from collections.abc import Callable

import pytest
from conftest import ROOT, Project
from lock import problems


def test_the_committed_lock_is_in_sync():
    assert problems(ROOT) == [], "run `make repro` and commit dvc.lock and metrics/"


def append(path: str) -> Callable[[Project], None]:
    def change(project: Project) -> None:
        file = project.root / path
        file.write_text(file.read_text() + "\n# changed\n")

    return change


def edit(path: str, old: str, new: str) -> Callable[[Project], None]:
    return lambda project: project.edit(path, old, new)


TAMPERINGS = {
    "a stage script edited": (
        append("stages/evaluate.py"),
        [r"evaluate: its dep stages/evaluate\.py is \w{32}, but \w{32} in dvc\.lock"],
    ),
    "a module edited": (
        append("lenet/folds.py"),
        [r"train: its dep lenet/folds\.py is", r"evaluate: its dep lenet/folds\.py is"],
    ),
    "a param edited": (
        edit("params.yaml", "lr: 0.1", "lr: 0.06"),
        [r"train: its params section train is not the one in dvc\.lock"],
    ),
    "a section removed": (
        edit("params.yaml", "evaluate:\n  calibration_bins: 15", ""),
        [rf"{stage}: its params section evaluate is missing in params\.yaml" for stage in ("evaluate", "plot")],
    ),
    "a metric edited": (
        append("metrics/evaluate.json"),
        [r"evaluate: its output metrics/evaluate\.json is \w{32}, but \w{32} in dvc\.lock"],
    ),
    "a metric that is a dep edited": (
        append("metrics/stats.json"),
        [r"stats: its output metrics/stats\.json is"],
    ),
    "a metric deleted": (
        lambda project: (project.root / "metrics/train.json").unlink(),
        [r"train: its output metrics/train\.json is missing"],
    ),
    "a stage added": (
        edit("dvc.yaml", "  stats:\n", "  extra:\n    cmd: 'true'\n  stats:\n"),
        [r"extra: is in dvc\.yaml, but not in dvc\.lock"],
    ),
    "a stage removed": (
        edit("dvc.lock", "  plot:\n", "  draw:\n"),
        [r"plot: is in dvc\.yaml", r"draw: is in dvc\.lock"],
    ),
    "a dep removed": (
        edit("dvc.yaml", "      - lenet/augment.py\n", ""),
        [r"train: its dep lenet/augment\.py is in dvc\.lock, but not in dvc\.yaml"],
    ),
    "an output added": (
        edit(
            "dvc.yaml",
            "    outs:\n      - models/predictions.csv\n",
            "    outs:\n      - a\n      - models/predictions.csv\n",
        ),
        [r"evaluate: its output a is in dvc\.yaml, but not in dvc\.lock"],
    ),
    "a command changed": (
        edit("dvc.yaml", "stages.plot", "stages.draw"),
        [r"plot: its cmd is 'python -m stages\.draw' in dvc\.yaml"],
    ),
    "the environment edited": (
        append("requirements.lock"),
        [rf"{stage}: its dep requirements\.lock is" for stage in ("stats", "train", "evaluate", "plot")],
    ),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_is_noticed(name, project: Project):
    tamper, expected = TAMPERINGS[name]
    assert problems(project.root) == []
    tamper(project)
    found = problems(project.root)
    assert len(found) == len(expected)
    for line, pattern in zip(found, expected, strict=True):
        assert re.match(pattern, line)


@pytest.mark.parametrize("stage", ["download", "stats", "train", "evaluate", "plot"])
def test_every_edited_hash_is_noticed(stage, project: Project):
    lock = (project.root / "dvc.lock").read_text()
    start = lock.index(f"\n  {stage}:")
    end = re.compile(r"\n  \w|\Z").search(lock, start + 1).start()
    hashes = list(re.finditer(r"(?<=md5: )\w+", lock[start:end]))
    assert len(hashes) >= 2
    for found in hashes:
        at = start + found.start()
        (project.root / "dvc.lock").write_text(f"{lock[:at]}{'0' * 32}{lock[at + 32 :]}")
        assert problems(project.root)
