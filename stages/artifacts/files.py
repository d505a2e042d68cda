"""Reading files, and writing them atomically."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lenet.errors import PipelineError


def read(path: Path, cure: str) -> bytes:
    """Return the bytes of `path`; raise PipelineError, with the advice `cure`, if it can't be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise PipelineError(f"{path} can't be read: {error.strerror}; {cure}") from None


def read_json(path: Path, cure: str) -> dict[str, Any]:
    """Return the JSON object in `path`; raise PipelineError, with the advice `cure`, if it has none."""
    return parse_json(read(path, cure), path, cure)


def parse_json(data: bytes, path: Path, cure: str, status: int = 2) -> dict[str, Any]:
    """Return the JSON object in `data`, the content of `path`; raise PipelineError, with `status`, if it has none."""
    try:
        content = json.loads(data)
    except ValueError as error:
        raise PipelineError(f"{path} is not valid JSON: {error}; {cure}", status) from None
    if not isinstance(content, dict):
        raise PipelineError(f"{path} does not contain a JSON object; {cure}", status)
    return content


def write(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically: afterwards the file has either its old content or all of `data`.

    The data is first written to `*.tmp` in the same folder. If a killed process leaves such a file, Git and DVC ignore
    it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".tmp")
    try:
        aside.write_bytes(data)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as JSON, one key per line. Raises ValueError for NaN and infinity."""
    write(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
