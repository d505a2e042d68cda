"""YAML is read as DVC reads it."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from dvc.utils.serialize import YAMLFileCorruptedError, parse_yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lenet.errors import PipelineError
from stages.launch import yaml12

# Plain scalars made of what numbers, dates and booleans are made of, and some that are known for trouble.
TROUBLE = (
    "1e-5 1E5 1e5 .5 5. 1_000 010 0o10 0x1F 0b11 -0 on off yes no y n 1:30 null ~ True TRUE .inf -.INF .NaN 2001-01-01"
)
SCALARS = st.from_regex(r"[-+.~]?[0-9a-zA-Z_][0-9_.eExobulsafnrTRUE+,:-]{0,6}(?<!:)", fullmatch=True) | st.sampled_from(
    TROUBLE.split()
)
# In lines: a scalar, or a sequence or mapping in block style.
DOCUMENTS = st.recursive(
    SCALARS.map(lambda scalar: [scalar]),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(lambda items: nested((item, "-") for item in items))
        | st.dictionaries(SCALARS, inner, min_size=1, max_size=3).map(
            lambda items: nested((item, f"{key}:") for key, item in items.items())
        )
    ),
    max_leaves=6,
)


def nested(items: Iterable[tuple[list[str], str]]) -> list[str]:
    """Return the lines of the items, each indented below its `-` or `key:`, or beside it if it is a scalar."""
    lines = []
    for inner, start in items:
        lines += [f"{start} {inner[0]}"] if len(inner) == 1 else [start, *(f"  {line}" for line in inner)]
    return lines


def same(a: Any, b: Any) -> bool:
    """Whether `a` and `b` are equal and of the same types, to the innermost value; NaN equals itself."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


@settings(max_examples=500, deadline=None)
@given(document=DOCUMENTS)
def test_what_dvc_reads(document):
    text = "\n".join(document)
    assert same(outcome(lambda: yaml12.load(text.encode(), "file") or {}), outcome(lambda: parse_yaml(text, "file")))


def outcome(read: Callable[[], Any]) -> Any:
    """Return what `read` returns, or "refused"."""
    try:
        return read()
    except (PipelineError, YAMLFileCorruptedError, ValueError, KeyError):
        return "refused"


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-5", 1e-5), ("1e-05", 1e-5), (".5", 0.5), ("-.inf", -math.inf), ("010", 10), ("0o10", 8), ("1_000", 1000)]
    + [(text, text) for text in ("on", "1:30", "0.1x")],
)
def test_the_rules_of_yaml_1_2(text, value):
    assert same(yaml12.load(text.encode(), "file"), value)


def test_merged_keys():
    text = "base: &base {a: 1, b: 2}\nother: {<<: *base, b: 3}"
    assert yaml12.load(text.encode(), "file") == parse_yaml(text, "file")


@pytest.mark.parametrize(
    "data",
    [
        *(b"a: [", b"a: \xff", b"a: =", b"{[a]: 1}"),
        *(b"a: 1\nb: 2\na: 3", b"a: {b: 1, b: 1}"),
        *(b"a: !!python/object/apply:os.getcwd []", b"a: !!bool maybe", b"a: !!timestamp maybe"),
        *(b"a: !!omap 1", b'a: !!float ""', b"a: 2001-99-99", b"a: " + b"9" * 5000),
        *(b"[" * 1000, b"[" * 100_000, b"- " * 100_000),
    ],
)
def test_what_is_refused(data):
    with pytest.raises(PipelineError, match=r"^file is not valid YAML: [^\n]+$"):
        yaml12.load(data, "file")
