"""The submitter: sends the queue to a cluster, reports progress, and fetches the results."""

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Future, fire_and_forget
from tqdm import tqdm

from tools.errors import ToolError
from tools.fleet import cluster, marks, work
from tools.fleet.numerics import Machine, measure
from tools.fleet.queue import Experiment, find, queued, remove, results
from tools.git import git

LOGS = work.FOLDER / "logs"
# The experiments of a sweep that has not ended: by content, its ref for the hosts and its outcome, if it has one.
UNFINISHED = work.FOLDER / "unfinished.json"
# How many lines of a failed experiment are shown.
LAST = 8
BAR = "{bar}| {n_fmt} of {total_fmt} finished{postfix} [{elapsed}<{remaining}]"
GONE = (
    "the scheduler has stopped; nothing is lost: restart it, then run this command again, "
    "which also fetches what has finished in the meantime"
)
ELSEWHERE = ", from another commit with equal code and data (dvc exp show -A lists it)"


def run(address: str | None, cores: int, any_numerics: bool) -> int:
    """Run all that is queued, on the cluster at `address` or here; return 0 if everything has succeeded, else 1."""
    if not Path(".dvc").is_dir() or not top_level():
        raise ToolError("this folder is not a clone of the project: run this in one")
    if address and (missing := cluster.remotes_missing()):
        raise ToolError("\n".join(missing))
    if not (experiments := queued()):
        print("nothing is queued; to queue three experiments: dvc exp run --queue -S 'train.seed=range(0,3)' evaluate")
        return 0
    here = measure()
    [author] = re.findall("(.*) <(.*)>", git("var", "GIT_AUTHOR_IDENT"))
    sweep = Sweep([_job(experiment, here, author, bool(address), any_numerics) for experiment in experiments])
    sweep.remove_refs(sweep.stale)
    sweep.fetch_existing()
    if sweep.left:
        with _client(address, cores, here) as client:
            sweep.run(client)
    UNFINISHED.unlink(missing_ok=True)
    print(sweep.summary())
    return int("failed" in sweep.all_outcomes)


def top_level() -> str:
    """Return the folder of the Git repository, which may be above the project's, or "" outside of one."""
    try:
        return git("rev-parse", "--show-toplevel").strip()
    except ToolError:
        return ""


def _job(experiment: Experiment, here: Machine, author: tuple[str, str], shared: bool, any_numerics: bool) -> work.Job:
    """Return the job to run `experiment` with the numerics of this machine, or with any.

    Its device is `cuda` if the experiment asks for a GPU or, where this machine has one, leaves it open.
    """
    cuda = experiment.device == "cuda" or (experiment.device == "auto" and here.gpus)
    if not shared and not here.gpus:
        cuda = False  # the stage itself says what is missing
    device = "cuda" if cuda else "cpu"
    if not any_numerics and device not in here.numerics:
        raise ToolError(
            "compute.device is cuda, but this machine has no GPU to compare the numerics of the hosts with: "
            "use --any-numerics, or set compute.device to cpu"
        )
    return work.Job(experiment, device, "" if any_numerics else here.numerics[device], author, shared)


@contextmanager
def _client(address: str | None, cores: int, here: Machine) -> Iterator[Client]:
    """Connect to the scheduler at `address`, or to one in this process, with one worker that only starts programs."""
    local = {
        "n_workers": 1,
        "threads_per_worker": cores,
        "processes": False,
        "resources": marks.resources(cores, here.numerics),
        "dashboard_address": cluster.NO_DASHBOARD,
        "local_directory": str(work.FOLDER),
    }
    if address and not cluster.answers(address):
        raise ToolError(f"no scheduler answers at {address}: start one with python -m tools.fleet scheduler", status=1)
    # A worker in this process can't get lost; it is silent only while the whole machine is suspended.
    with dask.config.set({} if address else {"distributed.scheduler.worker-ttl": None}):
        client = Client(address, timeout=20, set_as_default=False, **({} if address else local))
    with client:
        try:
            yield client
        finally:  # before the threads of a worker in this process are waited for
            work.stop()


class Sweep:
    """The queued experiments and their progress. They are identified by their content, so that equal ones run once."""

    def __init__(self, jobs: list[work.Job]):
        self.asked = [job.experiment for job in jobs]
        self.jobs = {job.experiment.content: job for job in jobs}
        self.marks = {job.mark for job in jobs}
        self.shared = jobs[0].shared
        self.remote = "origin" if self.shared else top_level()  # through which hosts get experiments and return results
        self.outcomes: dict[str, str] = {}  # of those that have finished: ran, done (already) or failed
        self.workers: dict[str, dict[str, Any]] = {}  # by name, as the scheduler describes them
        before = json.loads(UNFINISHED.read_text()) if UNFINISHED.exists() else {}
        over = {content: entry for content, entry in before.items() if content not in self.jobs}
        self.stale = [ref for ref, _ in over.values() if ref]
        # What had finished when this sweep was stopped. If none of it is left, this is another sweep.
        self.earlier = {content: outcome for content, (_, outcome) in over.items() if outcome and over != before}
        self.largest: int | None = None  # the cores of the largest suitable worker; 0 if there is none

    @property
    def all_outcomes(self) -> list[str]:
        """The outcomes of what has finished, also before this sweep was stopped."""
        return [*self.outcomes.values(), *self.earlier.values()]

    @property
    def left(self) -> list[work.Job]:
        """The jobs that have not finished."""
        return [job for content, job in self.jobs.items() if content not in self.outcomes]

    def fetch_existing(self) -> None:
        """Fetch results that already exist."""
        refs = results(git("ls-remote", self.remote, "refs/exps/*"))
        found = {content: find(refs, job.experiment, job.numerics) for content, job in self.jobs.items()}
        self.fetch_results({content: (ref, "") for content, ref in found.items() if ref})

    def fetch_results(self, arrived: dict[str, tuple[str, str]]) -> None:
        """Fetch results into this repository, and only then remove their experiments from the queue.

        `arrived` maps the content of each experiment to the ref of its result, and to where it ran, or "" if it was
        already done. Raises ToolError if the Git remote is unavailable.
        """
        if not arrived:
            return
        git("fetch", "--quiet", self.remote, *(f"+{ref}:{ref}" for ref, _ in arrived.values()))
        remove({experiment.commit for experiment in self.asked if experiment.content in arrived})
        for content, (ref, ran) in arrived.items():
            self.outcomes[content] = "ran" if ran else "done"
            baseline = self.jobs[content].experiment.baseline
            at_home = ref.split("/")[2:4] == [baseline[:2], baseline[2:]]
            tqdm.write(f"{ref.rsplit('/', 1)[1]}: {ran or 'was already done'}{'' if at_home else ELSEWHERE}")
        self.remember()

    def run(self, client: Client) -> None:
        """Run the remaining experiments; return when all have finished."""
        jobs = self.left
        self.remember()
        commits = [f"+{job.experiment.commit}:{job.experiment.ref}" for job in jobs]
        git("push", "--quiet", "--no-verify", self.remote, *commits)
        client.subscribe_topic("fleet", self.on_message)
        self.update_hosts(client)
        futures = {job.experiment.content: self.submit(client, job) for job in jobs}
        # If this process is killed, the hosts continue, and the next submitter finds the experiments that are running.
        fire_and_forget(list(futures.values()))
        try:
            self.follow(client, futures)
        except KeyboardInterrupt:
            client.cancel(list(futures.values()), force=True)
            raise
        finally:
            over = [job for job in jobs if job.experiment.content in self.outcomes or not self.shared]
            self.remove_refs([job.experiment.ref for job in over])

    def summary(self) -> str:
        """Return how the experiments ended."""
        n = Counter(self.all_outcomes)
        return f"{n.total()} experiments: {n['ran']} ran, {n['done']} were already done, {n['failed']} failed"

    def remove_refs(self, refs: list[str]) -> None:
        """Remove commits that no host needs any longer; if this fails, it does no harm."""
        if refs:
            with suppress(ToolError):
                there = set(git("ls-remote", self.remote, "refs/fleet/*").split()).intersection(refs)
                git("push", "--quiet", "--no-verify", "--delete", self.remote, *sorted(there))

    def remember(self) -> None:
        """Write down what this sweep has done, in case it is killed."""
        done = {content: ("", outcome) for content, outcome in self.earlier.items()}
        done |= {content: (job.experiment.ref, self.outcomes.get(content, "")) for content, job in self.jobs.items()}
        UNFINISHED.parent.mkdir(parents=True, exist_ok=True)
        UNFINISHED.write_text(json.dumps(done))

    def follow(self, client: Client, futures: "dict[str, Future[work.Result]]") -> None:
        """Fetch the results of `futures` as they finish, and print which hosts join or leave, until all have finished.

        While the Git remote is unavailable, results wait.
        """
        arrived: dict[str, tuple[str, str]] = {}
        away = False
        with tqdm(total=len(self.jobs), bar_format=BAR, disable=None) as bar:
            while self.left:
                for content in [content for content, future in futures.items() if future.status != "pending"]:
                    if came := self.collect(content, futures.pop(content)):
                        arrived[content] = came
                try:
                    self.fetch_results(arrived)
                    arrived, away = {}, False
                except ToolError as error:
                    if not away:
                        tqdm.write(f"waiting for the Git remote: {error}")
                    away = True
                self.update_hosts(client)
                running = sum(worker["metrics"]["task_counts"].get("executing", 0) for worker in self.workers.values())
                failed = list(self.outcomes.values()).count("failed")
                bar.update(len(self.outcomes) - bar.n)
                bar.set_postfix_str(f"{running} running, {failed} failed")
                time.sleep(5 if away else 0.5)

    def submit(self, client: Client, job: work.Job) -> "Future[work.Result]":
        """Submit a job to the cluster. It runs only once, even if another submitter has submitted it, too."""
        threads = job.experiment.threads
        # If no host has as many cores as the experiment has threads, it gets all cores of the largest host.
        needed = {"gpu": 1} if job.device == "cuda" else {"cores": min(threads, self.largest or threads)}
        key = f"fleet-{job.experiment.content}-{job.numerics or 'any'}"
        return client.submit(work.run, job, key=key, resources=needed | {job.mark: 1}, retries=2)

    def collect(self, content: str, future: "Future[work.Result]") -> tuple[str, str] | None:
        """Return the ref of the result and where it ran ("" if already done), or print why there is none."""
        name = self.jobs[content].experiment.name
        if future.status == "finished":
            result = future.result()
            log = LOGS / f"{name}.log"
            if result.log:
                log.parent.mkdir(parents=True, exist_ok=True)
                log.write_text(result.log)
            if result.ref:
                return result.ref, f"ran on {result.host} in {result.seconds:.0f} s" if result.log else ""
            tqdm.write(f"{name}: failed on {result.host}; its full output is in {log}")
            for line in result.log.rstrip().splitlines()[-LAST:]:
                tqdm.write(f"    {line}")
        elif future.status == "error":
            tqdm.write(f"{name}: could not be run on any host: {future.exception()!r}")
        else:
            raise ToolError(GONE, status=1)
        self.outcomes[content] = "failed"
        self.remember()
        return None

    def update_hosts(self, client: Client) -> None:
        """Print which hosts have joined or left, and tell a host why it gets no experiment."""
        scheduler: Any = client.scheduler
        try:  # not client.scheduler_info(), whose answer a periodic update without workers may replace
            workers = client.sync(scheduler.identity, n_workers=-1)["workers"]
        except OSError:
            raise ToolError(GONE, status=1) from None
        before, self.workers = self.workers, {str(worker["name"]): worker for worker in workers.values()}
        addresses = {str(worker["name"]): address for address, worker in workers.items()}
        for name in [name for name in self.workers if name not in before and self.shared]:
            worker = self.workers[name]
            objection = self.objection(worker)
            tqdm.write(f"{name.split(':')[0]}: {objection or marks.describe(worker['resources'])}")
            if objection:
                told = f"no experiments for this host: {objection}"
                with suppress(OSError):  # the scheduler has stopped, as the next look finds
                    client.run(print, told, workers=[addresses[name]], on_error="ignore")
        for name in [name for name in before if name not in self.workers and not self.objection(before[name])]:
            tqdm.write(f"lost {name.split(':')[0]}; its experiments will run elsewhere")
        cores = [worker["nthreads"] for worker in self.workers.values() if not self.objection(worker)]
        if not cores and self.largest != 0:
            tqdm.write("waiting for a suitable host: start one with python -m tools.fleet worker")
        self.largest = max(cores, default=0)

    def objection(self, worker: dict[str, Any]) -> str:
        """Return why `worker` can run none of the experiments; "" if it can run one."""
        return min(marks.objection(worker["resources"], mark) for mark in self.marks)  # "" comes before all others

    def on_message(self, event: tuple[float, dict[str, str]]) -> None:
        """Print a host's message about an experiment."""
        if event[1]["content"] in self.jobs:
            tqdm.write(event[1]["line"])
