"""dvc.yaml tells the truth: each stage's deps are what its script imports, and its params what its code reads."""

import ast
from pathlib import Path

import pytest
from conftest import ROOT
from ruamel.yaml import YAML

STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]


def imported(module: str) -> set[str]:
    """Return the files of this project that `module`'s source imports."""
    found = set()
    for node in ast.walk(ast.parse(path_of(module).read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found |= {name for name in names if name.split(".")[0] in ("lenet", "stages") and path_of(name).is_file()}
    return found


def path_of(module: str) -> Path:
    return ROOT / (module.replace(".", "/") + ".py")


def closure(module: str) -> set[str]:
    """Return `module` and all that it imports from this project, directly or through others."""
    seen, waiting = set(), {module}
    while waiting:
        seen.add(name := waiting.pop())
        waiting |= imported(name) - seen
    return seen


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_the_import_closure(stage):
    listed = {dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")}
    assert listed == {str(path_of(module).relative_to(ROOT)) for module in closure(f"stages.{stage}")}


@pytest.mark.parametrize("stage", STAGES)
def test_params_are_the_sections_that_the_script_reads(stage):
    read = {
        call.args[0].value
        for module in closure(f"stages.{stage}")
        for call in ast.walk(ast.parse(path_of(module).read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "params.read"
    }
    assert read == set(STAGES[stage].get("params", []))


def test_every_section_of_params_is_read():
    sections = set(YAML(typ="safe").load((ROOT / "params.yaml").read_text()))
    assert sections == {section for stage in STAGES.values() for section in stage.get("params", [])}


@pytest.mark.parametrize("stage", STAGES)
def test_the_environment_is_a_dep(stage):
    assert ("requirements.lock" in STAGES[stage]["deps"]) == (stage != "download")


def test_packages_are_empty_and_so_no_deps():
    assert [(ROOT / name / "__init__.py").read_text() for name in ("lenet", "stages")] == ["", ""]


@pytest.mark.parametrize("stage", STAGES)
def test_the_files_that_the_script_names_are_its_deps_and_outputs(stage):
    folders = ("data/", "models/", "metrics/")
    entries = [entry for kind in ("deps", "outs", "metrics", "plots") for entry in STAGES[stage].get(kind, [])]
    listed = {path for entry in entries for path in ([entry] if isinstance(entry, str) else entry)}
    named = {
        node.args[0].value if isinstance(node.args[0], ast.Constant) else ast.unparse(node.args[0])
        for module in closure(f"stages.{stage}")
        for node in ast.walk(ast.parse(path_of(module).read_text()))
        if isinstance(node, ast.Call) and node.args and ast.unparse(node.func) in ("Path", "pd.read_csv")
    }
    pictures = {path for path in listed if path.endswith(".png")}
    assert {name for name in named if name.startswith(folders)} == {
        path for path in listed - pictures if path.startswith(folders)
    }
