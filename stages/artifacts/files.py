"""Reading files, and writing them so that none is ever half-written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lenet.errors import PipelineError


def read(path: Path, cure: str) -> bytes:
    """Return the bytes of `path`; raise PipelineError, which ends with `cure`, if it can't be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise PipelineError(f"{path} can't be read: {error.strerror}; {cure}") from None


def read_json(path: Path, cure: str) -> dict[str, Any]:
    """Return the JSON object in `path`; raise PipelineError, which ends with `cure`, if there is none."""
    try:
        content = json.loads(read(path, cure))
    except ValueError as error:
        raise PipelineError(f"{path} is no JSON: {error}; {cure}") from None
    if not isinstance(content, dict):
        raise PipelineError(f"{path} holds no JSON object; {cure}")
    return content


def write(path: Path, data: bytes) -> None:
    """Write `data` to `path`, which holds either what it held before or all of `data`, whatever happens.

    The bytes go to a neighbour named `*.tmp` first. If the process is killed and leaves it, git and DVC ignore it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".tmp")
    try:
        aside.write_bytes(data)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as JSON, one key a line, for people and for diffs. NaN and infinity are refused (ValueError)."""
    write(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
