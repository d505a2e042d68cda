"""Reading a section of params.yaml."""

from pathlib import Path
from typing import Any, TypeVar

from ruamel.yaml import YAML, YAMLError

from lenet.config import parse
from lenet.errors import PipelineError
from stages import files
from stages.runner import watch

T = TypeVar("T")
PATH = Path("params.yaml")


def read(section: str, kind: type[T]) -> T:
    """Return the `section` of params.yaml as the dataclass `kind`; raise PipelineError if anything is wrong with it."""
    raw = watch(f"{PATH}: {section}", lambda: _raw(section))
    try:
        return parse(raw, kind, section)
    except PipelineError as error:
        raise PipelineError(f"{PATH}: {error}") from None


def _raw(section: str) -> Any:
    """Read the section as DVC reads it, as YAML 1.2: 1e-5 is a number, and neither `on` nor 1:30 is."""
    text = files.read(PATH, "run from the project's folder")
    try:
        content = YAML(typ="safe").load(text.decode())
    # Besides YAMLError, ruamel.yaml lets through what Python says of a text such as 2001-99-99, !!bool maybe or [[[[…
    except (YAMLError, ValueError, KeyError, RecursionError) as error:
        raise PipelineError(f"{PATH} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or section not in content:
        raise PipelineError(f"{PATH}: the section {section} is missing")
    return content[section]
