"""Run commands like `python -m stages NAME` in processes forked from one that has already loaded the large libraries.

`tools.verify` starts it early, and writes lines [FOLDER, MODULE, ARGUMENT…] in JSON to its standard input. At their
end, it waits for all processes, and exits with status 1 if one has failed.
"""

import gc
import importlib
import json
import os
import runpy
import sys
import traceback
from typing import NoReturn

# Installed packages only: each process loads this project's modules itself, from its own folder.
LIBRARIES = ["matplotlib.backends.backend_agg", "matplotlib.figure", "pandas", "pydantic", "scipy.ndimage", "torch"]


def serve() -> None:
    """Fork a process for each line of standard input."""
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.freeze()  # else the garbage collector of each process would copy all pages
    children = []
    for line in sys.stdin:
        if child := os.fork():
            children.append(child)
        else:
            run(*json.loads(line))
    os._exit(any([os.waitpid(child, 0)[1] for child in children]))  # noqa: C419 - wait for all


def run(folder: str, module: str, *arguments: str) -> NoReturn:
    """Run `python -m MODULE ARGUMENT…` in `folder`, and end this process."""
    status: object = 1
    os.chdir(folder)
    sys.path[0] = folder
    sys.argv[1:] = arguments
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(status if isinstance(status, int) else 1)  # without freeing all that the libraries hold


if __name__ == "__main__":
    serve()
