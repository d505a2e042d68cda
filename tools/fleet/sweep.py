"""The submitter: sends the queue to a cluster, reports progress, and fetches the results."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import dask
from distributed import Client, Future, LocalCluster, fire_and_forget
from dvc.repo.experiments.queue.base import QueueEntry
from tqdm import tqdm

from lenet.errors import PipelineError
from tools.fleet import cluster, marks, work
from tools.fleet.numerics import Machine, measure
from tools.fleet.queue import PREFIX, Experiment, find, queued, remove, results
from tools.git import git

LOGS = work.FOLDER / "logs"
# How many lines of a failed experiment are shown.
LAST = 8
BAR = "{bar}| {n_fmt} of {total_fmt} finished{postfix} [{elapsed}<{remaining}]"
ELSEWHERE = ", from another commit with equal code and data (dvc exp show -A lists it)"
GONE = (
    "the scheduler has stopped; nothing is lost: restart it, then run this command again, "
    "which also fetches what has finished in the meantime"
)


def run(address: str | None, cores: int | None, any_numerics: bool) -> int:
    """Run all that is queued, on the cluster at `address` or here; return 0 if everything has succeeded, else 1."""
    if not Path("dvc.yaml").exists():
        raise PipelineError("there is no dvc.yaml here: run this in the project's folder")
    if address:
        cluster.check_address(address)
        if missing := cluster.remotes_missing():
            raise PipelineError("\n".join(missing))
    if not (queue := queued()):
        print("nothing is queued; to queue three experiments: dvc exp run --queue -S 'train.seed=range(0,3)' evaluate")
        return 0
    sweep = Sweep(queue, bool(address), measure(), any_numerics, _author())
    sweep.fetch_existing()
    if sweep.left:
        with _client(address, cores or len(os.sched_getaffinity(0)), sweep.here) as client:
            sweep.run(client)
    n, already_done = len(sweep.experiments), len(sweep.experiments) - sweep.ran - sweep.failed
    print(f"{n} experiments: {sweep.ran} ran, {already_done} were already done, {sweep.failed} failed")
    return int(bool(sweep.failed))


def _author() -> tuple[str, str]:
    try:
        return git("config", "user.name").strip(), git("config", "user.email").strip()
    except PipelineError:
        raise PipelineError(
            "git does not know who you are: set user.name and user.email with git config --global"
        ) from None


@contextmanager
def _client(address: str | None, cores: int, here: Machine) -> Iterator[Client]:
    """Connect to the scheduler at `address`, or to one in this process, with one worker that only starts programs."""
    if address:
        try:
            client = Client(address, timeout=20, set_as_default=False)
        except (OSError, TimeoutError):
            raise PipelineError(
                f"no scheduler answers at {address}: start one with python -m tools.fleet scheduler", status=1
            ) from None
        with client:
            yield client
        return
    with (
        # A worker in this process can't get lost; it is silent only while the whole machine is suspended.
        dask.config.set({"distributed.scheduler.worker-ttl": None}),
        LocalCluster(
            n_workers=1,
            threads_per_worker=cores,
            processes=False,
            resources=marks.resources(cores, here.numerics),
            dashboard_address=cluster.NO_DASHBOARD,
            local_directory=str(work.FOLDER),
        ) as local,
        Client(local, set_as_default=False) as client,
    ):
        try:
            yield client
        finally:  # before the worker's threads are waited for
            work.stop()


def print_line(line: str) -> None:
    """Print a line above the progress bar."""
    tqdm.write(line)
    sys.stdout.flush()


@dataclass
class Sweep:
    """The queued experiments and their progress. They are identified by their content, so that equal ones run once."""

    queue: list[tuple[QueueEntry, Experiment]]
    shared: bool  # whether results go to the remotes and come from there
    here: Machine
    any_numerics: bool
    author: tuple[str, str]  # of the commits that hold the results
    hosts: dict[str, int] | None = None  # by the worker's address: its cores, or 0 if it is not used
    ran: int = 0
    failed: int = 0

    def __post_init__(self) -> None:
        self.experiments = {experiment.content: experiment for _, experiment in self.queue}
        self.left = self.experiments.copy()  # those that have not finished
        self.names: dict[str, str] = {}  # of hosts, by the worker's address

    def requirement(self, experiment: Experiment) -> tuple[str, str]:
        """Return the device and the numerics with which `experiment` must run; `""` for any numerics.

        The device is `cuda` if the experiment asks for a GPU or, where this machine has one, leaves it open.
        """
        cuda = experiment.device == "cuda" or (experiment.device == "auto" and self.here.gpus)
        if not self.shared and not self.here.gpus:
            cuda = False  # the stage itself says what is missing
        device = "cuda" if cuda else "cpu"
        if self.any_numerics:
            return device, ""
        if device not in self.here.numerics:
            raise PipelineError(
                "compute.device is cuda, but this machine has no GPU to compare the numerics of the hosts with: "
                "use --any-numerics, or set compute.device to cpu"
            )
        return device, self.here.numerics[device]

    def fetch_existing(self) -> None:
        """Fetch results that already exist."""
        refs = results(git("for-each-ref", "--format=%(refname)", "refs/exps"))
        if self.shared:
            refs |= results(git("ls-remote", "origin", "refs/exps/*"))
        arrived = {}
        for content, experiment in self.experiments.items():
            if ref := find(refs, experiment, self.requirement(experiment)[1]):
                at_home = ref.split("/")[2:4] == [experiment.baseline[:2], experiment.baseline[2:]]
                arrived[content] = ref, f"was already done{'' if at_home else ELSEWHERE}"
        self.fetch_results(arrived)

    def fetch_results(self, arrived: dict[str, tuple[str, str]]) -> None:
        """Fetch results into this repository, and only then remove their experiments from the queue.

        `arrived` maps the content of each experiment to the ref of its result and what to print about it. Waits while
        the Git remote is unavailable.
        """
        told = not arrived or not self.shared
        while arrived and self.shared:
            try:
                git("fetch", "--quiet", "origin", *(f"+{ref}:{ref}" for ref, _ in arrived.values()))
                break
            except PipelineError as error:
                if not told:
                    print_line(f"waiting for the Git remote: {error}")
                told = True
                time.sleep(5)
        if arrived:
            remove(entry for entry, experiment in self.queue if experiment.content in arrived)
        for content, (ref, how) in arrived.items():
            print_line(f"{ref.rsplit('/', 1)[1]}: {how}")
            del self.left[content]

    def run(self, client: Client) -> None:
        """Run the remaining experiments; return when all have finished."""
        sent = self.left.copy()
        if self.shared:
            commits = [experiment.commit for experiment in sent.values()]
            git("push", "--quiet", "--force", "origin", *(f"{commit}:{PREFIX}{commit}" for commit in commits))
        client.subscribe_topic("fleet", self.on_message)
        self.update_hosts(client)
        futures = {content: self.submit(client, experiment) for content, experiment in sent.items()}
        # If this process is killed, the hosts continue, and the next submitter finds the experiments that are running.
        fire_and_forget(list(futures.values()))
        total = len(self.experiments)
        try:
            with tqdm(total=total, initial=total - len(self.left), bar_format=BAR, disable=None) as bar:
                while self.left:
                    over = [content for content, future in futures.items() if future.status != "pending"]
                    self.fetch_results(
                        {content: came for content in over if (came := self.collect(content, futures.pop(content)))}
                    )
                    self.update_hosts(client)
                    bar.set_postfix_str(f"{self.failed} failed", refresh=False)
                    bar.update(len(over))
                    time.sleep(0.5)
        except KeyboardInterrupt:
            client.cancel(list(futures.values()), force=True)
            raise
        finally:
            self.clean_up([experiment for content, experiment in sent.items() if content not in self.left])

    def clean_up(self, over: list[Experiment]) -> None:
        """Remove the commits of finished experiments from the Git remote; a failure does no harm."""
        if self.shared and over:
            refs = [PREFIX + experiment.commit for experiment in over]
            subprocess.run(["git", "push", "--quiet", "origin", "--delete", *refs], capture_output=True)

    def submit(self, client: Client, experiment: Experiment) -> "Future[work.Result]":
        """Submit an experiment to the cluster; if another submitter has submitted it, too, it runs once."""
        device, numerics = self.requirement(experiment)
        # If no host has as many cores as the experiment has threads, it gets all cores of the largest host.
        largest = max((self.hosts or {}).values(), default=0)
        needed = {"gpu": 1} if device == "cuda" else {"cores": min(experiment.threads, largest or experiment.threads)}
        return client.submit(
            work.run,
            work.Job(experiment, self.author, device == "cuda", self.shared),
            key=f"fleet-{experiment.content}-{numerics or 'any'}",
            resources=needed | {marks.mark(device, numerics): 1},
            retries=2,
            pure=False,
        )

    def collect(self, content: str, future: "Future[work.Result]") -> tuple[str, str] | None:
        """Return the ref of a result and what to print about it, or print why there is none."""
        name = self.experiments[content].name
        if future.status == "finished":
            result = future.result()
            log = LOGS / f"{name}.log"
            if result.log:
                log.parent.mkdir(parents=True, exist_ok=True)
                log.write_text(result.log)
            if result.ref:
                self.ran += bool(result.log)  # otherwise another submitter's run was used
                ran = f"ran on {result.host} in {result.seconds:.0f} s"
                return result.ref, ran if result.log else "was already done"
            print_line(f"{name}: failed on {result.host}; its full output is in {log}")
            for line in result.log.rstrip().splitlines()[-LAST:]:
                print_line(f"    {line}")
        elif future.status == "error":
            print_line(f"{name}: could not be run on any host: {future.exception()}")
        else:
            raise PipelineError(GONE, status=1)
        self.failed += 1
        del self.left[content]
        return None

    def update_hosts(self, client: Client) -> None:
        """Print which hosts have joined or left."""
        try:
            # Not client.scheduler_info(), whose answer a periodic update without workers may replace.
            workers = client.sync(cast(Any, client.scheduler).identity, n_workers=-1)["workers"]
        except (OSError, TimeoutError):
            raise PipelineError(GONE, status=1) from None
        waiting = self.hosts is not None and not any(self.hosts.values())
        hosts = self.hosts or {}
        wanted = {marks.mark(*self.requirement(experiment)) for experiment in self.experiments.values()}
        self.hosts = {}
        for address, worker in workers.items():
            host, offered = str(worker["name"]).split(":")[0], worker["resources"]
            objections = [marks.objection(offered, mark) for mark in wanted]
            self.hosts[address] = int(offered["cores"]) if "" in objections else 0
            self.names[address] = host
            if self.shared and address not in hosts:
                print_line(f"{host}: {marks.describe(offered) if self.hosts[address] else objections[0]}")
        for address in hosts.keys() - workers.keys():
            if hosts[address]:
                print_line(f"lost {self.names[address]}; its experiments will run elsewhere")
        if not any(self.hosts.values()) and not waiting:
            print_line("waiting for a suitable host: start one with python -m tools.fleet worker")

    def on_message(self, event: tuple[float, dict[str, str]]) -> None:
        """Print a host's message about an experiment."""
        if event[1]["content"] in self.left:
            print_line(event[1]["line"])
