"""The host: runs an experiment in a clone of its own, and delivers the result."""

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from distributed import Reschedule, get_worker
from dvc.config import Config

from stages.launch import packages
from tools.errors import ToolError
from tools.fleet import marks
from tools.fleet.queue import Experiment, find, results
from tools.git import git, reason

# Git ignores this folder.
FOLDER = Path(".dvc/tmp/fleet")
# Why this host has left the cluster, if it has.
LEFT: list[str] = []
# Set when this host leaves the cluster: nothing needs to wait for a remote any longer.
STOPPING = threading.Event()
# How long a scheduler or a remote may be unavailable, in seconds.
PATIENCE = 600
# The pause between two attempts to reach a remote, in seconds.
PAUSE = 10
# The free disk space that a host needs to run experiments, in bytes.
SPACE = 200_000_000
DVC = (sys.executable, "-m", "dvc")


@dataclass(frozen=True)
class Job:
    """An experiment, and what a host needs to know to run it."""

    experiment: Experiment
    device: str
    numerics: str  # the required fingerprint; "" for any
    author: tuple[str, str]  # of the commit that holds the result: name and address
    shared: bool  # whether the result goes to the remotes; else it stays in this clone's own repository and cache

    @property
    def mark(self) -> str:
        """The mark that a worker must offer."""
        return marks.mark(self.device, self.numerics)


@dataclass(frozen=True)
class Result:
    """The outcome of a job."""

    host: str
    ref: str  # of the experiment's commit; empty if it failed
    seconds: float
    log: str  # its output; empty if it was already done


class HostError(Exception):
    """The host can't run experiments any longer, but other hosts may."""


def run(job: Job) -> Result:
    """Run `job` in a Dask worker that was started in a clone, and return the outcome.

    A training run that fails is a result, too: it would fail on any host.
    """
    host, start, worker = socket.gethostname(), time.monotonic(), get_worker()

    def say(what: str) -> None:
        line = f"{job.experiment.name} on {host} {what}"
        if job.shared:
            print(line)
        worker.log_event("fleet", {"content": job.experiment.content, "line": line})

    numerics = marks.numerics(worker.state.total_resources, job.device)
    try:
        with _clone(Path.cwd(), job.shared) as (folder, clone):
            ref, log = _Run(job, folder, clone, numerics, say).result()
            return Result(host, ref, time.monotonic() - start, log)
    except (HostError, OSError) as error:
        if not job.shared:
            raise  # this is the only host
        say(f"stopped, and the host leaves: {error}")
        LEFT.append(str(error))
        worker.loop.add_callback(worker.close_gracefully)
        raise Reschedule from None


@contextmanager
def _clone(root: Path, shared: bool) -> Iterator[tuple[Path, Path]]:
    """Yield a folder that no other experiment is using, and the place of the project at `root` in a clone there."""
    root = root.resolve()
    for number in range(10**6):
        folder = root / FOLDER / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel releases it when this process dies
            except BlockingIOError:
                continue
            yield folder, _prepare(folder, root, shared)
            return


def _prepare(folder: Path, root: Path, shared: bool) -> Path:
    """Create or clean up the clone in `folder`, and make it use the remotes and DVC cache of `root`.

    Returns the project's place in it: the project may be in a subfolder of its repository.
    """
    _end_processes_in(folder)
    top = folder / "clone"
    for lock in top.glob(".git/**/*.lock"):  # left by a process that was killed
        lock.unlink()
    git("init", "--quiet", str(top))
    clone = top / git("rev-parse", "--show-prefix", root=root).strip()
    shutil.rmtree(clone / ".dvc/tmp", ignore_errors=True)
    settings = Config(str(root / ".dvc")).read()
    if "dir" not in settings["cache"] and not (cache := clone / ".dvc/cache").is_symlink():
        # A link, because DVC can't write a path with other than ASCII characters into its config.
        for place in (cache.parent, root / ".dvc/cache"):
            place.mkdir(parents=True, exist_ok=True)
        cache.symlink_to(root / ".dvc/cache")
    with Config(str(clone / ".dvc")).edit("local") as local:
        local.update(settings)
    where = ["remote", "get-url", "origin"] if shared else ["rev-parse", "--show-toplevel"]
    origin = git(*where, root=root).strip()
    if (root / origin).exists():  # a folder, whose path may be relative
        origin = str((root / origin).resolve())
    git("config", "remote.origin.url", origin, root=top)
    return clone


def _end_processes_in(folder: Path) -> None:
    """Kill processes that a killed worker has left running in `folder`."""
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder):
                process.kill()
        except psutil.Error:
            continue


def stop() -> None:
    """Kill every experiment that this process has started, and stop waiting for remotes."""
    STOPPING.set()
    for child in psutil.Process().children(recursive=True):
        child.kill()


@dataclass(frozen=True)
class _Run:
    """One run of one experiment."""

    job: Job
    folder: Path
    clone: Path  # the project's place in a clone in that folder
    numerics: str
    say: Callable[[str], None]

    def result(self) -> tuple[str, str]:
        """Return the ref of the result (empty if the experiment failed) and what the experiment printed."""
        experiment = self.job.experiment
        self._check_space()
        there = self._patiently("git", "ls-remote", "origin", f"refs/exps/*-{experiment.content}-*")
        if ref := find(results(there), experiment, self.numerics):
            return ref, ""
        self._check_out()
        name = f"{experiment.name}-{self.numerics[:4]}"
        ref = f"refs/exps/{experiment.baseline[:2]}/{experiment.baseline[2:]}/{name}"
        git("update-ref", "-d", ref, root=self.clone)
        status, log = self._try(*DVC, "exp", "run", "--name", name, *experiment.words)
        if status:
            self._check_packages()
            return "", log
        # The data is pushed first, so that the data of a ref is always there.
        if self.job.shared:
            targets = [word for word in experiment.words if not word.startswith("--")]
            self._patiently(*DVC, "push", *(["--with-deps", *targets] if targets else []))
        # By force: a host presumed dead may have pushed the same result.
        self._patiently("git", "push", "--quiet", "--force", "origin", ref)
        return ref, log

    def _check_out(self) -> None:
        """Check out the experiment's code and params, and pull the data and those outputs that are available."""
        experiment = self.job.experiment
        self._patiently("git", "fetch", "--quiet", "--update-shallow", "origin", experiment.ref)
        # By hash, so that only the submitter's commit is run, whatever the ref on the remote points to.
        git("checkout", "--quiet", "--force", "--detach", experiment.baseline, root=self.clone)
        git("clean", "-fdq", root=self.clone)
        git("restore", f"--source={experiment.commit}", "--", ".", ":!.dvc/tmp", root=self.clone)
        brought = self.folder / "brought"
        if not brought.exists() or brought.read_text() != experiment.baseline:
            self._patiently(*DVC, "pull" if self.job.shared else "checkout", "--allow-missing")
            brought.write_text(experiment.baseline)

    def _patiently(self, *command: str) -> str:
        """Run `command`, retrying while a remote is unavailable, and return its output."""
        what = " ".join(("dvc", command[3]) if command[:3] == DVC else command[:2])
        deadline, told = time.monotonic() + PATIENCE, False
        while True:
            status, output = self._try(*command)
            if not status:
                return output
            if STOPPING.is_set():
                raise Reschedule
            if "couldn't find remote ref" in output:
                raise ToolError(f"{what}: the ref has been removed from the Git remote", status=1)
            why = f"{what}: {reason(output)}"
            if not self.job.shared or time.monotonic() > deadline:
                raise HostError(why)
            if not told:
                self.say(f"waits for {why}")
                told = True
            STOPPING.wait(PAUSE)

    def _check_packages(self) -> None:
        """Raise HostError if this host's packages are not those of the experiment, which then can't run here."""
        if self.job.shared and (found := packages.drift((self.clone / "requirements.lock").read_text())):
            raise HostError(f"packages differ from requirements.lock: {', '.join(found)}; make fleet installs them")

    def _check_space(self, output: str = "") -> None:
        """Raise HostError if the disk is full, or if the `output` of a command says so."""
        free = shutil.disk_usage(self.clone).free
        if free < SPACE or "No space left on device" in output:
            raise HostError(f"the disk of {self.folder} is full: only {free / 1e6:.0f} MB are free")

    def _try(self, *command: str) -> tuple[int, str]:
        """Run `command` in the clone, as the submitter; return its status and its output, which goes to a file `log`.

        Raises HostError if it failed for want of space.
        """
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "GIT_DIR"))}
        name, address = self.job.author
        for role in ("AUTHOR", "COMMITTER"):
            environment |= {f"GIT_{role}_NAME": name, f"GIT_{role}_EMAIL": address}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        environment["STAGES_STRICT"] = "1"
        if self.job.device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""
        with (self.folder / "log").open("w+") as log:
            status = subprocess.call(
                command, cwd=self.clone, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
            log.seek(0)
            output = log.read()
        if status:
            self._check_space(output)
        return status, output
