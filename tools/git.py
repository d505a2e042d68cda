"""Running Git."""

import subprocess
from pathlib import Path

from tools.errors import ToolError


def git(*arguments: str, root: Path | str = ".") -> str:
    """Run git in `root` and return what it prints; raise ToolError (status 1) with its reason if it fails."""
    return git_bytes(*arguments, root=root).decode()


def git_bytes(*arguments: str, root: Path | str = ".", stdin: bytes = b"") -> bytes:
    """Run git as `git` does, but with `stdin`, and return its output as bytes, for the content of files."""
    done = subprocess.run(["git", *arguments], cwd=root, input=stdin, capture_output=True)
    if done.returncode:
        raise ToolError(f"git {arguments[0]} failed: {reason(done.stderr.decode(errors='replace'))}", status=1)
    return done.stdout


def reason(output: str) -> str:
    """Return the line in the output of Git or DVC that says why it failed: advice may follow that line."""
    lines = output.strip().splitlines() or ["there is no output"]
    return next((line for line in lines if line.startswith(("ERROR: ", "error: ", "fatal: ", "ssh: "))), lines[-1])
