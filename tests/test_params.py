"""The values in params.yaml, and what is said of wrong ones."""

import importlib
import re
import typing
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

TEXT = (ROOT / "params.yaml").read_bytes()
SECTIONS: dict[str, type[Config]] = {
    section: kind
    for stage in STAGES
    for section, kind in typing.get_type_hints(importlib.import_module(f"stages.{stage}").main).items()
    if isinstance(kind, type) and issubclass(kind, Config)  # report takes some as they are
}


def read(section: str, data: bytes) -> Config:
    raw = yaml12.load(data, "params.yaml")
    return checking.check(raw if isinstance(raw, dict) else {}, {section: SECTIONS[section]}, "params.yaml")[section]


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


def check(changes: dict[Any, Any]) -> Outer:
    return checking.check({"top": GOOD | changes}, {"top": Outer}, "file")["top"]


def test_good_values():
    config = check({"rate": 1, "clip": 2})
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
        ({"count": 10**5000}, f"top.count is a number with thousands of digits, {COUNT}"),
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
        ({1: 2}, "top has the unknown key 1; its keys are count, rate, name, flag, inner, clip, word"),
    ],
)
def test_bad_values(changes, message):
    with pytest.raises(PipelineError, match=f"^file: {re.escape(message)}$"):
        check(changes)


def test_every_mistake_is_told():
    raw = {"a": GOOD | {"count": 0, "flag": 0}, "c": None, "d": 3}
    with pytest.raises(PipelineError) as caught:
        checking.check(raw, {"a": Outer, "b": Outer, "c": Inner, "d": Inner}, "file")
    assert str(caught.value).splitlines() == [
        f"file: a.count is 0, {COUNT}",
        "file: a.flag is 0, but must be true or false",
        "file: the section b is missing",
        "file: c is empty, but must be a section with the keys share",
        "file: d is 3, but must be a section with the keys share",
    ]


@pytest.mark.parametrize("section", SECTIONS)
def test_the_committed_values_are_valid(section):
    read(section, TEXT)


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("split", {"fold": 5}, "split.fold is 5, but split.folds is 5: set split.fold to 0 to 4, or raise split.folds"),
        ("train", {"optimizer": "adam"}, "train.momentum is 0.9, but train.optimizer is adam, which uses none"),
    ],
)
def test_values_that_contradict_each_other(section, changes, message):
    with pytest.raises(PipelineError, match=f"^f: {re.escape(message)}"):
        checking.check({section: PARAMS[section] | changes}, {section: SECTIONS[section]}, "f")


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
    content = yaml12.load(TEXT, "params.yaml")
    place = content[section]
    for name in inner:
        place = place[name]
    place[key] = value
    try:
        config = checking.check(content, {section: SECTIONS[section]}, "f")[section]
    except PipelineError as error:
        lines = str(error).splitlines()
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
    refused = "params.yaml: "
    try:
        read("plot", content)
    except PipelineError as error:
        refused = str(error)
    assert re.fullmatch(r"params\.yaml[: ][^\n]*", refused)
