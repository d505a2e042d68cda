"""Run the experiments that DVC has queued: on this machine, or on many.

    python -m tools.fleet run                          on this machine, as many at a time as its cores allow
    python -m tools.fleet scheduler --host ADDRESS     once, on one host of a trusted network
    python -m tools.fleet worker tcp://ADDRESS:8786    on each host, in a clone of the project
    python -m tools.fleet run tcp://ADDRESS:8786       on these hosts

docs/many-machines.md says what each host needs, and what happens when one dies.
"""

import argparse
import asyncio
import re
import signal
import sys
from io import TextIOWrapper
from typing import cast

from tools.errors import ToolError, run


def _options() -> argparse.Namespace:
    """Return what the command line asks for; raise ToolError for an invalid value."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.fleet", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cores = argparse.ArgumentParser(add_help=False)
    how_many = "the number of this machine's cores to use (default: all)"
    cores.add_argument("--cores", type=int, metavar="N", help=how_many)
    parser.set_defaults(address=None, cores=None, port=0)
    commands = parser.add_subparsers(dest="command", required=True)
    submit = commands.add_parser("run", parents=[cores], help="run what `dvc exp run --queue` has queued")
    submit.add_argument("address", nargs="?", metavar="tcp://HOST:PORT", help="the scheduler (default: run here)")
    any_numerics = "use hosts and results whose last bits differ from this machine's"
    submit.add_argument("--any-numerics", "--any-arithmetic", action="store_true", help=any_numerics)
    serve = commands.add_parser("scheduler", help="start the scheduler, which hands out experiments")
    serve.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: this machine only)")
    serve.add_argument("--port", type=int, default=8786)
    work = commands.add_parser("worker", parents=[cores], help="let this host run experiments")
    work.add_argument("address", metavar="tcp://HOST:PORT", help="of the scheduler")
    options = parser.parse_args()
    if options.cores is not None and options.cores < 1:
        raise ToolError(f"--cores is {options.cores}, but must be at least 1")
    if not 0 <= options.port < 2**16:  # Dask would choose another port
        raise ToolError(f"--port is {options.port}, but must be between 0 (any free port) and {2**16 - 1}")
    if options.address is not None and not re.fullmatch(r"tcp://.+:\d+", options.address):
        raise ToolError(f"the scheduler's address is {options.address!r}, but must look like tcp://10.0.0.1:8786")
    return options


def main() -> int:
    """Do what the command line says; return the exit status."""
    options = _options()
    cast(TextIOWrapper, sys.stdout).reconfigure(line_buffering=True)  # show each line immediately, even in a log file
    # asyncio turns SIGINT, but not SIGTERM, into an orderly end; a shell may have started this with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        from dask.system import CPU_COUNT

        from tools.fleet import cluster, sweep  # here, so that a missing package is reported in one line
    except ModuleNotFoundError as error:
        raise ToolError(f"{error}: run make fleet") from None
    cores = options.cores or CPU_COUNT
    try:
        if options.command == "run":
            return sweep.run(options.address, cores, options.any_numerics)
        if options.command == "scheduler":
            return asyncio.run(cluster.serve_scheduler(options.host, options.port))
        return cluster.serve_worker(options.address, cores)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    run(main)
