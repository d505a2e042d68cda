"""`make verify` tells a faithful result from a false one; tried on quick stand-ins for the stages' work."""

import json
import shutil
from subprocess import CompletedProcess

import pytest
from conftest import ROOT, Project


def verify(project: Project) -> CompletedProcess:
    """Commit everything and verify it."""
    project.run("git", "commit", "--quiet", "--all", "--allow-empty", "--message", "A change")
    return project.try_run("python", str(ROOT / "tests/verify.py"))


def plant(project: Project, path: str, change: float) -> None:
    """Add `change` to the number in a metrics file, and to the file's hash in dvc.lock, as a forger would."""
    file = project.root / path
    project.run("git", "rm", "--quiet", "--cached", path)  # so that DVC takes the edited file for its own
    file.write_text(json.dumps({"number": json.loads(file.read_text())["number"] + change}) + "\n")
    project.run("dvc", "commit", "--force")
    project.run("git", "add", path)


def spread(project: Project, **deviations: float) -> None:
    (project.root / "tests").mkdir()
    rows = [f"{metric},{std}\n" for metric, std in deviations.items()]
    (project.root / "tests/spread.csv").write_text("metric,std\n" + "".join(rows))
    project.run("git", "add", "tests")


def test_the_same_again(standin: Project):
    done = verify(standin)
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("identical to the bit\n")
    assert [line.split() for line in done.stdout.splitlines() if " yes " in line] == [
        ["download", "yes", "yes", "none"],
        ["stats", "yes", "yes", "none"],
        ["train", "yes", "yes", "none"],
        ["evaluate", "yes", "yes", "none"],
        ["plot", "yes", "yes"],
    ]
    assert standin.run("git", "status", "--porcelain") == ""


def test_a_dirty_tree(standin: Project):
    standin.edit("params.yaml", "lr: 0.1", "lr: 0.01")
    done = standin.try_run("python", str(ROOT / "tests/verify.py"))
    assert done.returncode == 2
    assert done.stdout == "error: only what is committed can be verified: commit or stash params.yaml\n"


def test_planted_non_determinism(standin: Project):
    standin.edit("stages/evaluate.py", "content = hashlib.sha256()", "content = hashlib.sha256(os.urandom(8))")
    standin.repro()
    done = verify(standin)
    assert done.returncode == 1
    assert "not deterministic: two runs on this machine differ in\n  evaluate: metrics/evaluate.json" in done.stdout


@pytest.mark.parametrize(
    ("stage", "deviation", "change", "status", "verdict"),
    [
        pytest.param("evaluate", 100, 401, 1, "\n  evaluate: number: ", id="beyond the spread"),
        pytest.param("evaluate", 100, 399, 0, "\nequivalent: two", id="within the spread", marks=pytest.mark.slow),
        pytest.param("download", 1e20, 1, 1, "download.json is other data", id="other data", marks=pytest.mark.slow),
    ],
)
def test_a_planted_metric(standin: Project, stage, deviation, change, status, verdict):
    spread(standin, **{f"{stage}.number": deviation})
    plant(standin, f"metrics/{stage}.json", change)
    done = verify(standin)
    assert done.returncode == status
    assert verdict in done.stdout
    assert ("not equivalent: two runs on this machine agree" in done.stdout) == bool(status)


def test_a_damaged_cache_is_noticed_and_cured(standin: Project):
    model = standin.root / "models/lenet5.safetensors"
    data = model.read_bytes()
    (cached,) = (path for path in standin.root.glob(".dvc/cache/files/md5/??/*") if path.read_bytes() == data)
    cached.chmod(0o644)
    cached.write_bytes(b"damaged")
    cached.chmod(0o444)
    model.unlink()
    assert standin.repro() == []
    assert model.read_bytes() == b"damaged"  # restored in silence
    done = verify(standin)
    assert done.returncode == 1
    named = cached.relative_to(standin.root)
    assert done.stdout.startswith(f"error: DVC's cache is damaged, and DVC won't notice: remove {named}, ")
    cached.unlink()
    for folder in ("data", "models"):
        shutil.rmtree(standin.root / folder)
    standin.repro()
    assert model.read_bytes() == data
    assert verify(standin).returncode == 0


def test_the_spread_covers_every_metric_of_the_training():
    covered = {row.split(",")[0] for row in (ROOT / "tests/spread.csv").read_text().splitlines()[1:]}
    metrics = {
        f"{stage}.{part}.{name}"
        for stage in ("train", "evaluate")
        for part, values in json.loads((ROOT / f"metrics/{stage}.json").read_text()).items()
        for name in values
    }
    assert covered == {name for name in metrics if not name.endswith(".images")}
