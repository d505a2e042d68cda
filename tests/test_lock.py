"""dvc.lock and metrics/ come from the code and params beside them; and the check that says so can fail."""

import json
import re
from collections.abc import Callable

import pytest
from conftest import LR, PIPELINE, ROOT, STAGES, Project

from stages.launch import yaml12
from stages.launch.pipeline import affected
from tools.lock import _differing_params, problems
from tools.resolved import Stage


def test_the_committed_lock_is_in_sync():
    assert problems(ROOT) == [], "run `make repro` and commit dvc.lock and metrics/"


def test_params_are_compared_both_ways():
    stage = Stage("", {}, {"params.yaml": {"new": 1, "same": 1, "other": 1}}, {}, [])
    assert _differing_params(stage, {"params": {"params.yaml": {"gone": 1, "same": 1, "other": 2}}}) == [
        "its param new is in dvc.yaml, but not in dvc.lock",
        "its param gone is in dvc.lock, but not in dvc.yaml",
        "its param other in params.yaml differs from the one in dvc.lock",
    ]


def append(path: str) -> Callable[[Project], None]:
    def change(project: Project) -> None:
        file = project.root / path
        file.write_text(file.read_text() + "\n# changed\n")

    return change


def edit(path: str, old: str, new: str) -> Callable[[Project], None]:
    return lambda project: project.edit(path, old, new)


LAST = "plot"  # no stage reads what it writes


def forget(project: Project) -> None:
    """Remove a stage from dvc.yaml and dvc.lock: its outputs stay as they are, whoever painted them."""
    for name in ("dvc.yaml", "dvc.lock"):
        file = project.root / name
        content = yaml12.load(file.read_bytes(), name)
        del content["stages"][LAST]
        file.write_text(json.dumps(content))  # JSON is YAML


def frozen(switch: str) -> Callable[[Project], None]:
    return edit("dvc.yaml", "  stats:\n", f"  stats:\n    {switch}: true\n")


# What is changed, and how each line begins that says so.
TAMPERINGS = {
    "a stage script edited": (append("stages/evaluate.py"), ["evaluate: its dep stages/evaluate.py is "]),
    "a module edited": (
        append("lenet/data/folds.py"),
        [f"{stage}: its dep lenet/data/folds.py is " for stage in affected(PIPELINE, "lenet/data/folds.py")],
    ),
    "the environment edited": (
        append("requirements.lock"),
        [f"{stage}: its dep requirements.lock is " for stage in affected(PIPELINE, "requirements.lock")],
    ),
    "a param edited": (
        edit("params.yaml", LR, "\n  lr: 0.06 "),
        [f"{stage}: its param train in params.yaml differs from the one in dvc.lock" for stage in ("train", "report")],
    ),
    "a section removed": (
        edit("params.yaml", "evaluate:\n  calibration_bins: 15", ""),
        [
            f"{stage}: its param evaluate is missing in params.yaml"
            for stage, entry in PIPELINE.items()
            if "evaluate" in entry.params
        ],
    ),
    "a metric edited": (append("metrics/evaluate.json"), ["evaluate: its output metrics/evaluate.json is "]),
    "a metric that is a dep edited": (append("metrics/stats.json"), ["stats: its output metrics/stats.json is "]),
    "a metric deleted": (
        lambda project: (project.root / "metrics/train.json").unlink(),
        ["train: its output metrics/train.json is missing"],
    ),
    "a stage added": (
        edit("dvc.yaml", "  stats:\n", "  extra:\n    cmd: 'true'\n  stats:\n"),
        ["extra: is in dvc.yaml, but not in dvc.lock", "extra: its cmd is not python -m stages extra"],
    ),
    "a stage removed": (
        edit("dvc.lock", f"\n  {LAST}:\n", "\n  draw:\n"),
        [f"{LAST}: is in dvc.yaml", "draw: is in dvc.lock"],
    ),
    "a stage removed everywhere": (
        forget,
        [f"{LAST}: stages/{LAST}.py exists, but dvc.yaml has no such stage"]
        + [f"{path}: is written by no stage in dvc.yaml" for path in sorted(PIPELINE[LAST].outputs)],
    ),
    "a stage frozen": (frozen("frozen"), ["stats: it is frozen, so DVC does not check"]),
    "a stage that always runs": (frozen("always_changed"), ["stats: it is always_changed, so DVC does not check"]),
    "an output moved to another stage": (
        edit("dvc.yaml", "    outs:\n      - models/predictions.csv\n    metrics:", "    metrics:"),
        ["evaluate: its output models/predictions.csv is in dvc.lock, but not in dvc.yaml"],
    ),
    "an output added": (
        edit("dvc.yaml", "    outs:\n      - models/pred", "    outs:\n      - a\n      - models/pred"),
        ["evaluate: its output a is in dvc.yaml, but not in dvc.lock"],
    ),
    "a dep removed": (
        edit("dvc.yaml", "      - stages/train.py\n", ""),
        ["train: its dep stages/train.py is in dvc.lock, but not in dvc.yaml"],
    ),
    "a command changed": (
        edit("dvc.yaml", "stages plot", "stages draw"),
        ["plot: its cmd is 'python -m stages draw' in dvc.yaml", "plot: its cmd is not python -m stages plot"],
    ),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_is_noticed(name, project: Project):
    tamper, expected = TAMPERINGS[name]
    assert problems(project.root) == []
    tamper(project)
    found = problems(project.root)
    assert len(found) == len(expected)
    assert all(line.startswith(start) for line, start in zip(found, expected, strict=True))


def test_the_status_says_whether_it_is_in_sync(standin: Project, enter, tool):
    enter(standin)
    assert tool("lock") == (0, "dvc.lock is in sync\n", "")
    append("stages/evaluate.py")(standin)
    status, printed, _ = tool("lock")
    assert (status, printed.count("\n")) == (1, 1)


@pytest.mark.parametrize(
    "stage", [pytest.param(stage, marks=[] if stage in ("stats", "evaluate") else pytest.mark.slow) for stage in STAGES]
)
def test_every_edited_hash_is_noticed(stage, project: Project):
    lock = (project.root / "dvc.lock").read_text()
    start = lock.index(f"\n  {stage}:")
    end = re.compile(r"\n  \w|\Z").search(lock, start + 1).start()
    read = {dep for entry in PIPELINE.values() for dep in entry.deps}
    found = list(re.finditer(r"- path: (\S+)\n +hash: md5\n +md5: (\w+)", lock[start:end]))
    assert len(found) >= 2
    for entry in found:
        at = start + entry.start(2)
        (project.root / "dvc.lock").write_text(f"{lock[:at]}{'f' * 32}{lock[at + 32 :]}")
        # What only DVC's cache holds and no stage reads, only `make verify` can judge.
        assert problems(project.root) or (PIPELINE[stage].outputs.get(entry[1]) and entry[1] not in read)
