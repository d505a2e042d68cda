"""The values in params.yaml, and what is said of wrong ones."""

import re
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from lenet.calibration import EvaluateConfig
from lenet.compute import ComputeConfig
from lenet.config import parse
from lenet.errors import PipelineError
from lenet.figures import PlotConfig
from lenet.folds import SplitConfig
from lenet.train import TrainConfig
from stages import params

SECTIONS = {
    "split": SplitConfig,
    "compute": ComputeConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "plot": PlotConfig,
}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("section", SECTIONS)
def test_the_committed_values_are_valid(section):
    params.read(section, SECTIONS[section])


def change(**lines: str) -> None:
    text = params.PATH.read_text()
    for key, value in lines.items():
        text, n = re.subn(rf"^( +{key}:) \S+", rf"\1 {value}", text, flags=re.MULTILINE)
        assert n == 1
    params.PATH.write_text(text)


@pytest.mark.parametrize(("written", "value"), [("1e-5", 1e-5), ("1e-05", 1e-5), (".5", 0.5), ("2", 2.0)])
def test_numbers_are_read_as_dvc_reads_them(written, value):
    change(lr=written)
    assert params.read("train", TrainConfig).lr == value


@pytest.mark.parametrize("written", ["1:30", "on", "0.1x", "'0.1'", ".nan", "-.inf", "null", "[0.1]", "{a: 1}"])
def test_what_is_no_number_is_refused(written):
    change(lr=written.replace(" ", ""))
    with pytest.raises(PipelineError, match=r"^params\.yaml: train\.lr is .*, but must be a number above 0"):
        params.read("train", TrainConfig)


@pytest.mark.parametrize(
    ("section", "lines", "message"),
    [
        (
            "split",
            {"fold": "5"},
            "split.fold is 5, but split.folds is 5: set split.fold to 0 to 4, or raise split.folds",
        ),
        ("train", {"optimizer": "adam"}, "train.momentum is 0.9, but train.optimizer is adam, which takes none"),
        ("train", {"momentum": "0"}, "train.nesterov is true, but train.optimizer is sgd with a train.momentum of 0"),
        ("train", {"optimizer": "rmsprop"}, "train.nesterov is true, but train.optimizer is rmsprop"),
    ],
)
def test_values_that_contradict_each_other(section, lines, message):
    change(**lines)
    with pytest.raises(PipelineError, match=re.escape(f"params.yaml: {message}")):
        params.read(section, SECTIONS[section])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"train: [", "is no YAML"),
        (b"train: \xff", "is no YAML"),
        (b"train: !!python/object/apply:os.getcwd []", "is no YAML"),
        (b"train: {lr: 1}\ntrain: {lr: 2}", "is no YAML"),
        (b"train: 2001-99-99", "is no YAML"),
        (b"train: !!bool maybe", "is no YAML"),
        (b"train: " + b"9" * 5000, "is no YAML"),
        (b"[" * 1000, "is no YAML"),
        (b"train: {lr: 0x" + b"f" * 5000 + b"}", "the keys"),
        (b'train: {"a\\nb": 1}', r"train has no key 'a\\nb', but the keys"),
        (b"", "the section train is missing"),
        (b"- 1", "the section train is missing"),
        (b"train:", "train is empty, but must be a section"),
    ],
)
def test_a_file_that_is_no_params_file(content, message):
    params.PATH.write_bytes(content)
    with pytest.raises(PipelineError, match=rf"^params\.yaml:? .*{message}") as caught:
        params.read("train", TrainConfig)
    assert "\n" not in str(caught.value)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400)])
    | st.floats()
    | st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=80)
    | st.sampled_from([10**9, float("nan"), float("inf"), "", "1:30"])
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner), max_leaves=5
)
KEYS = [
    (section, *path)
    for section, content in YAML(typ="safe").load((ROOT / "params.yaml").read_text()).items()
    for name, value in content.items()
    for path in ([(name, inner) for inner in value] if isinstance(value, dict) else [(name,)])
]


@pytest.mark.parametrize("path", KEYS, ids=".".join)
@settings(max_examples=25, deadline=None)
@given(value=ANYTHING)
def test_any_value_of_any_key_is_taken_or_refused_in_one_line(path, value):
    section, *inner, key = path
    content = YAML(typ="safe").load((ROOT / "params.yaml").read_text())[section]
    place = content
    for name in inner:
        place = place[name]
    place[key] = value
    message, config = outcome(lambda: parse(content, SECTIONS[section], section))
    if message:
        assert "\n" not in message
        assert message.startswith(".".join(path)) or ", but " in message
        assert len(message) < 300
    else:
        for name in (*inner, key):
            config = getattr(config, name)
        assert config == value


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_file_is_read_or_refused_in_one_line(content):
    params.PATH.write_bytes(content)
    message, _ = outcome(lambda: params.read("plot", PlotConfig))
    assert message is None or re.match(r"^params\.yaml[: ][^\n]*$", message)


def outcome(call: Callable[[], Any]) -> tuple[str | None, Any]:
    """Return the message with which `call` refuses, or else what it returns."""
    try:
        return None, call()
    except PipelineError as error:
        return str(error), None


def test_no_file():
    params.PATH.unlink()
    with pytest.raises(PipelineError, match="can't be read: No such file or directory; run from the project's folder"):
        params.read("train", TrainConfig)
