"""The Dask cluster: the scheduler, and the workers on each host."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import dask
from distributed import Scheduler, Status, Worker
from distributed.core import rpc
from dvc.repo import Repo

from stages.launch import packages
from tools.errors import ToolError
from tools.fleet import marks, work
from tools.fleet.numerics import measure
from tools.git import git

# Dask serves HTTP even without its dashboard. This is not needed, and two servers would collide on the default port.
NO_DASHBOARD = "127.0.0.1:0"

dask.config.set(
    {
        # A host that is silent for this long is considered lost, and its experiments run elsewhere.
        "distributed.scheduler.worker-ttl": "15s",
        "distributed.comm.timeouts.tcp": "20s",
        # An experiment is given up only after this many hosts have died while running it: it is rarely the cause.
        "distributed.scheduler.allowed-failures": 20,
        # The expected duration before any experiment has finished, so that Dask spreads them evenly.
        "distributed.scheduler.default-task-durations": {"fleet": "60s"},
        # An experiment's memory is not in the worker's own process.
        **{f"distributed.worker.memory.{limit}": False for limit in ("target", "spill", "pause", "terminate")},
    }
)
logging.disable(logging.CRITICAL)  # Dask's; this module prints what matters


async def serve_scheduler(host: str, port: int) -> int:
    """Hand out experiments until Ctrl-C."""
    try:
        async with Scheduler(host=host, port=port, dashboard=False, dashboard_address=NO_DASHBOARD) as scheduler:
            print(f"scheduler: {scheduler.address}")
            await scheduler.finished()
    except (OSError, RuntimeError) as error:  # Dask may wrap the first in the second
        why = error.__cause__ or error
        raise ToolError(
            f"the scheduler can't listen on {host}:{port}: {why}; choose others with --host and --port"
        ) from None
    return 0


def answers(address: str) -> bool:
    """Return whether a scheduler answers at `address` within ten seconds; raise ToolError if something else does."""

    async def kind() -> object:
        async with rpc(address, timeout=5) as other:
            return (await other.identity())["type"]

    try:
        if asyncio.run(asyncio.wait_for(kind(), 10)) == "Scheduler":
            return True
    except OSError:  # TimeoutError is one, too
        return False
    except Exception:  # noqa: S110 - Dask fails in many ways on what it can't read
        pass
    raise ToolError(f"what answers at {address} is no scheduler; python -m tools.fleet scheduler prints its address")


def serve_worker(address: str, cores: int) -> int:
    """Run experiments on this host until Ctrl-C; if the scheduler stops, wait until it is back.

    Each GPU has a worker process of its own. Raises ToolError if the host lacks something, can't run experiments
    any longer, or has found no scheduler for work.PATIENCE seconds.
    """
    missing = remotes_missing()
    if drift := packages.drift(Path("requirements.lock").read_text()):
        missing.append(f"packages differ from requirements.lock: {', '.join(drift)}; make fleet installs them")
    if missing:
        raise ToolError("\n".join(missing))
    machine = measure()
    if machine.gpus > 1:
        return _serve_gpus(address, visible(machine.gpus), max(1, cores // machine.gpus))
    offered = marks.resources(cores, machine.numerics)
    print(f"worker on {socket.gethostname()}: {marks.describe(offered)}")
    while not work.LEFT:
        if not answers(address):
            print(f"no scheduler answers at {address} yet; waiting for up to {work.PATIENCE // 60} minutes")
        asyncio.run(_serve(address, offered))
    raise ToolError(f"this host can't run experiments any longer: {work.LEFT[0]}", status=1)


def visible(gpus: int) -> list[str]:
    """Return the names of the first `gpus` GPUs, in the form that `CUDA_VISIBLE_DEVICES` takes."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    return names.split(",")[:gpus] if names else [str(number) for number in range(gpus)]


def _serve_gpus(address: str, names: list[str], cores: int) -> int:
    """Run a worker process for each GPU, each of which sees only its own GPU; return 1 if any has failed."""
    command = [sys.executable, "-m", "tools.fleet", "worker", address, "--cores", str(cores)]
    # In groups of their own: a terminal's Ctrl-C reaches this process alone, which passes it on once.
    workers = [
        subprocess.Popen(command, env=os.environ | {"CUDA_VISIBLE_DEVICES": name}, process_group=0) for name in names
    ]
    try:
        statuses = [worker.wait() for worker in workers]
        return int(any(statuses))
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait()


async def _serve(address: str, offered: dict[str, float]) -> None:
    """Work for the scheduler until it stops, or until an experiment finds that this host can't run any more."""
    work.STOPPING.clear()
    worker = Worker(
        address,
        nthreads=int(offered["cores"]),
        resources=offered,
        name=f"{socket.gethostname()}:{os.getpid()}",
        local_directory=str(work.FOLDER),
        dashboard=False,
        dashboard_address=NO_DASHBOARD,
        death_timeout=work.PATIENCE,
    )
    try:
        await worker
        print(f"connected to {address}")
        while worker.status == Status.running:
            await asyncio.sleep(0.5)
    except TimeoutError:
        minutes = work.PATIENCE // 60
        raise ToolError(f"there has been no scheduler at {address} for {minutes} minutes", status=1) from None
    except (OSError, RuntimeError):
        await asyncio.sleep(1)  # the scheduler stopped before the worker was ready
    finally:
        # Kill what is running here: it will be rerun elsewhere, and Dask would wait for it to finish.
        work.stop()
        await worker.close(timeout=5, executor_wait=False)
    if not work.LEFT:
        print(f"lost the connection to {address}; reconnecting")


def remotes_missing() -> list[str]:
    """Return a line for each of the clone's two remotes that can't be written to."""
    lines = []
    try:
        git("push", "--quiet", "--no-verify", "--dry-run", "origin", "HEAD:refs/fleet/try")
    except ToolError as error:
        lines.append(f"can't write to the Git remote origin: {error}; git remote add origin URL adds one")
    try:
        with Repo() as repo:
            remote = repo.cloud.get_remote_odb()
            path = remote.fs.join(remote.path, f"fleet-{uuid4()}")
            remote.fs.makedirs(remote.path, exist_ok=True)
            remote.fs.pipe_file(path, b"")
            remote.fs.remove(path)
    except Exception as error:  # each kind of remote raises its own
        why = " ".join(str(error).split()) or type(error).__name__
        lines.append(f"can't write to the DVC remote: {why}; dvc remote add --local --default NAME URL adds one")
    return lines
