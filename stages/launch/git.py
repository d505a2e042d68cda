"""Notice params.yaml that has changed without Git's knowledge, as a killed `dvc exp run` may leave it.

Git trusts its index, which knows the size and the second of the last change. So `git status` may not list params.yaml,
`git checkout .` not restore it, and DVC record the results of values that no commit will have.
"""

import os
import subprocess

from lenet.errors import PipelineError


def check_params() -> None:
    """Raise PipelineError if Git takes params.yaml for unchanged, but its content is not that of HEAD.

    Within `dvc exp run` that is no mistake: it has written params.yaml itself, and records it. Without Git, or for a
    file that Git does not track, nothing is checked.
    """
    if "DVC_EXP_NAME" in os.environ:
        return
    found = [_git("hash-object", "params.yaml"), _git("rev-parse", "HEAD:./params.yaml")]
    if all(found) and found[0] != found[1] and _git("status", "--porcelain", "params.yaml") == "":
        raise PipelineError(
            "params.yaml is not what the last commit has, but Git does not notice, as after a killed dvc exp run: "
            "make back returns to the commit; or, to keep these values: touch params.yaml"
        )


def _git(*arguments: str) -> str | None:
    """Return what git prints, or None if it fails."""
    command = ["git", "--no-optional-locks", *arguments]
    try:
        return subprocess.run(command, text=True, capture_output=True, check=True).stdout  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
