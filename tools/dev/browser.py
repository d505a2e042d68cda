"""Chromium without a window, driven by its DevTools protocol over a pipe.

The methods and their parameters are listed on https://chromedevtools.github.io/devtools-protocol/.
"""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tools.errors import ToolError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
]


def installed() -> str | None:
    """Return the path of a browser."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """A page in a browser without the network, as a context manager."""

    def __enter__(self) -> Self:
        if not (path := installed()):
            raise ToolError(f"none of {', '.join(NAMES)} is installed: apt-get install chromium")
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        # The browser reads commands from file descriptor 3 and writes to 4.
        command = ["sh", "-c", 'exec "$@" 3<&0 4>&1 </dev/null >&2', "sh", path, *OPTIONS, "--remote-debugging-pipe"]
        self._process = subprocess.Popen(
            [*command, f"--user-data-dir={self._profile.name}", "about:blank"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._sent, self._received = 0, b""
        self._session: dict[str, str] = {}
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        self("Page.enable")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()
        self._profile.cleanup()

    def __call__(self, method: str, **params: Any) -> dict[str, Any]:
        """Call `method` and return its result."""
        assert self._process.stdin  # noqa: S101 - for mypy
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": params} | self._session
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        self._process.stdin.flush()
        answer = self._wait(lambda answer: answer.get("id") == self._sent)
        if "error" in answer:
            raise ToolError(f"{method}: {answer['error']['message']}", status=1)
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, page: Path, width: int, height: int, scheme: str = "light", scale: float = 1) -> None:
        """Load the file `page` on a screen of this size in CSS pixels, `scale` times as many of its own.

        `scheme` is the colour scheme, light or dark.
        """
        mobile = width < 600
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile)
        self("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self("Page.navigate", url=page.resolve().as_uri())
        self._wait(lambda event: event.get("method") == "Page.loadEventFired")

    def run(self, script: str) -> Any:
        """Return the value of the JavaScript expression `script`, which may be a promise."""
        answer = self("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise ToolError(answer["exceptionDetails"]["exception"]["description"], status=1)
        return answer["result"].get("value")

    def point(self, kind: str, x: float, y: float) -> None:
        """Move, press or release the mouse: `kind` is mouseMoved, mousePressed or mouseReleased."""
        self("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def _wait(self, wanted: Any) -> dict[str, Any]:
        """Return the first message that is `wanted`, and drop those before it."""
        assert self._process.stdout  # noqa: S101 - for mypy
        while True:
            message, end, rest = self._received.partition(b"\0")
            if not end:
                more = self._process.stdout.read1(1 << 20)  # type: ignore[attr-defined]
                if not more:
                    raise ToolError("the browser has ended", status=1)
                self._received += more
                continue
            self._received = rest
            if wanted(found := json.loads(message)):
                return dict(found)
