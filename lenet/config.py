"""From a section of params.yaml to a frozen dataclass, strictly.

A config is a frozen dataclass without defaults, so that params.yaml is the only place that holds values. Its fields are
`bool`, `Literal[...]`, `Annotated[int | float, Range(...)]` or another such dataclass.
"""

import dataclasses
import math
import sys
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from lenet.errors import PipelineError

T = TypeVar("T")
_KINDS = {int: "a whole number", float: "a number"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Range:
    """The finite numbers that a field may take: `least` and `most` are allowed, `above` and `below` are not."""

    least: float = -math.inf
    above: float = -math.inf
    most: float = math.inf
    below: float = math.inf

    def __contains__(self, value: float) -> bool:
        finite = abs(value) <= sys.float_info.max  # unlike math.isfinite, this takes a whole number of any length
        return finite and self.least <= value <= self.most and self.above < value < self.below

    def __str__(self) -> str:
        words = {"least": "at least", "above": "above", "most": "at most", "below": "below"}
        bounds = {name: bound for name, bound in dataclasses.asdict(self).items() if math.isfinite(bound)}
        return " and ".join(f"{words[name]} {bound:g}" for name, bound in bounds.items())


def parse(raw: Any, kind: type[T], key: str) -> T:
    """Check `raw`, what a YAML reader returned for the section `key`, and make it a `kind`.

    Raises PipelineError, which names the first wrong key, its value and what is allowed, when a key is missing,
    unknown, of another type or out of range. A `bool` is no number, and 1.0 is no `int`.
    """
    if not isinstance(raw, dict):
        raise PipelineError(f"{key} is {_show(raw)}, but must be a section with the keys {_names(kind)}")
    types = get_type_hints(kind, include_extras=True)
    for name in raw:
        if name not in types:
            raise PipelineError(f"{key} has no key {_show(name)}, but the keys {_names(kind)}")
    for name in types:
        if name not in raw:
            raise PipelineError(f"{key}.{name} is missing; {key} has the keys {_names(kind)}")
    return kind(**{name: _value(raw[name], types[name], f"{key}.{name}") for name in types})


def _value(raw: Any, kind: Any, key: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return parse(raw, kind, key)
    if kind is bool:
        valid, allowed = isinstance(raw, bool), "true or false"
    elif get_origin(kind) is Literal:
        valid, allowed = raw in get_args(kind), "one of " + ", ".join(get_args(kind))
    elif get_origin(kind) is Annotated:
        number, bounds = get_args(kind)
        types = (int, float) if number is float else (int,)
        valid = isinstance(raw, types) and not isinstance(raw, bool) and raw in bounds
        allowed = f"{_KINDS[number]} {bounds}"
        raw = number(raw) if valid else raw
    else:
        raise TypeError(f"{key}: no rule for fields of type {kind}")
    if not valid:
        raise PipelineError(f"{key} is {_show(raw)}, but must be {allowed}")
    return raw


def _names(kind: type) -> str:
    return ", ".join(field.name for field in dataclasses.fields(kind))


def _show(raw: Any) -> str:
    """`raw` on one short line, strings in quotes: the string '1:30' must not look like a number."""
    try:
        text = repr(raw) if raw is not None else "empty"
    except ValueError:  # Python refuses to print whole numbers of more than 4,300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."
