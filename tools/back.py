"""Return to the last commit after a killed run: `make back`, or `make back BRANCH=main`.

A killed `dvc exp run` leaves Git's HEAD detached and the experiment's files in place. Git may even take params.yaml for
unchanged, because its index knows size and second of the last change, and then neither `git checkout .` nor `git reset
--hard` restores it. This command throws away what is not committed, but first saves it as a patch. Files that Git does
not track are left alone.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tools.errors import ToolError, run
from tools.git import git, git_bytes

FOLDER = Path(".dvc/tmp/back")  # Git ignores it


def main() -> int:
    """Return to the branch's last commit; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.back", description=__doc__.partition("\n")[0])
    parser.add_argument("branch", nargs="?", help="the branch to return to, where Git's log of HEAD does not tell")
    given = parser.parse_args().branch
    if not Path(".dvc").is_dir():
        raise ToolError("this is not the project's folder: there is no .dvc")
    if busy := processes(Path.cwd()):
        raise ToolError(f"still running here: {', '.join(busy)}; stop them first, or they will write more")
    before = git("rev-parse", "--abbrev-ref", "HEAD").strip()
    branch = given or branch_before_experiment()
    if f"refs/heads/{branch}" not in git("for-each-ref", "--format=%(refname)", "refs/heads").splitlines():
        raise ToolError(f"there is no branch {branch}")
    for lock in Path(git("rev-parse", "--git-dir").strip()).glob("**/*.lock"):  # left by a process that was killed
        lock.unlink()
    Path(".dvc/tmp/rwlock").unlink(missing_ok=True)
    # A new index has to look at every file.
    Path(git("rev-parse", "--git-path", "index").strip()).unlink(missing_ok=True)
    git("reset", "--quiet")
    patch = git_bytes("diff", "--binary", "HEAD")
    if patch:
        FOLDER.mkdir(parents=True, exist_ok=True)
        path = FOLDER / time.strftime("%Y-%m-%d_%H-%M-%S.patch")
        path.write_bytes(patch)
        print(f"saved all uncommitted changes: git apply {path} brings them back")
    git("checkout", "--quiet", "--force", branch)
    git("reset", "--quiet", "--hard")
    if subprocess.run([sys.executable, "-m", "dvc", "checkout", "--force", "--quiet"]).returncode:
        print("DVC's cache lacks some outputs: dvc repro makes them again")
    nothing = "nothing to do: " if before == branch and not patch else ""
    print(f"{nothing}this is {branch}, as it was committed")
    return 0


def branch_before_experiment() -> str:
    """Return the branch that is checked out or, if HEAD is detached at its last commit, was checked out before."""
    for name in ("HEAD", "@{-1}"):
        try:
            branch = git("rev-parse", "--symbolic-full-name", name).strip().removeprefix("refs/heads/")
            if branch not in ("", "HEAD") and git("rev-parse", branch) == git("rev-parse", "HEAD"):
                return branch
        except ToolError:  # there was none, or it is gone
            continue
    here = git("for-each-ref", "--points-at=HEAD", "--format=%(refname:short)", "refs/heads").split()
    branches = here or git("for-each-ref", "--format=%(refname:short)", "refs/heads").split()
    commit = git("rev-parse", "--short", "HEAD").strip()
    raise ToolError(
        f"HEAD is detached at {commit}, and Git's log does not tell the branch: make back BRANCH=NAME, with one of "
        f"{', '.join(branches)}; if {commit} itself is wanted: git branch NAME keeps it"
    )


def processes(root: Path) -> list[str]:
    """Return the processes of DVC and of stages that work in `root`: those of a killed `dvc exp run` may live on."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            ours = process.pid == os.getpid() or Path(process.cwd()) != root
            if not ours and ("stages" in words or any(Path(word).name == "dvc" for word in words[:3])):
                found.append(f"{process.pid} ({' '.join(words)})")
        except psutil.Error:
            continue
    return found


if __name__ == "__main__":
    run(main)
