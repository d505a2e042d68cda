"""The values in params.yaml, and what is said of wrong ones."""

import importlib
import re
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from conftest import PARAMS, ROOT, STAGES
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from lenet.config import Config
from lenet.errors import PipelineError
from stages.launch import params as checking
from stages.launch import yaml12

TEXT = (ROOT / "params.yaml").read_text()
SECTIONS: dict[str, type[Config]] = {
    section: kind
    for stage in STAGES
    for section, kind in typing.get_type_hints(importlib.import_module(f"stages.{stage}").main).items()
    if isinstance(kind, type) and issubclass(kind, Config)  # report takes some as they are
}


def read(section: str, data: str | bytes) -> Config:
    data = data if isinstance(data, bytes) else data.encode()
    raw = yaml12.load(data, "params.yaml")
    return checking.check(raw if isinstance(raw, dict) else {}, {section: SECTIONS[section]}, "params.yaml")[section]


def change(**lines: str) -> str:
    """Return params.yaml with other values."""
    text = TEXT
    for key, value in lines.items():
        text, n = re.subn(rf"^( +{key}:) \S+", rf"\1 {value}", text, flags=re.MULTILINE)
        assert n == 1
    return text


class Inner(Config):
    share: Annotated[float, Field(ge=0, lt=1)]


class Outer(Config):
    count: Annotated[int, Field(ge=1, le=10)]
    rate: Annotated[float, Field(gt=0)]
    name: Literal["a", "b"]
    flag: bool
    inner: Inner
    clip: Annotated[float, Field(gt=0)] | None
    word: str


GOOD = {"count": 3, "rate": 1e-3, "name": "b", "flag": True, "inner": {"share": 0}, "clip": None, "word": "x"}


def check(**changes: Any) -> Outer:
    return checking.check({"top": GOOD | changes}, {"top": Outer}, "file")["top"]


def test_good_values():
    config = check(rate=1, clip=2)
    assert config.model_dump() == GOOD | {"rate": 1.0, "inner": {"share": 0.0}, "clip": 2.0}
    assert isinstance(config.rate, float)
    assert isinstance(config.inner.share, float)
    with pytest.raises(ValidationError, match="frozen"):
        config.count = 4


COUNT = "but must be a whole number at least 1 and at most 10"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, f"top.count is 0, {COUNT}"),
        ({"count": 10**9}, f"top.count is 1000000000, {COUNT}"),
        ({"count": 3.0}, f"top.count is 3.0, {COUNT}"),
        ({"count": True}, f"top.count is True, {COUNT}"),
        ({"count": None}, f"top.count is empty, {COUNT}"),
        ({"count": [3]}, f"top.count is [3], {COUNT}"),
        ({"count": 10**5000}, f"top.count is a number of thousands of digits, {COUNT}"),
        ({"rate": 0}, "top.rate is 0, but must be a number above 0"),
        ({"rate": "1e-3"}, "top.rate is '1e-3', but must be a number above 0"),
        ({"rate": True}, "top.rate is True, but must be a number above 0"),
        ({"rate": float("nan")}, "top.rate is nan, but must be a number above 0"),
        ({"rate": float("inf")}, "top.rate is inf, but must be a number above 0"),
        ({"rate": 10**400}, f"top.rate is 1{'0' * 56}..., but must be a number above 0"),
        ({"name": "c"}, "top.name is 'c', but must be one of a, b"),
        ({"name": ["a"]}, "top.name is ['a'], but must be one of a, b"),
        ({"name": "x" * 100}, f"top.name is '{'x' * 56}..., but must be one of a, b"),
        ({"flag": 1}, "top.flag is 1, but must be true or false"),
        ({"flag": "on"}, "top.flag is 'on', but must be true or false"),
        ({"inner": {"share": 1}}, "top.inner.share is 1, but must be a number at least 0 and below 1"),
        ({"inner": 3}, "top.inner is 3, but must be a section with the keys share"),
        ({"inner": {}}, "top.inner.share is missing; top.inner has the keys share"),
        ({"inner": {"share": 0, "a\nb": 0}}, r"top.inner has the unknown key 'a\nb'; its keys are share"),
        ({"clip": 0}, "top.clip is 0, but must be greater than 0"),
        ({"word": 1}, "top.word is 1, but must be a valid string"),
        ({"typo": 1}, "top has the unknown key 'typo'; its keys are count, rate, name, flag, inner, clip, word"),
    ],
)
def test_bad_values(changes, message):
    with pytest.raises(PipelineError, match=f"^file: {re.escape(message)}$"):
        check(**changes)


def test_a_key_that_is_no_string():
    with pytest.raises(PipelineError, match=r"^file: top has the unknown key 1; its keys are count"):
        checking.check({"top": GOOD | {1: 2}}, {"top": Outer}, "file")


def test_a_missing_key():
    with pytest.raises(PipelineError, match=r"^file: top\.flag is missing; top has the keys"):
        checking.check({"top": {key: value for key, value in GOOD.items() if key != "flag"}}, {"top": Outer}, "file")


def test_every_mistake_is_told():
    with pytest.raises(PipelineError) as caught:
        checking.check({"a": GOOD | {"count": 0, "flag": 0}}, {"a": Outer, "b": Outer}, "file")
    assert str(caught.value).splitlines() == [
        f"file: a.count is 0, {COUNT}",
        "file: a.flag is 0, but must be true or false",
        "file: the section b is missing",
    ]


@pytest.mark.parametrize("section", SECTIONS)
def test_the_committed_values_are_valid(section):
    read(section, TEXT)


@pytest.mark.parametrize(("written", "value"), [("1e-5", 1e-5), ("1e-05", 1e-5), (".5", 0.5), ("2", 2.0)])
def test_numbers_are_read_as_dvc_reads_them(written, value):
    assert read("train", change(lr=written)).lr == value


@pytest.mark.parametrize("written", ["1:30", "on", "0.1x", "'0.1'", ".nan", "-.inf", "null", "[0.1]", "{a: 1}"])
def test_what_is_no_number_is_refused(written):
    with pytest.raises(PipelineError, match=r"^params\.yaml: train\.lr is .*, but must be a number above 0"):
        read("train", change(lr=written.replace(" ", "")))


@pytest.mark.parametrize(
    ("section", "lines", "message"),
    [
        (
            "split",
            {"fold": "5"},
            "split.fold is 5, but split.folds is 5: set split.fold to 0 to 4, or raise split.folds",
        ),
        ("train", {"optimizer": "adam"}, "train.momentum is 0.9, but train.optimizer is adam, which uses none"),
    ],
)
def test_values_that_contradict_each_other(section, lines, message):
    with pytest.raises(PipelineError, match=re.escape(f"params.yaml: {message}")):
        read(section, change(**lines))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"train: {lr: 0x" + b"f" * 5000 + b"}", "train.lr is a number of thousands of digits"),
        (b"train:", "train is empty, but must be a section with the keys seed, epochs"),
        (b"train: 3", "train is 3, but must be a section with the keys seed, epochs"),
    ],
)
def test_a_file_that_is_no_params_file(content, message):
    with pytest.raises(PipelineError, match=rf"(?m)^params\.yaml: {re.escape(message)}"):
        read("train", content)


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
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=5
)
KEYS = [
    (section, *path)
    for section, content in PARAMS.items()
    for name, value in content.items()
    for path in ([(name, inner) for inner in value] if isinstance(value, dict) else [(name,)])
]


@pytest.mark.parametrize("path", KEYS, ids=".".join)
@settings(max_examples=25, deadline=None)
@given(value=ANYTHING)
def test_any_value_of_any_key_is_taken_or_refused_in_one_line(path, value):
    section, *inner, key = path
    content = yaml12.load(TEXT.encode(), "params.yaml")
    place = content[section]
    for name in inner:
        place = place[name]
    place[key] = value
    message, config = outcome(lambda: checking.check(content, {section: SECTIONS[section]}, "f")[section])
    if message:
        lines = message.splitlines()
        assert len(lines) == 1 or isinstance(value, dict)
        for line in lines:
            assert line.startswith("f: " + ".".join(path)) or ", but " in line
            assert len(line) < 300
    else:
        for name in (*inner, key):
            config = getattr(config, name)
        assert config == value


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_file_is_read_or_refused_in_one_line(content):
    message, _ = outcome(lambda: read("plot", content))
    assert message is None or re.match(r"^params\.yaml[: ][^\n]*$", message)


def outcome(call: Callable[[], Any]) -> tuple[str | None, Any]:
    """Return the message with which `call` refuses, or else what it returns."""
    try:
        return None, call()
    except PipelineError as error:
        return str(error), None
