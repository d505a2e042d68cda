"""What the submitter does: hand the queue to a cluster, follow it, and take the results in."""

import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distributed import Client, Future, LocalCluster, fire_and_forget
from dvc.repo.experiments.queue.base import QueueEntry
from tqdm import tqdm

from lenet.errors import PipelineError
from tools.fleet import arithmetic, cluster, offer, work
from tools.fleet.queue import PREFIX, Experiment, finished, git, queued, remove

LOGS = work.FOLDER / "logs"
# How many lines of a failed experiment are shown.
LAST = 8
BAR = "{bar}| {n_fmt} of {total_fmt} are over{postfix} [{elapsed}<{remaining}]"
ELSEWHERE = ", from another commit with equal code and data (dvc exp show -A lists it)"
GONE = (
    "the scheduler has gone; nothing is lost: start it again, and run this again; "
    "what has been run in the meantime is taken as it is"
)


def run(address: str | None, cores: int | None, any_arithmetic: bool) -> int:
    """Run all that is queued, on the cluster at `address` or here; return 0 if everything has succeeded, else 1."""
    if not Path("dvc.yaml").exists():
        raise PipelineError("here is no dvc.yaml: run this in the project's folder")
    if address:
        cluster.check_address(address)
        if missing := cluster.remotes_missing():
            raise PipelineError("\n".join(missing))
    if not (entries := queued()):
        print("nothing is queued: dvc exp run --queue -S 'train.seed=range(0,3)' evaluate queues three experiments")
        return 0
    here = arithmetic.measure()
    sweep = Sweep(bool(address), here, any_arithmetic, _author())
    for entry, experiment in entries:
        sweep.add(entry, experiment)
    sweep.take_what_is_there()
    if sweep.over != sweep.experiments.keys():
        with _client(address, cores or len(os.sched_getaffinity(0)), here) as client:
            sweep.run(client)
    was_there = len(sweep.over) - sweep.ran
    print(f"{len(sweep.experiments)} experiments: {sweep.ran} ran, {was_there} were there, {len(sweep.failed)} failed")
    return int(bool(sweep.failed))


def _author() -> tuple[str, str]:
    try:
        return git("config", "user.name").strip(), git("config", "user.email").strip()
    except PipelineError:
        raise PipelineError(
            "git does not know who you are: git config --global user.name NAME, and user.email ADDRESS"
        ) from None


@contextmanager
def _client(address: str | None, cores: int, here: dict[str, Any]) -> Iterator[Client]:
    if address:
        try:
            client = Client(address, timeout=20, set_as_default=False)
        except (OSError, TimeoutError):
            raise PipelineError(
                f"no scheduler answers at {address}: python -m tools.fleet scheduler starts one", status=1
            ) from None
        with client:
            yield client
        return
    # One worker, in this process: it only waits for others. It has one GPU at most; workers of their own have all.
    offered = offer.resources({"cores": cores, "gpu": "0" if here["gpus"] else None}, here)
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=cores,
            processes=False,
            resources=offered,
            dashboard_address=cluster.NO_DASHBOARD,
            local_directory=str(work.FOLDER),
        ) as local,
        Client(local, set_as_default=False) as client,
    ):
        try:
            yield client
        finally:  # before the worker's threads are waited for
            work.stop()


@dataclass
class Sweep:
    """What is asked for, and what has become of it; experiments go by their content."""

    shared: bool  # whether results go to the remotes and come from there
    here: dict[str, Any]  # this machine's arithmetic
    any_arithmetic: bool
    author: tuple[str, str]  # of the commits that hold the results
    entries: dict[str, list[QueueEntry]] = field(default_factory=lambda: defaultdict(list))  # in DVC's queue
    experiments: dict[str, Experiment] = field(default_factory=dict)
    arrived: dict[str, tuple[str, str]] = field(default_factory=dict)  # refs of results to take in, and how they came
    over: set[str] = field(default_factory=set)
    failed: list[str] = field(default_factory=list)
    ran: int = 0
    sent: dict[str, str] = field(default_factory=dict)  # commits on the Git remote, for the hosts
    running: dict[str, str] = field(default_factory=dict)  # where each runs
    hosts: dict[str, str] = field(default_factory=dict)  # by the worker's address: the name, "" if it takes no part
    largest: int = 0  # how many cores the largest host has; 0: unknown
    waiting: bool = False
    bar: "tqdm[Any]" = field(default_factory=lambda: tqdm(disable=True))

    def add(self, entry: QueueEntry, experiment: Experiment) -> None:
        """Ask for an experiment; equal ones run once."""
        self.entries[experiment.content].append(entry)
        self.experiments[experiment.content] = experiment

    def fingerprint(self, experiment: Experiment) -> str:
        """Return the arithmetic by which it is to be run, or `any`."""
        device = self.device(experiment)
        if self.any_arithmetic:
            return "any"
        if device not in self.here:
            raise PipelineError(
                "compute.device is cuda, but this machine has no GPU whose arithmetic hosts could be held to: "
                "--any-arithmetic takes any, and compute.device=cpu needs none"
            )
        return str(self.here[device])

    def device(self, experiment: Experiment) -> str:
        """Return `cuda` for an experiment that asks for a GPU or, if this machine has one, leaves it open."""
        if not self.shared and not self.here["gpus"]:
            return "cpu"  # where the stage itself says what is missing
        if experiment.device == "cuda" or (experiment.device == "auto" and self.here["gpus"]):
            return "cuda"
        return "cpu"

    def take_what_is_there(self) -> None:
        """Take in what somebody has run."""
        refs = finished(git("for-each-ref", "--format=%(refname)", "refs/exps"))
        if self.shared:
            refs |= finished(git("ls-remote", "origin", "refs/exps/*"))
        for content, experiment in self.experiments.items():
            if ref := work.find(refs, experiment, self.fingerprint(experiment)):
                at_home = ref.split("/")[2:4] == [experiment.baseline[:2], experiment.baseline[2:]]
                self.arrived[content] = ref, f"was there already{'' if at_home else ELSEWHERE}"
        self.take_in()

    def take_in(self) -> None:
        """Bring the results that have arrived into this repository, and only then forget that they were asked for."""
        if not self.arrived:
            return
        if self.shared:
            git("fetch", "--quiet", "origin", *(f"+{ref}:{ref}" for ref, _ in self.arrived.values()))
        remove(entry for content in self.arrived for entry in self.entries[content])
        self.tidy(self.arrived)
        for content, (ref, how) in self.arrived.items():
            self.running.pop(content, None)
            self.tell(f"{ref.rsplit('/', 1)[1]}: {how}")
        self.over |= self.arrived.keys()
        self.arrived.clear()

    def tidy(self, contents: Iterable[str]) -> None:
        """Remove from the Git remote what hosts needed to run these experiments; if that fails, it costs some bytes."""
        if refs := [PREFIX + commit for content in contents if (commit := self.sent.pop(content, None))]:
            subprocess.run(["git", "push", "--quiet", "origin", "--delete", *refs], capture_output=True)

    def run(self, client: Client) -> None:
        """Run what is not there; return when the last one is over."""
        left = {content: one for content, one in self.experiments.items() if content not in self.over}
        if self.shared:
            git(
                "push", "--quiet", "--force", "origin", *(f"{one.commit}:{PREFIX}{one.commit}" for one in left.values())
            )
            self.sent = {content: one.commit for content, one in left.items()}
        self.bar = tqdm(total=len(self.experiments), initial=len(self.over), bar_format=BAR, disable=None)
        client.subscribe_topic("fleet", self.hear)
        self.look(client)
        futures = {content: self.submit(client, experiment) for content, experiment in left.items()}
        # If this process is killed, the hosts go on, and whoever asks again finds what runs already.
        fire_and_forget(list(futures.values()))
        try:
            away = False
            while futures or self.arrived:
                for content in [content for content, future in futures.items() if future.status != "pending"]:
                    self.take(content, futures.pop(content))
                try:
                    self.take_in()
                    away = False
                except PipelineError as error:  # later, then
                    if not away:
                        self.tell(f"waiting for the Git remote: {error}")
                    away = True
                self.look(client)
                time.sleep(5 if away else 0.5)
        except KeyboardInterrupt:
            client.cancel(list(futures.values()), force=True)
            raise
        finally:
            self.bar.close()

    def submit(self, client: Client, experiment: Experiment) -> "Future[work.Result]":
        """Hand an experiment to the cluster; what another submitter has handed in, too, runs once."""
        device, fingerprint = self.device(experiment), self.fingerprint(experiment)
        # On hosts with fewer cores than it has threads, an experiment has all of them.
        needed = (
            {"gpu": 1} if device == "cuda" else {"cores": min(experiment.threads, self.largest or experiment.threads)}
        )
        return client.submit(
            work.run,
            work.Job(experiment, self.author, device == "cuda", self.shared),
            key=f"fleet-{experiment.content}-{fingerprint}",
            resources=needed | {offer.mark(device, fingerprint): 1},
            retries=2,
            pure=False,
        )

    def take(self, content: str, future: "Future[work.Result]") -> None:
        """Note what has become of an experiment."""
        name = f"{self.experiments[content].label}-{content}"
        self.bar.update()
        if future.status == "finished":
            result = future.result()
            log = LOGS / f"{name}.log"
            if result.log:
                log.parent.mkdir(parents=True, exist_ok=True)
                log.write_text(result.log)
            if result.ref:
                self.ran += bool(result.log)  # else somebody was faster
                ran = f"ran on {result.host} in {result.seconds:.0f} s"
                self.arrived[content] = result.ref, ran if result.log else "was there already"
                return
            self.tell(f"{name}: failed on {result.host}; all it printed is in {log}")
            for line in result.log.rstrip().splitlines()[-LAST:]:
                self.tell(f"    {line}")
        elif future.status == "error":
            self.tell(f"{name}: did not end well on any host: {future.exception()}")
        else:
            raise PipelineError(GONE, status=1)
        self.running.pop(content, None)
        self.failed.append(content)
        self.tidy([content])

    def look(self, client: Client) -> None:
        """Tell which hosts have come and gone, and show what runs."""
        try:
            workers = client.scheduler_info()["workers"]
        except (OSError, TimeoutError):
            raise PipelineError(GONE, status=1) from None
        offers = {address: (str(one["name"]).split(":")[0], one["resources"]) for address, one in workers.items()}
        for address in self.hosts.keys() - offers.keys():
            if host := self.hosts.pop(address):
                self.tell(f"{host} has gone; what ran there runs elsewhere")
        for address, (host, offered) in offers.items():
            if address not in self.hosts:
                objection = offer.objection(offered, self.here, self.any_arithmetic)
                self.hosts[address] = "" if objection else host
                self.largest = max(self.largest, 0 if objection else int(offered["cores"]))
                if self.shared:
                    self.tell(f"{host}: {objection or offer.describe(offered)}")
        if not any(self.hosts.values()) and not self.waiting:
            self.tell("no host takes part: waiting for one; python -m tools.fleet worker starts it")
        self.waiting = not any(self.hosts.values())
        where = "; " + ", ".join(sorted({host for host in self.hosts.values() if host})) if self.shared else ""
        self.bar.set_postfix_str(f"{len(self.running)} running, {len(self.failed)} failed{where}")

    def hear(self, event: tuple[float, dict[str, str]]) -> None:
        """Take what a host says of an experiment."""
        content, host, what = (event[1][key] for key in ("content", "host", "what"))
        if content not in self.experiments or content in self.over:
            return
        if what == "starts":
            self.running[content] = host
        else:
            self.tell(f"{self.experiments[content].label}-{content} on {host} {what}")

    def tell(self, line: str) -> None:
        """Print a line above the progress bar."""
        tqdm.write(line)
        sys.stdout.flush()
