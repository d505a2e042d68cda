"""Run commands like `python -m stages NAME` in processes forked from one that has already loaded the large libraries.

`tools.verify` starts it early, and writes lines [FOLDER, MODULE, ARGUMENT…] in JSON to its standard input. At their
end, it waits for all processes, and exits with status 1 if one has failed.
"""

import importlib
import json
import os
import runpy
import sys

# Installed packages only: each process loads this project's modules itself, from its own folder.
LIBRARIES = ["matplotlib.backends.backend_agg", "pandas", "pydantic", "scipy.ndimage", "torch"]


def serve() -> None:
    """Fork a process for each line of standard input."""
    for library in LIBRARIES:
        importlib.import_module(library)
    children = []
    for line in sys.stdin:
        folder, module, *arguments = json.loads(line)
        if child := os.fork():
            children.append(child)
            continue
        os.chdir(folder)
        sys.path[0] = folder
        sys.argv[1:] = arguments
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        sys.exit()
    sys.exit(any([os.waitpid(child, 0)[1] for child in children]))  # noqa: C419 - wait for all


if __name__ == "__main__":
    serve()
