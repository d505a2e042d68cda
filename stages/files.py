"""Writing files so that none is ever half-written."""

import json
from pathlib import Path
from typing import Any


def write(path: Path, data: bytes) -> None:
    """Write `data` to `path`, which holds either what it held before or all of `data`, whatever happens.

    The bytes go to a neighbour named `*.tmp` first, which git and DVC ignore and which the next run replaces.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".tmp")
    try:
        aside.write_bytes(data)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` as JSON, one key a line, for people and for diffs. NaN and infinity are refused (ValueError)."""
    write(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
