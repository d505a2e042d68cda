"""What a person types: every command that is named somewhere exists, and a mistake gets one line and status 2."""

import importlib.util
import re

import pytest
from conftest import ROOT, Project

PLACES = ["Makefile", ".ci/run", ".github/workflows/ci.yaml", *(path.name for path in ROOT.glob("*.md"))]
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


@pytest.mark.parametrize(
    ("arguments", "edits", "line"),
    [
        (["lock"], {"dvc.yaml": "- 1"}, r"dvc\.yaml does not describe a pipeline: .*"),
        (
            ["lock"],
            {"dvc.yaml": "stages: {a: {}}"},
            r"dvc\.yaml does not describe a pipeline: KeyError\('cmd'\); .*",
        ),
        (["lock"], {"dvc.lock": ""}, r"dvc\.lock or params\.yaml is malformed: .*"),
        (["lock"], {"dvc.lock": None}, r"dvc\.lock can't be read: No such file or directory; .*"),
        (["lock"], {"params.yaml": "train: ["}, r"params\.yaml is not valid YAML: .*"),
        (["dev.checksums"], {}, r"name the files: python -m tools\.dev\.checksums FILE…"),
        (["dev.checksums", "nowhere"], {}, r"nowhere can't be read: .*"),
        (["compare", "train.speed"], {}, r"no run has the metric train\.speed; there are: .*"),
        (["compare"], {"metrics/train.json": "{"}, r"no run has the metric evaluate\.val\.accuracy; there are: .*"),
        (["dev.docs"], {"README.md": "<!-- nothing -->\n<!-- end -->"}, r"there is no block nothing; there are .*"),
        (["dev.docs"], {"README.md": "<!-- results -->\n<!-- end -->"}, r"the block results can't be written: .*"),
        (["bench"], {"data": None}, r"there is no data/mnist: run dvc repro first"),
    ],
)
def test_a_mistake_is_one_line(arguments, edits, line, standin: Project):
    for path, content in edits.items():
        if content is None:
            standin.run("rm", "-r", path)
        else:
            (standin.root / path).write_text(content)
    tool, *words = arguments
    done = standin.try_run("bash", "-c", 'python -m "$@" > /dev/null', "-", f"tools.{tool}", *words)
    assert done.returncode == 2, done.stdout
    assert re.fullmatch(f"error: {line}\n", done.stdout)


@pytest.mark.parametrize("words", ["bench --until-target x", "compare --format x"])
def test_an_unknown_option(words, standin: Project):
    done = standin.try_run("python", "-m", *f"tools.{words}".split())
    assert done.returncode == 2
    assert "Traceback" not in done.stdout


def test_checksums(standin: Project):
    (standin.root / "some-file").write_bytes(b"abc")
    standin.run("gzip", "--keep", "some-file")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of the standard's own example
    printed = standin.run("python", "-m", "tools.dev.checksums", "some-file", "some-file.gz")
    assert printed == f'    "some-file": (3, "{digest}"),\n' * 2
