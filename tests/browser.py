"""A real browser, without the network: what a page is once its scripts have run."""

import os
import subprocess
from pathlib import Path

import pytest

from tools.dev.browser import OPTIONS, installed

# In CI there has to be one (.ci/run installs it): without it these tests fail.
needs_browser = pytest.mark.skipif(
    installed() is None and not os.environ.get("CI"), reason="no Chromium or Chrome here: apt-get install chromium"
)


def dump(page: Path, profile: Path) -> str:
    """Return the DOM of the file `page` after its scripts have run, in a browser that keeps its things in `profile`."""
    path = installed()
    assert path, "no Chromium or Chrome is installed"
    command = [path, *OPTIONS, "--virtual-time-budget=20000", f"--user-data-dir={profile}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout
