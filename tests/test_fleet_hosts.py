"""Sweeps on several hosts, each in a network namespace of its own, while one of them or what they share breaks.

All is real but the training: tests/standin.py stands in for each stage.
"""

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Project, ran, wait_for
from hosts import Host, Network, needs_hosts

from tools.fleet.queue import results as named

pytestmark = [pytest.mark.slow, needs_hosts]

SCHEDULER = "tcp://10.77.0.1:8786"
# How many seconds a host may take to start or to run an experiment while other tests run beside it.
PATIENCE = 200
FLEET = ("python", "-m", "tools.fleet")


class Fleet:
    """Three hosts, of which h0 serves Git and DVC, schedules, and submits from the clone `alice`."""

    def __init__(self, network: Network, root: Path):
        self.network = network
        self.hosts = network.hosts
        self.urls = network.serve(root)
        self.log = network.folder / "sweep.log"
        self.alice = self.clone(self.hosts[0], "alice")
        self.hosts[0].start(
            *FLEET, "scheduler", "--host", self.hosts[0].address, cwd=self.alice, log=network.folder / "scheduler.log"
        )

    def clone(self, host: Host, name: str) -> Path:
        """Return a new clone on `host` that knows both remotes."""
        clone = host.home / name
        git, dvc = self.urls
        host.run("git", "clone", "--quiet", git, clone)
        host.run("dvc", "remote", "add", "--quiet", "--local", "--default", "server", dvc, cwd=clone)
        return clone

    def work(self, host: Host) -> None:
        """Let `host` take part."""
        clone = self.clone(host, "worker")
        host.start(*FLEET, "worker", SCHEDULER, "--cores", "1", cwd=clone, log=self.network.folder / f"{host.name}.log")

    def queue(self, clone: Path, seeds: int) -> None:
        host = self.hosts[0]
        host.run("dvc", "pull", "--quiet", cwd=clone)
        host.run("dvc", "exp", "run", "--queue", "-S", f"train.seed=range(1,{seeds + 1})", "evaluate", cwd=clone)

    def submit(self, clone: Path) -> subprocess.Popen[str]:
        return self.hosts[0].start(*FLEET, "run", SCHEDULER, cwd=clone, log=self.log)

    def sweep_held_at(self, held: Host, seeds: int) -> subprocess.Popen[str]:
        """Start a sweep on h1 and h2; return when `held`, one of them, has begun to train, and let it wait there."""
        self.hold(held)
        for host in self.hosts[1:]:
            self.work(host)
        self.queue(self.alice, seeds)
        sweep = self.submit(self.alice)
        wait_for((held.home / "started").exists, PATIENCE)
        return sweep

    def said(self, pattern: str) -> list[str]:
        """Return what the submitters have printed that matches."""
        return re.findall(pattern, self.log.read_text()) if self.log.exists() else []

    def hold(self, host: Host) -> None:
        """Let stand-ins wait on `host` when they train; from then on its file `started` is there."""
        (host.home / "wait: train").touch()

    def trainings(self) -> int:
        """Return how many stand-ins have begun to train, on all hosts."""
        logs = [host.home / "ran" for host in self.hosts]
        return sum(log.read_text().split().count("train") for log in logs if log.exists())

    def succeeds(self, process: subprocess.Popen[str], clone: Path, seeds: int) -> None:
        """Wait for a sweep, all of whose results must have arrived in `clone` and be whole."""
        assert process.wait(2 * PATIENCE) == 0, self.log.read_text()
        host = self.hosts[0]
        names = named(host.run("git", "for-each-ref", cwd=clone))
        assert sorted(name.split("-")[0] for name in names) == [f"seed{seed}" for seed in range(1, seeds + 1)]
        assert "Queued" not in host.run("dvc", "queue", "status", cwd=clone)
        for name in list(names)[:2]:
            # It fails for the data that is not at hand, after it has brought the code, the params and dvc.lock.
            host.try_run("dvc", "exp", "apply", name, cwd=clone)
            assert f"seed: {name.split('-')[0].removeprefix('seed')} " in (clone / "params.yaml").read_text()
            assert ran(host.run("dvc", "repro", "--pull", "evaluate", cwd=clone)) == []
            host.run("git", "reset", "--quiet", "--hard", cwd=clone)


@pytest.fixture
def fleet(finished_standin: Project, tmp_path: Path) -> Iterator[Fleet]:
    with Network(tmp_path / "network", 3) as network:
        yield Fleet(network, finished_standin.root)


def test_a_sweep_outlives_its_hosts_and_serves_whoever_asks_next(fleet: Fleet):
    for host in fleet.hosts[1:]:
        fleet.hold(host)
    for host in fleet.hosts:
        fleet.work(host)
    fleet.queue(fleet.alice, seeds=6)
    sweep = fleet.submit(fleet.alice)
    wait_for(lambda: all((host.home / "started").exists() for host in fleet.hosts[1:]), PATIENCE)
    fleet.hosts[1].kill()
    fleet.hosts[2].cut()
    fleet.succeeds(sweep, fleet.alice, seeds=6)
    assert set(fleet.said(r"ran on (h\d)")) == {"h0"}

    # Another user, who has the code but has heard of none of this.
    bob = fleet.clone(fleet.hosts[0], "bob")
    fleet.queue(bob, seeds=6)
    fleet.succeeds(fleet.submit(bob), bob, seeds=6)
    assert len(fleet.said(r"(?m)^6 experiments: 0 ran, 6 were already done, 0 failed$")) == 1
    assert fleet.trainings() == 8  # two broke off


def test_a_submitter_that_is_killed_goes_on_when_it_is_started_again(fleet: Fleet):
    held = fleet.hosts[1]
    sweep = fleet.sweep_held_at(held, seeds=3)
    wait_for(lambda: bool(fleet.said(r"(?m)^seed\S+: ran on")), PATIENCE)
    sweep.kill()
    sweep.wait()
    sweep = fleet.submit(fleet.alice)
    wait_for(lambda: len(fleet.said("(?m)^h1: 1 core")) == 2, PATIENCE)
    time.sleep(3)  # in which it hands in what runs already
    (held.home / "go").touch()
    fleet.succeeds(sweep, fleet.alice, seeds=3)
    assert fleet.trainings() == 3


def test_remotes_that_are_away_are_waited_for(fleet: Fleet):
    held = fleet.hosts[1]
    sweep = fleet.sweep_held_at(held, seeds=2)
    fleet.network.stop_server()
    (held.home / "go").touch()
    wait_for(lambda: bool(fleet.said(r"on h1 waits for (git|dvc)")), PATIENCE)
    time.sleep(10)
    assert sweep.poll() is None
    fleet.network.start_server()
    fleet.succeeds(sweep, fleet.alice, seeds=2)
    assert fleet.trainings() == 2


def test_a_host_whose_disk_is_full_leaves_its_experiments_to_others(fleet: Fleet):
    small = fleet.hosts[1]
    small.small_disk(small.home / "worker", 230)  # enough to begin with, and the rest is gone below
    sweep = fleet.sweep_held_at(small, seeds=2)
    small.try_run("dd", "if=/dev/zero", "bs=1M", f"of={small.home}/worker/large")
    (small.home / "go").touch()
    fleet.succeeds(sweep, fleet.alice, seeds=2)
    assert fleet.said("on h1 stopped, and the host leaves: the disk of .* is full")
    assert set(fleet.said(r"ran on (h\d)")) == {"h2"}
