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
    """Return what the output of Git or DVC says of why it failed, as one line.

    That is the first line that names an error; after Git's `fatal: ` also the advice that follows it.
    """
    lines = output.strip().splitlines() or ["there is no output"]
    starts = [at for at, line in enumerate(lines) if line.startswith(("ERROR: ", "error: ", "fatal: ", "ssh: "))]
    first = starts[0] if starts else len(lines) - 1
    end = None if lines[first].startswith("fatal: ") else first + 1
    return " ".join(" ".join(lines[first:end]).split())


def unnoticed(path: str, root: Path | str = ".") -> bool:
    """Return whether Git takes the file `path` for unchanged although its content is not that of HEAD.

    Git trusts its index, which knows the size and the second of the last change. Outside a repository, or for a file
    that Git does not track, the answer is no.
    """
    try:
        differs = git("hash-object", path, root=root) != git("rev-parse", f"HEAD:./{path}", root=root)
        return differs and not git("--no-optional-locks", "status", "--porcelain", "--", path, root=root)
    except (ToolError, OSError):
        return False
