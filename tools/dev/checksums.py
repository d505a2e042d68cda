"""Describe the files of a data set: `python -m tools.dev.checksums FILE…` prints lines for lenet/data/dataset.py.

A gzipped file is described by its uncompressed content.
"""

import gzip
import hashlib
import sys
import zlib
from pathlib import Path

from tools.errors import ToolError, run


def describe(path: Path) -> str:
    """Return the line for the file in FILES: its name, its size in bytes and its SHA-256."""
    try:
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ToolError(f"{path} can't be read: {error}") from None
    return f'    "{path.name.removesuffix(".gz")}": ({len(data):_}, "{hashlib.sha256(data).hexdigest()}"),'


def main() -> None:
    """Print the line of each file that the command line names."""
    if not sys.argv[1:]:
        raise ToolError("name the files: python -m tools.dev.checksums FILE…")
    print("\n".join([describe(Path(name)) for name in sys.argv[1:]]))


if __name__ == "__main__":
    run(main)
