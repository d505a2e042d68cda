"""Re-run HEAD from scratch and check that it reproduces the committed results: `make verify`.

Every stage runs in a temporary clone, whatever is cached; only the downloaded data and the installed packages are
shared. The exit status is

0  proven: every byte of every output was reproduced
3  plausible, not proven: HEAD was run with other numerics (lenet/numerics.py) than this machine's, so the bytes of the
   training can't be compared; everything else follows from the recorded model
1  false: the record contains something that this code does not produce
2  not run: there are uncommitted changes, other packages than those of requirements.lock, or a file that is missing

With --quick, nothing is trained: 0 means that everything but the training follows from the recorded model.

It works in any DVC project: what only one project demands of itself, and its numerics, are in tools/checks.py, if there
is such a file. Without it, the verdict is 0, 1 or 2.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, cast

from tools import lock, record, resolved
from tools.errors import ToolError, run
from tools.git import git
from tools.lock import checks
from tools.record import Record


def main() -> int:
    """Print a table of the stages and a verdict; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.verify", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep the clone there, with everything that the run wrote"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="train nothing: check in seconds that everything but the training follows from the recorded model",
    )
    keep, quick = (options := parser.parse_args()).keep, options.quick
    if quick and not checks:
        raise ToolError("--quick needs this project's own checks, in tools/checks.py")
    if dirty := git("status", "--porcelain", "--", "."):
        paths = ", ".join(line[3:] for line in dirty.splitlines())
        raise ToolError(f"only what is committed can be verified: commit or stash {paths}")
    if checks:
        checks.of_packages()
    if keep and keep.exists():
        raise ToolError(f"{keep} already exists: choose another folder for the clone")
    with tempfile.TemporaryDirectory() as folder:
        verify = _verify_quickly if quick else _verify
        try:
            return verify(_clone(keep or Path(folder, "project")), Path(folder))
        except FalseRecord as reason:
            print("false:", reason)
            return 1


def _verify(clone: Path, scratch: Path) -> int:
    """Verify HEAD in `clone`, with `scratch` as a temporary folder; return the exit status, or raise FalseRecord."""
    recorded, files = _read(clone)
    _forget_history(clone)
    ran = _repro(clone)
    result = record.read(clone)
    _print_table(recorded, result, ran)
    _refuse("these stages did not run", [stage for stage in recorded.hashes if stage not in ran])
    if checks:
        wrong = checks.contradictions(result, result.files(clone))
        _refuse("the code writes metrics that contradict its tables", wrong)
    differing = {stage: recorded.differing(result, stage) for stage in recorded.hashes}
    if not any(differing.values()):
        wrong = ["dvc.lock"] if recorded.locked != result.locked else []
        _refuse("every output was reproduced, but not dvc.lock", wrong)
        if checks:
            print(checks.witness(result, "proven"))
        print("proven: every byte of every output was reproduced (identical to the bit)")
        return 0
    tainted = checks.with_other_numerics(clone, recorded, result) if checks else []
    wrong = [f"{stage}: {path}" for stage, paths in differing.items() if stage not in tainted for path in paths]
    keys = [stage for stage in tainted if recorded.metrics[stage].keys() != result.metrics[stage].keys()]
    if wrong := wrong + [f"{stage}: the keys of its metrics" for stage in keys]:
        _repro(clone)
        again = record.read(clone)
        unstable = [f"{stage}: {path}" for stage in result.hashes for path in result.differing(again, stage)]
        _refuse("the code is not deterministic: two runs on this machine differ", unstable)
        _refuse("two runs on this machine agree with each other, but not with the record", wrong)
    data = clone / checks.DATA
    with checks.preloaded(scratch, data) as forks:
        wrong = checks.beyond_training(_clone(scratch / "again"), scratch, data, recorded, files, tainted, forks)
    _refuse("the record can't come from this code on any machine", wrong)
    print(checks.witness(result, "plausible"))
    print("plausible, not proven: trained with other numerics; everything else follows from the recorded model")
    return 3


def _verify_quickly(clone: Path, scratch: Path) -> int:
    """Check in `clone` that everything but the training follows from the recorded model, or raise FalseRecord."""
    with checks.preloaded(scratch, checks.DATA) as forks:
        recorded, files = _read(clone)
        _refuse("release/ does not have what is recorded", checks.of_release(clone))
        wrong = checks.beyond_training(clone, scratch, checks.DATA, recorded, files, recorded.hashes, forks)
    _refuse("what is recorded does not follow from the recorded model", wrong)
    print("consistent: the recorded model has these scores on the test set; pictures, tables and page follow from it")
    print("not checked: that this code and these params give this model (make verify trains it again)")
    return 0


def _read(clone: Path) -> tuple[Record, dict[str, bytes]]:
    """Return the record in `clone`, which must not contradict itself, and the recorded outputs that are available."""
    wrong = lock.problems(clone) + (checks.of_clone(clone) if checks else [])
    _refuse("dvc.lock is out of sync with the files of the commit, or code could hide in them", wrong)
    recorded = record.read(clone)
    files = checks.available(recorded) if checks else {}
    _refuse("the record contradicts itself", checks.contradictions(recorded, files) if checks else [])
    return recorded, files


class FalseRecord(Exception):  # noqa: N818 - a verdict, not an error
    """The record is false, for reasons."""


def _refuse(verdict: str, reasons: list[str]) -> None:
    """Raise FalseRecord with the `verdict` if there are `reasons`."""
    if reasons:
        raise FalseRecord("\n  ".join([verdict, *reasons]))


def _print_table(recorded: Record, found: Record, ran: list[str]) -> None:
    width = max(10, *(len(stage) + 2 for stage in recorded.hashes))
    print(f"{'stage':{width}}{'ran':5}{'same bytes':12}metrics that differ")
    for stage, before in recorded.metrics.items():
        same = "no" if recorded.differing(found, stage) else "yes"
        words = record.words(before, found.metrics[stage])
        print(f"{stage:{width}}{'yes' if stage in ran else 'no':5}{same:12}{words}".rstrip())


def _clone(path: Path) -> Path:
    """Clone the repository into `path`, and return the project's folder in it, which may be a subfolder."""
    git("clone", "--quiet", git("rev-parse", "--show-toplevel").strip(), str(path))
    root = path / git("rev-parse", "--show-prefix").strip()
    with resolved.project(root) as project:
        data = list(project.data)
    if data:  # what `dvc add` tracks; the cache serves as a remote, so that the run can't change it
        for arguments in (
            ["remote", "add", "--quiet", "--local", "here", str(record.cache())],
            ["pull", "--quiet", "--remote", "here", *data],
        ):
            if subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=root).returncode:
                raise ToolError(f"DVC's cache lacks {', '.join(data)}: dvc pull may fetch them")
    return root


def _forget_history(root: Path) -> None:
    """Make `root`'s repository an empty one, so that no stage can take its outputs from a commit."""
    top = Path(git("rev-parse", "--show-toplevel", root=root).strip())
    shutil.rmtree(top / ".git")
    git("init", "--quiet", root=top)


def environment() -> dict[str, str]:
    """Return the environment for stages in a clone: this Python, and what tools/checks.py adds."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path} | (checks.environment() if checks else {})


def _repro(clone: Path) -> list[str]:
    """Run every stage in `clone`; return the stages that ran."""
    with resolved.project(clone) as project:
        paths = [path for stage in project.stages.values() for path in stage.outputs]
    for path in paths:  # a file that a stage does not write must not pass for its output
        if (clone / path).is_file():
            (clone / path).unlink()
    ran = []
    command = [sys.executable, "-m", "dvc", "repro", "--force", "--all-pipelines"]
    with subprocess.Popen(command, cwd=clone, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        for line in cast(IO[str], process.stdout):
            print(line, end="", flush=True)
            if line.startswith("Running stage '"):
                ran.append(line.split("'")[1])
    if process.returncode:
        raise ToolError("the pipeline failed in the clone", status=1)
    return ran


if __name__ == "__main__":
    run(main)
