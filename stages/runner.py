"""The edge of each stage: from exceptions to one line and an exit status, and a guard against edits in mid-run.

DVC hashes code and params after the stage has run, and would record an edit made in the meantime as if it had been
used. Each script imports this module before all others, to note the sources before Python reads them and to set what
PyTorch reads when it is imported.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lenet.errors import PipelineError

# PyTorch reads these when it is imported. AVX-512, where there is one, would round sums differently from AVX2, and make
# training an eighth faster at most: without it, both kinds of processor give the same bits.
_processor = Path("/proc/cpuinfo")
if _processor.exists() and " avx2 " in _processor.read_text():
    os.environ |= {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}

# Ctrl-C prints no traceback, also while Python imports; 130 is what shells report for it.
signal.signal(signal.SIGINT, lambda *_: sys.exit(130))

_sources = {path: path.read_bytes() for folder in ("lenet", "stages") for path in Path(folder).glob("*.py")}
_watched: list[tuple[str, Callable[[], Any], Any]] = []


def run(stage: Callable[[], None]) -> None:
    """Run `stage`; turn what goes wrong into one line and the exit status: 2 for a mistake of the user, 1 otherwise."""
    sys.stdout.reconfigure(line_buffering=True)  # in a log file, too, each line appears when it is printed
    try:
        stage()
        if changed := _changed():
            raise PipelineError(f"{', '.join(changed)} changed while the stage ran; run it again")
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.status)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def watch(name: str, read: Callable[[], Any]) -> Any:
    """Return what `read` returns; the stage fails, naming `name`, if `read` returns something else at its end."""
    value = read()
    _watched.append((name, read, value))
    return value


def _changed() -> list[str]:
    loaded = {Path(module.__file__).resolve() for module in sys.modules.values() if getattr(module, "__file__", None)}
    sources = [
        str(path)
        for path, source in _sources.items()
        if path.resolve() in loaded and (not path.exists() or path.read_bytes() != source)
    ]
    return sorted(sources) + [name for name, read, value in _watched if read() != value]
