"""The environment of a stage: only the variables listed here are passed on, so that no other can change a result."""

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NoReturn

# The user's variables that are passed to every stage (* matches any characters). The only others are those of
# stages/launch/numerics.py.
PASSED = [
    *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LD_LIBRARY_PATH"),
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_MPS_*", "NVIDIA_*"),  # which hardware there is
    *("LANG", "LC_*", "TERM", "COLUMNS", "LINES"),
    "STAGES_PROCESSOR",  # overrides stages/launch/numerics.py
    "STAGES_STRICT",  # turns warnings of the guard into errors, as `make verify` and the tests do
]
# Network settings change no result either: the data set is verified by its checksums.
PASSED_TO = {
    "download": [
        *("MNIST_MIRROR", "*_proxy", "*_PROXY", "npm_*", "NPM_*", "NODE_*"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    ],
}

# The interpreter: -s for no packages from the user's site directory, utf8 for the same encoding everywhere.
PYTHON = [sys.executable, "-s", "-X", "utf8"]


def restart(stage: str, option: str) -> NoReturn:
    """Replace this process by `python -m stages` with `option` and `stage`, in the environment of `stage`.

    Changing os.environ would be too late for what Python itself and the C library have already read.
    """
    # Ctrl-C stays pending until the new process is ready for it.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    os.execve(sys.executable, [*PYTHON, "-m", "stages", option, stage], variables(stage))  # noqa: S606 - no shell


def variables(stage: str) -> dict[str, str]:
    """Return the environment of `stage`."""
    # Not imported at the top: it is a dep, so the stage's process must not import it before the guard has hashed it.
    from stages.launch import numerics

    patterns = PASSED + PASSED_TO.get(stage, [])
    passed = {key: value for key, value in os.environ.items() if any(fnmatchcase(key, name) for name in patterns)}
    return passed | numerics.environment()


@contextmanager
def scratch() -> Iterator[None]:
    """Give the stage an empty temporary folder, which is also matplotlib's, and remove it at the end."""
    place = os.environ.get("TMPDIR", "")
    if not (place and Path(place).is_dir()):
        place = "/tmp"  # noqa: S108
    # Without `dir`, Python would try to write a file first, and hide the reason if it can't.
    with tempfile.TemporaryDirectory(dir=place) as folder:
        tempfile.tempdir = folder
        os.environ["MPLCONFIGDIR"] = folder  # matplotlib would otherwise read the user's configuration
        yield
