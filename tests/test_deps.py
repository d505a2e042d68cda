"""dvc.yaml tells the truth: each stage's deps are what it imports and reads, and its params what its main takes."""

import ast
import importlib
import re
import typing
from pathlib import Path

import pytest
from conftest import PARAMS, PIPELINE, ROOT, STAGES

from stages.launch import environment, guard, packages

NOT_DEPS = {path.removesuffix(".py").replace("/", ".") for path in guard.NOT_DEPS}


def path_of(module: str) -> Path:
    return ROOT / (module.replace(".", "/") + ".py")


def modules(folder: str) -> list[str]:
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / folder).rglob("*.py")]


def imports(module: str) -> set[str]:
    """Return the modules that the source of `module` names in its imports."""
    found = set()
    for node in ast.walk(ast.parse(path_of(module).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def closure(stage: str) -> set[str]:
    """Return the modules of this project that `stage` imports, directly or through others, without NOT_DEPS."""
    seen, waiting = set(), {f"stages.{stage}"}
    while waiting:
        seen.add(module := waiting.pop())
        found = {name for name in imports(module) if name.startswith(("lenet.", "stages.")) and path_of(name).is_file()}
        waiting |= found - NOT_DEPS - seen
    return seen


def test_the_lock_files_agree():
    """Whichever of them was installed, the packages are those of requirements.lock, as PEP 440 compares versions."""
    locks = {path.name: path.read_text() for path in ROOT.glob("requirements*.lock")}
    pins = {name: dict(re.findall(r"^([a-z][\w.-]*)==([\w.]+)", text, re.MULTILINE)) for name, text in locks.items()}
    for name, version in pins["requirements.lock"].items():
        for lock in pins.keys() - {"requirements.lock"}:
            # requirements-cpu.lock, if there is one, has no packages for CUDA.
            assert pins[lock].get(name, version if "cpu" in lock and name.startswith(packages.CUDA) else "") == version


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_the_imports(stage):
    modules = closure(stage)
    if any("torch" in imports(module) for module in modules):
        modules.add("stages.launch.numerics")  # the environment in which PyTorch computes
    listed = {dep for dep in PIPELINE[stage].deps if dep.endswith(".py")}
    assert listed == {str(path_of(module).relative_to(ROOT)) for module in modules}


def test_files_that_are_no_deps_compute_nothing():
    third_party = {name.split(".")[0] for module in NOT_DEPS for name in imports(module)}
    assert third_party.isdisjoint({"torch", "numpy", "pandas", "matplotlib", "scipy", "safetensors"})


@pytest.mark.parametrize("stage", STAGES)
def test_params_are_the_sections_that_main_takes(stage):
    taken = typing.get_type_hints(importlib.import_module(f"stages.{stage}").main)
    assert taken.keys() - {"return"} == set(PIPELINE[stage].params)


def test_every_section_of_params_is_taken():
    assert set(PARAMS) == {section for stage in PIPELINE.values() for section in stage.params}


@pytest.mark.parametrize("stage", STAGES)
def test_the_environment_is_a_dep(stage):
    """But not of a stage whose results are known by their checksums."""
    assert ("requirements.lock" in PIPELINE[stage].deps) == (stage not in environment.PASSED_TO)


def test_packages_are_empty_and_so_no_deps():
    packages = [path for room in ("lenet", "stages", "tools") for path in (ROOT / room).rglob("__init__.py")]
    assert len(packages) >= 5
    assert [path.read_text() for path in packages] == [""] * len(packages)


@pytest.mark.parametrize("stage", STAGES)
def test_the_files_that_the_code_names_are_deps_and_outputs(stage):
    folders = ("data/", "models/", "metrics/")
    named = {
        node.args[0].value
        for module in closure(stage)
        for node in ast.walk(ast.parse(path_of(module).read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Path" and isinstance(node.args[0], ast.Constant)
    }
    listed = [*PIPELINE[stage].deps, *PIPELINE[stage].outputs]
    assert {name for name in named if name.startswith(folders)} == {path for path in listed if path.startswith(folders)}


ROOMS = ["lenet", "stages", "tools", "tests"]
TESTS = {module.removeprefix("tests.") for module in modules("tests")}


@pytest.mark.parametrize("room", ROOMS)
def test_the_chain_of_rooms(room):
    """tools → stages → lenet: each room imports itself and those further down the chain; tests import all."""
    allowed = set(ROOMS[: ROOMS.index(room) + 1])
    for module in modules(room):
        rooms = {"tests" if name in TESTS else name for name in (name.split(".")[0] for name in imports(module))}
        assert rooms & set(ROOMS) <= allowed, module


def test_launch_is_not_imported_by_what_a_stage_computes():
    """Only the launcher and the last lines of a stage's file know how a stage is started."""
    for module in modules("lenet") + modules("stages/artifacts"):
        assert not [name for name in imports(module) if name.startswith("stages.launch")], module
