import re
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

from lenet.config import Range, parse
from lenet.errors import PipelineError


@dataclass(frozen=True)
class Inner:
    share: Annotated[float, Range(least=0, below=1)]


@dataclass(frozen=True)
class Config:
    count: Annotated[int, Range(least=1, most=10)]
    rate: Annotated[float, Range(above=0)]
    name: Literal["a", "b"]
    flag: bool
    inner: Inner


GOOD = {"count": 3, "rate": 1e-3, "name": "b", "flag": True, "inner": {"share": 0}}


def test_good_values():
    config = parse(GOOD, Config, "top")
    assert config == Config(3, 0.001, "b", True, Inner(0.0))
    assert isinstance(config.inner.share, float)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "top.count is 0, but must be a whole number at least 1 and at most 10"),
        ({"count": 10**9}, "top.count is 1000000000, but must be a whole number at least 1 and at most 10"),
        ({"count": 3.0}, "top.count is 3.0, but must be a whole number at least 1 and at most 10"),
        ({"count": True}, "top.count is True, but must be a whole number at least 1 and at most 10"),
        ({"count": None}, "top.count is empty, but must be a whole number at least 1 and at most 10"),
        ({"count": [3]}, "top.count is [3], but must be a whole number at least 1 and at most 10"),
        ({"rate": 0}, "top.rate is 0, but must be a number above 0"),
        ({"rate": "1e-3"}, "top.rate is '1e-3', but must be a number above 0"),
        ({"rate": float("nan")}, "top.rate is nan, but must be a number above 0"),
        ({"rate": float("inf")}, "top.rate is inf, but must be a number above 0"),
        ({"name": "c"}, "top.name is 'c', but must be one of a, b"),
        ({"name": ["a"]}, "top.name is ['a'], but must be one of a, b"),
        ({"flag": 1}, "top.flag is 1, but must be true or false"),
        ({"flag": "on"}, "top.flag is 'on', but must be true or false"),
        ({"inner": {"share": 1}}, "top.inner.share is 1, but must be a number at least 0 and below 1"),
        ({"inner": 3}, "top.inner is 3, but must be a section with the keys share"),
        ({"inner": {}}, "top.inner.share is missing; top.inner has the keys share"),
        ({"typo": 1}, "top has no key 'typo', but the keys count, rate, name, flag, inner"),
        ({"name": "x" * 100}, f"top.name is '{'x' * 56}..., but must be one of a, b"),
    ],
)
def test_bad_values(change, message):
    with pytest.raises(PipelineError, match=f"^{re.escape(message)}$"):
        parse(GOOD | change, Config, "top")


def test_a_missing_key():
    with pytest.raises(PipelineError, match=r"^top\.flag is missing; top has the keys"):
        parse({key: value for key, value in GOOD.items() if key != "flag"}, Config, "top")
