"""What a person types: every command that is named somewhere exists, and a mistake gets one line and status 2."""

import gzip
import importlib.util
import re

import pytest
import yaml
from conftest import ROOT, Project

from tools.dev import supported

WORKFLOWS = {path.stem: path.read_text() for path in (ROOT / ".github/workflows").iterdir()}
PLACES = ["Makefile", ".ci/run", ".devcontainer/devcontainer.json", *(path.name for path in ROOT.glob("*.md"))]
PLACES += [f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")]


def test_every_module_that_is_named_exists():
    named = {module for place in PLACES for module in re.findall(r"-m ([a-z_.]+)", (ROOT / place).read_text())}
    assert {"tools.verify", "tools.bench", "tools.dev.docs", "tools.compare"} <= named
    assert [module for module in named - {"slow", "recorded"} if importlib.util.find_spec(module) is None] == []


def test_every_target_that_is_named_exists():
    made = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    texts = [(ROOT / place).read_text() for place in PLACES[1:]]
    named = {target for text in texts for target in re.findall(r"(?:`|\$ )make ([a-z]+)", text)}
    assert {"repro", "test", "verify"} <= named <= made


def test_ci_runs_the_steps_of_ci_run():
    steps = set(re.findall(r"^(\w+)\(\) \{", (ROOT / ".ci/run").read_text(), re.MULTILINE))
    called = re.findall(r"\.ci/run(.*)", WORKFLOWS["ci"].partition("jobs:")[2])
    assert "" in called  # all of them
    assert {step for line in called for step in line.split()} <= steps


def test_workflows_run_reviewed_code_with_few_permissions():
    for text in WORKFLOWS.values():
        uses = re.findall(r"uses: *\S+@(\S*)", text)
        assert all(re.fullmatch(r"[0-9a-f]{40}", revision) for revision in uses)
        assert text.count("actions/checkout") == text.count("persist-credentials: false")
        assert yaml.safe_load(text)["permissions"] in ({}, {"contents": "read"})
    # These rights are for who reads what pull requests upload, and not for their code.
    assert "checkout" not in WORKFLOWS["comment"]
    assert "pull_request_target" not in "".join(WORKFLOWS.values())


@pytest.mark.parametrize(
    ("arguments", "edits", "line"),
    [
        (["lock"], {"dvc.yaml": "stages: {a: {}}"}, r"DVC can't read this project: .*dvc\.yaml' validation failed; .*"),
        (["lock"], {"dvc.lock": "stages: []"}, r"DVC can't read this project: .*dvc\.lock' validation failed.*"),
        (["lock"], {"params.yaml": "train: ["}, r"DVC can't read this project: .*params\.yaml.* is corrupted; .*"),
        (["lock"], {".dvc/config": "[core"}, r"DVC can't read this project: config file error: Invalid line .*"),
        (["compare"], {".dvc/config": "[core"}, r"DVC: config file error: Invalid line .*"),
        (["fleet.__main__", "run"], {".dvc/config": "[core"}, r"DVC: config file error: Invalid line .*"),
        (["dev.checksums"], {}, r"name the files: python -m tools\.dev\.checksums FILE…"),
        (["dev.checksums", "nowhere"], {}, r"nowhere can't be read: .*"),
        (["compare", "train.speed"], {}, r"no run has the metric train\.speed; there are: .*"),
        (["compare"], {"metrics/train.json": "{"}, r"no run has the metric evaluate\.val\.accuracy; there are: .*"),
        (["dev.docs"], {"README.md": "<!-- nothing -->\n<!-- end -->"}, r"there is no block nothing; there are .*"),
        (["dev.docs"], {"README.md": "<!-- results -->\n<!-- end -->"}, r"the block results can't be written: .*"),
        (["bench"], {"data": None}, r"there is no data/mnist: run dvc repro first"),
    ],
)
def test_a_mistake_is_one_line(arguments, edits, line, standin: Project, enter, tool):
    for path, content in edits.items():
        if content is None:
            standin.run("rm", "-r", path)
        else:
            (standin.root / path).write_text(content)
    enter(standin)
    status, _, errors = tool(*arguments)
    assert status == 2
    assert re.fullmatch(f"error: {line}\n", errors)


@pytest.mark.parametrize("words", ["bench --until-target x", "compare --format x"])
def test_an_unknown_option(words, tool):
    status, printed, _ = tool(*words.split())
    assert (status, printed) == (2, "")


def test_every_tool_reports_its_mistakes():
    """The tests call `run`, too; here is the line that does so for a person."""
    tools = [text for path in (ROOT / "tools").rglob("*.py") if "\ndef main(" in (text := path.read_text())]
    assert len(tools) >= 8
    assert all(text.endswith("    run(main)\n") for text in tools)


def test_checksums(tmp_path, tool):
    data = b"abc"
    (tmp_path / "some-file").write_bytes(data)
    (tmp_path / "some-file.gz").write_bytes(gzip.compress(data))
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of the standard's own example
    printed = tool("dev.checksums", f"{tmp_path}/some-file", f"{tmp_path}/some-file.gz")
    assert printed == (0, f'    "some-file": (3, "{digest}"),\n' * 2, "")


@pytest.mark.parametrize(
    ("system", "python", "machine", "libc", "objection"),
    [
        ("linux", (3, 11, 0), "x86_64", ("glibc", "2.28"), None),
        ("darwin", (3, 13, 0), "arm64", ("", ""), None),
        ("linux", (3, 9, 1), "x86_64", ("glibc", "2.36"), "Python 3.11 or newer is needed, but this is 3.9: "),
        ("darwin", (3, 13, 0), "x86_64", ("", ""), "PyTorch no longer supports Macs with Intel"),
        ("linux", (3, 13, 0), "x86_64", ("", ""), "PyTorch needs glibc, which"),
        ("linux", (3, 13, 0), "x86_64", ("glibc", "2.9"), "PyTorch needs glibc 2.28 or newer, but this is 2.9"),
    ],
)
def test_a_machine_without_wheels(system, python, machine, libc, objection, monkeypatch):
    monkeypatch.setattr(supported.sys, "platform", system)
    monkeypatch.setattr(supported.sys, "version_info", python)
    monkeypatch.setattr(supported.platform, "machine", lambda: machine)
    monkeypatch.setattr(supported.platform, "libc_ver", lambda: libc)
    assert (supported.objection() or "").startswith(objection or "")
    assert (supported.objection() is None) == (objection is None)
