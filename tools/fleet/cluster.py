"""The parts of Dask's cluster: the scheduler, and the worker on each host."""

import asyncio
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dask
from distributed import Scheduler, Status, Worker

from lenet import packages
from lenet.errors import PipelineError
from tools.fleet import arithmetic, work
from tools.fleet.offer import describe, layout, resources
from tools.fleet.queue import git

STOPS = (signal.SIGINT, signal.SIGTERM)
# How long a worker waits for a scheduler, and a lost one, in seconds.
PATIENCE = 600
# Dask serves HTTP even without its dashboard; nobody needs that, and on its usual port two of them would collide.
NO_DASHBOARD = "127.0.0.1:0"

# Puts a file into the DVC remote, and removes it.
WRITE = """
import uuid
from dvc.repo import Repo
odb = Repo().cloud.get_remote_odb()
path = odb.fs.join(odb.path, f"fleet-{uuid.uuid4()}")
odb.fs.makedirs(odb.path, exist_ok=True)
odb.fs.pipe_file(path, b"")
odb.fs.remove(path)
"""

dask.config.set(
    {
        # A host that is silent for so long is given up, and what ran there runs elsewhere.
        "distributed.scheduler.worker-ttl": "15s",
        "distributed.comm.timeouts.tcp": "20s",
        # That a host dies is not the fault of the experiment that ran there.
        "distributed.scheduler.allowed-failures": 20,
        # What Dask is to expect of a task before it has seen one, so that it spreads them evenly.
        "distributed.scheduler.default-task-durations": {"fleet": "60s"},
        # The memory of a training is not in the worker's own process.
        **{f"distributed.worker.memory.{limit}": False for limit in ("target", "spill", "pause", "terminate")},
    }
)
logging.disable(logging.CRITICAL)  # of Dask's words; what matters is told in words of our own


def serve_scheduler(host: str, port: int) -> int:
    """Hand out experiments until Ctrl-C."""

    async def serve() -> None:
        async with Scheduler(host=host, port=port, dashboard=False, dashboard_address=NO_DASHBOARD) as scheduler:
            print(f"scheduler: {scheduler.address}", flush=True)
            await scheduler.finished()

    try:
        asyncio.run(serve())
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError):
            raise
        reason = cause.strerror or str(cause)
        raise PipelineError(
            f"the scheduler can't listen on {host}:{port}: {reason}; name others by --host and --port"
        ) from None
    return 0


def serve_worker(address: str, cores: int | None) -> int:
    """Run experiments on this host until Ctrl-C; if the scheduler goes, wait until it is back."""
    check_address(address)
    _check_host()
    found = arithmetic.measure()
    layouts = layout(cores or len(os.sched_getaffinity(0)), found["gpus"])
    print(
        f"worker on {socket.gethostname()}: {' + '.join(describe(resources(one, found)) for one in layouts)}",
        flush=True,
    )
    lost = time.monotonic()
    while time.monotonic() - lost < PATIENCE:
        if _reachable(address):
            print(f"connected to {address}", flush=True)
            before = {number: signal.getsignal(number) for number in STOPS}
            try:
                asyncio.run(_serve(address, layouts, found))
            except asyncio.CancelledError:
                raise KeyboardInterrupt from None
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
            if work.LEFT:
                raise PipelineError(f"this host can't go on: {work.LEFT[0]}", status=1)
            print(f"the connection to {address} is lost: trying again", flush=True)
            lost = time.monotonic()
        time.sleep(1)
    raise PipelineError(f"there has been no scheduler at {address} for {PATIENCE // 60} minutes", status=1)


def check_address(address: str) -> None:
    """Raise PipelineError unless `address` is one of a scheduler."""
    host, separator, port = address.removeprefix("tcp://").rpartition(":")
    if not address.startswith("tcp://") or not separator or not host or not port.isdigit():
        raise PipelineError(f"the scheduler's address is {address!r}, but must be like tcp://10.0.0.1:8786")


def _reachable(address: str) -> bool:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=5):
            return True
    except OSError:
        return False


async def _serve(address: str, layouts: list[dict[str, Any]], found: dict[str, Any]) -> None:
    """Work for the scheduler until it goes, or until an experiment finds that this host can't go on.

    A signal cancels it. Raised as KeyboardInterrupt anywhere in Dask, it would let Dask wait for what runs here.
    """
    if this := asyncio.current_task():
        for number in STOPS:
            asyncio.get_running_loop().add_signal_handler(number, this.cancel)
    work.STOPPING.clear()
    workers = [
        Worker(
            address,
            nthreads=one["cores"],
            resources=resources(one, found),
            name=f"{socket.gethostname()}:{os.getpid()}:{one['gpu'] or ''}",
            local_directory=str(work.FOLDER),
            dashboard=False,
            dashboard_address=NO_DASHBOARD,
        )
        for one in layouts
    ]
    try:
        await asyncio.gather(*workers)
        while all(worker.status == Status.running for worker in workers):
            await asyncio.sleep(0.5)
    except (TimeoutError, OSError, RuntimeError):
        pass  # the scheduler has gone before they were ready
    finally:
        # What runs here now will run elsewhere; and Dask would wait for it.
        work.stop()
        await asyncio.gather(*(worker.close(timeout=5, executor_wait=False) for worker in workers))


def _check_host() -> None:
    """Raise PipelineError, a line for each thing that this host lacks."""
    if not shutil.which("git"):
        raise PipelineError("there is no git on PATH: install it")
    if not Path("dvc.yaml").exists() or not Path(".git").exists():
        raise PipelineError("here is no clone of the project: start the worker in one")
    missing = remotes_missing() or _unreachable()
    if drift := packages.drift(Path("requirements.lock").read_text()):
        missing.append(f"not the packages of requirements.lock: {', '.join(drift)}; make fleet installs them")
    if missing:
        raise PipelineError("\n".join(missing))


def remotes_missing() -> list[str]:
    """Return a line for each remote that the clone here does not name."""
    lines = []
    try:
        git("remote", "get-url", "origin")
    except PipelineError:
        lines.append("there is no Git remote origin: git remote add origin URL names one that all hosts reach")
    done = subprocess.run([sys.executable, "-m", "dvc", "remote", "default"], text=True, stdout=subprocess.PIPE)
    if done.returncode or not done.stdout.strip() or "No default" in done.stdout:
        lines.append("there is no default DVC remote: dvc remote add --local --default NAME URL names one")
    return lines


def _unreachable() -> list[str]:
    lines = []
    try:
        git("push", "--quiet", "--dry-run", "origin", "HEAD:refs/fleet/try")
    except PipelineError as error:
        lines.append(f"the Git remote origin can't be written: {error}")
    done = subprocess.run([sys.executable, "-c", WRITE], text=True, capture_output=True)
    if done.returncode:
        lines.append(f"the DVC remote can't be written: {(done.stderr.strip() or '?').splitlines()[-1]}")
    return lines
