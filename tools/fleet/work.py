"""What a host does with an experiment: run it in a clone that nobody else uses, and hand over the result."""

import fcntl
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil
from configobj import ConfigObj
from distributed import Reschedule, get_worker
from dvc.repo import Repo

from lenet.errors import PipelineError
from tools.fleet import offer
from tools.fleet.queue import PREFIX, Experiment, finished, git, reason

# Everything of the fleet's own lies here, which Git ignores.
FOLDER = Path(".dvc/tmp/fleet")
# Why this host has left the cluster, if it has.
LEFT: list[str] = []
# Whether this host is leaving the cluster, so that what waits here need not wait any longer.
STOPPING = threading.Event()
# How many seconds the remotes may be away.
PATIENCE = 600
# With less space than this, a host runs nothing: bytes.
SPACE = 200_000_000


@dataclass(frozen=True)
class Job:
    """An experiment, with what a host must know to run it."""

    experiment: Experiment
    author: tuple[str, str]  # of the commit that holds the result: name and address
    gpu: bool
    shared: bool  # whether the result goes to the remotes; else it stays in this clone's own repository and cache


@dataclass(frozen=True)
class Result:
    """What became of it."""

    host: str
    ref: str  # of the experiment's commit; none if it failed
    seconds: float
    log: str  # what it printed


class HostError(Exception):
    """The host can no longer run experiments; another one may."""


def find(refs: dict[str, str], experiment: Experiment, arithmetic: str) -> str | None:
    """Return the ref of a result of `experiment` in `refs`, made by that arithmetic or, for `any`, by whichever."""
    ending = re.compile(f".*-{experiment.content}-{'[0-9a-f]{4}' if arithmetic == 'any' else arithmetic[:4]}")
    return next((ref for name, ref in refs.items() if ending.fullmatch(name)), None)


def run(job: Job) -> Result:
    """Run `job` on this host, in a worker of Dask's that was started in a clone, and return what became of it.

    A training that fails is a result, too: elsewhere it would fail as well.
    """
    host, start = socket.gethostname(), time.monotonic()
    worker, experiment = get_worker(), job.experiment

    def say(what: str) -> None:
        if job.shared:
            print(f"{experiment.label}-{experiment.content} {what}", flush=True)
        worker.log_event("fleet", {"content": experiment.content, "host": host, "what": what})

    arithmetic = offer.arithmetic("cuda" if job.gpu else "cpu", worker.state.total_resources)
    try:
        with _clone(Path.cwd(), job.shared) as clone:
            say("starts")
            gpu = str(worker.name).rpartition(":")[2] if job.gpu else ""
            ref, log = _Run(job, clone, arithmetic, gpu, say).result()
            return Result(host, ref, time.monotonic() - start, log)
    except (HostError, OSError) as error:
        say(f"leaves: {error}")
        if job.shared:  # else it is the only host
            LEFT.append(str(error))
            worker.loop.add_callback(worker.close_gracefully)
            raise Reschedule from None
        raise PipelineError(str(error), status=1) from None


@contextmanager
def _clone(root: Path, shared: bool) -> Iterator[Path]:
    """Give a clone of this host's that nobody else uses now."""
    for number in range(10**6):
        folder = root / FOLDER / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets go of it when this process dies
            except BlockingIOError:
                continue
            _end_processes_in(folder)
            clone = folder / "clone"
            if not (folder / "whole").exists():
                shutil.rmtree(clone, ignore_errors=True)
                git("clone", "--quiet", "--no-checkout", str(root.resolve()), str(clone))
                (folder / "whole").touch()
            for left in clone.glob(".git/**/*.lock"):  # by a process that was killed
                left.unlink()
            shutil.rmtree(clone / ".dvc/tmp", ignore_errors=True)
            _configure(clone, root)
            origin = git("remote", "get-url", "origin", root=root).strip() if shared else str(root.resolve())
            if (root / origin).exists():  # a folder, whose path may be relative
                origin = str((root / origin).resolve())
            git("remote", "set-url", "origin", origin, root=clone)
            yield clone
            return


def _configure(clone: Path, root: Path) -> None:
    """Let DVC in `clone` use the cache and the remotes of `root`."""
    cache_folder, urls = _settings(root.resolve())
    local = root / ".dvc/config.local"
    config = ConfigObj(str(local) if local.exists() else None)
    config.setdefault("cache", {})["dir"] = cache_folder
    for name, url in urls.items():
        config.setdefault(f'remote "{name}"', {})["url"] = url
    config.filename = str(clone / ".dvc/config.local")
    (clone / ".dvc").mkdir(exist_ok=True)
    config.write()


@cache
def _settings(root: Path) -> tuple[str, dict[str, str]]:
    """Return where the cache of DVC is, and its remotes by name; paths are absolute."""
    with Repo(str(root)) as repo:
        remotes = repo.config["remote"].items()
        return str(repo.cache.local_cache_dir), {name: str(options["url"]) for name, options in remotes}


def _end_processes_in(folder: Path) -> None:
    """Kill what a worker that was killed has left running there."""
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder.resolve()):
                process.kill()
        except psutil.Error:
            continue


def stop() -> None:
    """Kill every experiment that this process has started, and let none wait for a remote."""
    STOPPING.set()
    for child in psutil.Process().children(recursive=True):
        child.kill()


@dataclass(frozen=True)
class _Run:
    """One run of one experiment."""

    job: Job
    clone: Path
    arithmetic: str
    gpu: str  # none or, as CUDA_VISIBLE_DEVICES has it, the one to use
    say: Callable[[str], None]

    def result(self) -> tuple[str, str]:
        """Return the ref of the result, none if the experiment failed, and what it printed."""
        experiment = self.job.experiment
        self._room()
        if self.job.shared:
            there = self._patiently(
                "git ls-remote", "git", "ls-remote", "origin", f"refs/exps/*-{experiment.content}-*"
            )
            if ref := find(finished(there), experiment, self.arithmetic):
                return ref, ""
        source = PREFIX + experiment.commit if self.job.shared else experiment.commit
        self._patiently("git fetch", "git", "fetch", "--quiet", "origin", source)
        # By its hash: whatever the remote calls by that name, nothing else than the submitter's commit runs.
        git("checkout", "--quiet", "--force", "--detach", experiment.baseline, root=self.clone)
        git("clean", "-fdq", root=self.clone)
        git("restore", f"--source={experiment.commit}", "--", ".", ":!.dvc/tmp", root=self.clone)
        # The data, and of the results what is at hand; a stage whose results are missing runs.
        brought = self.clone.parent / "brought"
        if not brought.exists() or brought.read_text() != experiment.baseline:
            verb = "pull" if self.job.shared else "checkout"
            self._patiently(f"dvc {verb}", sys.executable, "-m", "dvc", verb, "--allow-missing")
            brought.write_text(experiment.baseline)
        name = f"{experiment.label}-{experiment.content}-{self.arithmetic[:4]}"
        ref = f"refs/exps/{experiment.baseline[:2]}/{experiment.baseline[2:]}/{name}"
        git("update-ref", "-d", ref, root=self.clone)
        done = self._try(sys.executable, "-m", "dvc", "exp", "run", "--name", name, *experiment.words)
        if done.returncode:
            self._room(done.stdout)
            return "", done.stdout
        self._hand_over(ref)
        return ref, done.stdout

    def _hand_over(self, ref: str) -> None:
        """Bring the result to where the submitter finds it: the data first, so that a ref never stands for less."""
        if self.job.shared:
            targets = [word for word in self.job.experiment.words if not word.startswith("--")]
            what = ["--with-deps", *targets] if targets else []
            self._patiently("dvc push", sys.executable, "-m", "dvc", "push", *what)
        try:
            self._patiently("git push", "git", "push", "--quiet", "origin", ref)
        except HostError:
            if ref not in self._patiently("git ls-remote", "git", "ls-remote", "origin", ref):
                raise  # else a host that seemed dead was faster, with the same result

    def _patiently(self, what: str, *command: str) -> str:
        """Run `command`, again and again while a remote is away, and return what it prints."""
        start, pause, told = time.monotonic(), 1.0, False
        while True:
            done = self._try(*command)
            if not done.returncode:
                return done.stdout
            if STOPPING.is_set():
                raise Reschedule
            if done.returncode < 0:
                raise HostError(f"{what} was killed by signal {-done.returncode}")
            self._room(done.stdout)
            if "couldn't find remote ref" in done.stdout:
                raise PipelineError(f"{what}: somebody has removed it from the Git remote", status=1)
            why = reason(done.stdout)
            rejected = what == "git push" and "rejected" in done.stdout
            if rejected or not self.job.shared or time.monotonic() - start > PATIENCE:
                raise HostError(f"{what}: {why}")
            if not told:
                self.say(f"waits for {what}: {why}")
                told = True
            STOPPING.wait(pause)
            pause = min(2 * pause, 20)

    def _room(self, said: str = "") -> None:
        """Raise HostError if the disk is full."""
        free = shutil.disk_usage(self.clone).free
        if free < SPACE or "No space left on device" in said:
            raise HostError(f"the disk of {self.clone.parent} is full: {free / 1e6:.0f} MB are free")

    def _try(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "GIT_DIR"))}
        author, address = self.job.author
        for who in ("AUTHOR", "COMMITTER"):
            environment |= {f"GIT_{who}_NAME": author, f"GIT_{who}_EMAIL": address}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        environment["STAGES_STRICT"] = "1"
        if self.job.shared or not self.gpu:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpu
        # In a file, so that it can be followed on the host while it runs.
        with (self.clone.parent / "log").open("w+") as log:
            done = subprocess.run(
                command, cwd=self.clone, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
            log.seek(0)
            return subprocess.CompletedProcess(command, done.returncode, log.read())
