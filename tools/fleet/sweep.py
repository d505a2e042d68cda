"""What the submitter does: hand the queue to a cluster, follow it, and take the results in."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

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
BAR = "{bar}| {n_fmt} of {total_fmt} are over{postfix} [{elapsed}<{remaining}]"
ELSEWHERE = ", from another commit with equal code and data (dvc exp show -A lists it)"
GONE = (
    "the scheduler has gone; nothing is lost: start it again, and run this again; "
    "what has been run in the meantime is taken as it is"
)


def run(address: str | None, cores: int, any_numerics: bool) -> int:
    """Run all that is queued, on the cluster at `address` or here; return 0 if everything has succeeded, else 1."""
    if not Path(".git").exists():
        raise PipelineError("here is no clone of the project: run this in one")
    if address and (missing := cluster.remotes_missing()):
        raise PipelineError("\n".join(missing))
    if not (queue := queued()):
        print("nothing is queued: dvc exp run --queue -S 'train.seed=range(0,3)' evaluate queues three experiments")
        return 0
    sweep = Sweep(queue, bool(address), measure(), any_numerics, _author())
    sweep.take_what_is_there()
    if sweep.left:
        with _client(address, cores, sweep.here) as client:
            sweep.run(client)
    n, was_there = len(sweep.experiments), len(sweep.experiments) - sweep.ran - sweep.failed
    print(f"{n} experiments: {sweep.ran} ran, {was_there} were there, {sweep.failed} failed")
    return int(bool(sweep.failed))


def _author() -> tuple[str, str]:
    try:
        return git("config", "user.name").strip(), git("config", "user.email").strip()
    except PipelineError:
        raise PipelineError(
            "git does not know who you are: git config --global user.name NAME, and user.email ADDRESS"
        ) from None


@contextmanager
def _client(address: str | None, cores: int, here: Machine) -> Iterator[Client]:
    """Connect to the scheduler at `address`, or to one in this process, with one worker that only starts programs."""
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
    with (
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


def tell(line: str) -> None:
    """Print a line above the progress bar."""
    tqdm.write(line)
    sys.stdout.flush()


@dataclass
class Sweep:
    """What is asked for, and what has become of it; experiments go by their content, so that equal ones run once."""

    queue: list[tuple[QueueEntry, Experiment]]
    shared: bool  # whether results go to the remotes and come from there
    here: Machine
    any_numerics: bool
    author: tuple[str, str]  # of the commits that hold the results
    hosts: dict[str, int] | None = None  # how many cores each has, 0 if it takes no part, by the worker's address
    ran: int = 0
    failed: int = 0

    def __post_init__(self) -> None:
        self.experiments = {experiment.content: experiment for _, experiment in self.queue}
        self.left = self.experiments.copy()  # those that are not over
        self.names: dict[str, str] = {}  # of hosts, by the worker's address

    def requirement(self, experiment: Experiment) -> tuple[str, str]:
        """Return the device and the numerics by which `experiment` is to be run; `""` for any numerics.

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
                "compute.device is cuda, but this machine has no GPU whose numerics hosts could be held to: "
                "--any-numerics takes any, and compute.device=cpu needs none"
            )
        return device, self.here.numerics[device]

    def take_what_is_there(self) -> None:
        """Take in what somebody has run."""
        refs = results(git("for-each-ref", "--format=%(refname)", "refs/exps"))
        if self.shared:
            refs |= results(git("ls-remote", "origin", "refs/exps/*"))
        arrived = {}
        for content, experiment in self.experiments.items():
            if ref := find(refs, experiment, self.requirement(experiment)[1]):
                at_home = ref.split("/")[2:4] == [experiment.baseline[:2], experiment.baseline[2:]]
                arrived[content] = ref, f"was there already{'' if at_home else ELSEWHERE}"
        self.take_in(arrived)

    def take_in(self, arrived: dict[str, tuple[str, str]]) -> None:
        """Bring results into this repository, and only then forget that they were asked for.

        `arrived` has the ref of each, and how it came. While the Git remote is away, this waits for it.
        """
        told = not arrived or not self.shared
        while arrived and self.shared:
            try:
                git("fetch", "--quiet", "origin", *(f"+{ref}:{ref}" for ref, _ in arrived.values()))
                break
            except PipelineError as error:
                if not told:
                    tell(f"waiting for the Git remote: {error}")
                told = True
                time.sleep(5)
        if arrived:
            remove(entry for entry, experiment in self.queue if experiment.content in arrived)
        for content, (ref, how) in arrived.items():
            tell(f"{ref.rsplit('/', 1)[1]}: {how}")
            del self.left[content]

    def run(self, client: Client) -> None:
        """Run what is not there; return when the last one is over."""
        sent = self.left.copy()
        if self.shared:
            commits = [experiment.commit for experiment in sent.values()]
            git("push", "--quiet", "--force", "origin", *(f"{commit}:{PREFIX}{commit}" for commit in commits))
        client.subscribe_topic("fleet", self.hear)
        self.look(client)
        futures = {content: self.submit(client, experiment) for content, experiment in sent.items()}
        # If this process is killed, the hosts go on, and whoever asks again finds what runs already.
        fire_and_forget(list(futures.values()))
        total = len(self.experiments)
        try:
            with tqdm(total=total, initial=total - len(self.left), bar_format=BAR, disable=None) as bar:
                while self.left:
                    over = [content for content, future in futures.items() if future.status != "pending"]
                    self.take_in(
                        {content: came for content in over if (came := self.take(content, futures.pop(content)))}
                    )
                    self.look(client)
                    bar.set_postfix_str(f"{self.failed} failed", refresh=False)
                    bar.update(len(over))
                    time.sleep(0.5)
        except KeyboardInterrupt:
            client.cancel(list(futures.values()), force=True)
            raise
        finally:
            self.tidy([experiment for content, experiment in sent.items() if content not in self.left])

    def tidy(self, over: list[Experiment]) -> None:
        """Remove from the Git remote what hosts needed to run these; if that fails, it costs some bytes."""
        if self.shared and over:
            refs = [PREFIX + experiment.commit for experiment in over]
            subprocess.run(["git", "push", "--quiet", "origin", "--delete", *refs], capture_output=True)

    def submit(self, client: Client, experiment: Experiment) -> "Future[work.Result]":
        """Hand an experiment to the cluster; what another submitter has handed in, too, runs once."""
        device, numerics = self.requirement(experiment)
        # On hosts with fewer cores than it has threads, an experiment has all of them.
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

    def take(self, content: str, future: "Future[work.Result]") -> tuple[str, str] | None:
        """Return the ref of a result and how it came, or tell why there is none."""
        name = self.experiments[content].name
        if future.status == "finished":
            result = future.result()
            log = LOGS / f"{name}.log"
            if result.log:
                log.parent.mkdir(parents=True, exist_ok=True)
                log.write_text(result.log)
            if result.ref:
                self.ran += bool(result.log)  # else somebody was faster
                ran = f"ran on {result.host} in {result.seconds:.0f} s"
                return result.ref, ran if result.log else "was there already"
            tell(f"{name}: failed on {result.host}; all it printed is in {log}")
            for line in result.log.rstrip().splitlines()[-LAST:]:
                tell(f"    {line}")
        elif future.status == "error":
            tell(f"{name}: did not end well on any host: {future.exception()}")
        else:
            raise PipelineError(GONE, status=1)
        self.failed += 1
        del self.left[content]
        return None

    def look(self, client: Client) -> None:
        """Tell which hosts have come and gone."""
        try:
            workers = client.scheduler_info(n_workers=-1)["workers"]
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
                tell(f"{host}: {marks.describe(offered) if self.hosts[address] else objections[0]}")
        for address in hosts.keys() - workers.keys():
            if hosts[address]:
                tell(f"{self.names[address]} has gone; what ran there runs elsewhere")
        if not any(self.hosts.values()) and not waiting:
            tell("no host takes part: waiting for one; python -m tools.fleet worker starts it")

    def hear(self, event: tuple[float, dict[str, str]]) -> None:
        """Tell what a host says of an experiment."""
        if event[1]["content"] in self.left:
            tell(event[1]["line"])
