"""Load this project's modules from their source, never from bytecode.

Python trusts a .pyc whose source has the same size and time, or none at all. So an edit could run the old code, and DVC
record the new one; and a full disk could leave a .pyc that breaks every later run.
"""

import sys
from importlib.machinery import FileFinder, SourceFileLoader
from pathlib import Path
from types import CodeType


class _FromSource(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def only(root: Path) -> None:
    """Load what is imported from now on, and lies in `root` but not in Python's own folders, from .py files alone."""

    def hook(folder: str) -> FileFinder:
        inner = [Path(prefix) for prefix in (sys.prefix, sys.base_prefix) if Path(prefix).is_relative_to(root)]
        if not Path(folder).is_relative_to(root) or any(Path(folder).is_relative_to(prefix) for prefix in inner):
            raise ImportError
        return FileFinder(folder, (_FromSource, [".py"]))

    sys.path_hooks.insert(0, hook)
    sys.path_importer_cache.clear()
