"""Run the experiments that DVC has queued: on this machine, or on many.

    python -m tools.fleet run                          on this machine, as many at a time as its cores allow
    python -m tools.fleet scheduler --host ADDRESS     once, on one host of a trusted network
    python -m tools.fleet worker tcp://ADDRESS:8786    on each host, in a clone of the project
    python -m tools.fleet run tcp://ADDRESS:8786       over there

docs/many-machines.md says what each host needs, and what happens when one dies.
"""

import argparse
import signal
import sys
from typing import NoReturn

from lenet.errors import PipelineError, run


def main() -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.fleet", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    asked = commands.add_parser("run", help="run what `dvc exp run --queue` has queued")
    asked.add_argument("address", nargs="?", metavar="tcp://HOST:PORT", help="of the scheduler; without: here")
    asked.add_argument("--cores", type=int, metavar="N", help="without a scheduler: how many of the cores to use (all)")
    asked.add_argument(
        "--any-arithmetic", action="store_true", help="use hosts and results whose last bits differ from this machine's"
    )
    serve = commands.add_parser("scheduler", help="start what hands out the experiments")
    serve.add_argument("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1: this machine alone)")
    serve.add_argument("--port", type=int, default=8786)
    work = commands.add_parser("worker", help="let this host run experiments")
    work.add_argument("address", metavar="tcp://HOST:PORT", help="of the scheduler")
    work.add_argument("--cores", type=int, metavar="N", help="how many of the cores to use (all)")
    options = parser.parse_args()
    cores = getattr(options, "cores", None)
    if cores is not None and cores < 1:
        raise PipelineError(f"--cores is {cores}, but must be at least 1")
    port = getattr(options, "port", 0)
    if not 0 <= port < 2**16:
        raise PipelineError(f"--port is {port}, but must be from 0 (any that is free) to {2**16 - 1}")
    signal.signal(signal.SIGTERM, _stop)
    try:
        from tools.fleet import cluster, sweep  # here, where a missing package is told in one line
    except ModuleNotFoundError as error:
        if str(error.name).split(".")[0] in ("lenet", "tools"):
            raise
        raise PipelineError(f"there is no package {error.name}: make fleet installs what this needs") from None
    try:
        if options.command == "run":
            return sweep.run(options.address, cores, options.any_arithmetic)
        if options.command == "scheduler":
            return cluster.serve_scheduler(options.host, options.port)
        return cluster.serve_worker(options.address, cores)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _stop(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    run(main)
