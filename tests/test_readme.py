"""What README.md tells the reader to type works."""

import re
from pathlib import Path

import pytest
from conftest import ROOT, Project
from lock import problems


@pytest.mark.slow
def test_from_question_to_merged_result(project: Project):
    section = (ROOT / "README.md").read_text().split("### From question to merged result")[1].split("\n#")[0]
    commands = re.findall(r"^\$ (.*)$", section, re.MULTILINE)
    assert len(commands) >= 5
    project.run("git", "clone", "--quiet", ".", "../clone")
    # A queued experiment never downloads: from here on there is no mirror.
    project.root = project.root.parent / "clone"
    for name in ("user.name", "user.email"):
        project.run("git", "config", name, "test@example.com")
    project.repro()
    project.env["MNIST_MIRROR"] = "/nonexistent"
    outputs = [project.run("bash", "-euo", "pipefail", "-c", command) for command in commands]
    assert any("evaluate.val.accuracy" in output for output in outputs)
    assert "lr: 0.05" in project.run("git", "show", "HEAD:params.yaml")
    assert project.run("git", "status", "--porcelain") == ""
    assert project.repro() == []
    assert problems(project.root) == []
    assert "lr-1" not in project.run("dvc", "exp", "list")


def test_the_links_lead_somewhere():
    targets = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text())
    assert [target for target in targets if "://" not in target and not Path(ROOT, target).exists()] == []
