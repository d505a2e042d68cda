"""Check the sections of params.yaml against the config classes, and report each mistake in one line."""

import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, cast, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from lenet.config import Config
from lenet.errors import PipelineError

_TYPES = {int: "a whole number", float: "a number", bool: "true or false"}
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def arguments(stage: str, function: Callable[..., None], listed: list[str], raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections that `function`, the main of `stage`, takes: as configs, or unvalidated for a plain `dict`.

    Raises PipelineError if these are not the sections `listed` in dvc.yaml, or if `check` finds a mistake.
    """
    types = {name: kind for name, kind in typing.get_type_hints(function).items() if name != "return"}
    if sorted(types) != sorted(listed):
        raise PipelineError(
            f"dvc.yaml lists the params {', '.join(listed) or 'none'} for the stage {stage}, but main in "
            f"stages/{stage}.py takes {', '.join(types) or 'none'}: they must be the same"
        )
    return check(raw, types, "params.yaml")


def check(raw: Mapping[str, Any], types: Mapping[str, type], file: str) -> dict[str, Any]:
    """Validate the sections of `raw`, the content of the YAML file `file`, against `types`, and return them.

    Raises PipelineError with a line for each mistake. A line begins with `file` and names the key, its value and what
    is allowed. Contradictions between values are reported only when each value is valid on its own.
    """
    configs: dict[str, Any] = {}
    lines = []
    for section, kind in types.items():
        if section not in raw:
            lines.append(f"the section {section} is missing")
            continue
        try:
            configs[section] = TypeAdapter(kind).validate_python(raw[section])
        except ValidationError as error:
            lines += [_line(section, kind, details) for details in error.errors(include_url=False)]
    if lines:
        raise PipelineError("\n".join(f"{file}: {line}" for line in lines))
    return configs


def _line(section: str, kind: type, error: ErrorDetails) -> str:
    """Describe a mistake in `section` that pydantic found: its own messages name neither the key nor the full range."""
    field: FieldInfo | None = None
    owner, keys, rest = kind, [section], list(error["loc"])
    while rest and isinstance(kind, type) and issubclass(kind, Config) and rest[0] in kind.model_fields:
        owner, field = kind, kind.model_fields[str(rest[0])]
        kind = cast(type[Config], field.annotation)  # or the type of a value; then the loop ends
        keys.append(str(rest.pop(0)))
    key, value = ".".join(keys), _show(error["input"])
    match error["type"]:
        case "value_error":  # from a validator of the whole section
            return str(error["ctx"]["error"])
        case "extra_forbidden":
            return f"{key} has the unknown key {_show(rest[0])}; its keys are {_names(kind)}"
        case "invalid_key":  # not a string
            return f"{key} has the unknown key {value}; its keys are {_names(kind)}"
        case "missing":
            return f"{key} is missing; {'.'.join(keys[:-1])} has the keys {_names(owner)}"
        case "model_type":
            return f"{key} is {value}, but must be a section with the keys {_names(kind)}"
        case "dict_type":
            return f"{key} is {value}, but must be a section"
    allowed = _allowed(field) if field else ""
    return f"{key} is {value}, but must be {allowed or error['msg'].removeprefix('Input should be ')}"


def _names(kind: type[Config]) -> str:
    return ", ".join(kind.model_fields)


def _allowed(field: FieldInfo) -> str:
    """Return the type and range of `field` in words, or an empty string if it has neither."""
    if get_origin(field.annotation) is Literal:
        return "one of " + ", ".join(map(str, get_args(field.annotation)))
    bounds = [
        f"{words} {_number(getattr(bound, name))}"
        for bound in field.metadata
        for name, words in _BOUNDS.items()
        if hasattr(bound, name)
    ]
    return " ".join([_TYPES[field.annotation], " and ".join(bounds)]).strip() if field.annotation in _TYPES else ""


def _number(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


def _show(raw: Any) -> str:
    """Return `raw` on one short line, with quotes around a string: '1:30' must not look like a number."""
    try:
        text = repr(raw) if raw is not None else "empty"
    except ValueError:  # Python refuses to print whole numbers of more than 4,300 digits
        text = "a number with thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."
