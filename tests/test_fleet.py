"""DVC's queue on Dask, on this machine alone: what is asked for runs once, failures are named, nothing is lost."""

import asyncio
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT, Project, copy, ran, wait_for
from distributed import Reschedule, Scheduler

import tools.fleet.sweep
from tools.errors import ToolError
from tools.fleet import cluster, marks, numerics, work
from tools.fleet.queue import Experiment, find, label, queued, read
from tools.fleet.queue import results as refs_of
from tools.fleet.sweep import Sweep
from tools.git import reason

JOB = work.Job(
    Experiment("a" * 40, "b" * 40, ("evaluate",), "seed1", "0123456789", "cpu", 1),
    *("cpu", "ours", ("A", "a@example.com"), True),
)
NO_REMOTES = "error: can't write to the Git remote origin: .*\nerror: can't write to the DVC remote: .*"


@pytest.fixture
def project(finished_standin: Project, tmp_path: Path) -> Project:
    """A stand-in whose training fails for seed 13."""
    project = copy(finished_standin, tmp_path)
    stage = project.root / "stages/train.py"
    fails = '\nif "seed: 13" in Path("params.yaml").read_text():\n    raise SystemExit("13 brings bad luck")\n'
    stage.write_text(stage.read_text() + fails)
    project.run("git", "commit", "--quiet", "--all", "--message", "Fail for seed 13")
    return project


def queue(project: Project, *seeds: int) -> None:
    """Queue an experiment for each seed, without pictures."""
    project.run("dvc", "exp", "run", "--queue", "-S", f"train.seed={','.join(map(str, seeds))}", "evaluate")


def fleet(project: Project, status: int = 0) -> list[str]:
    """Run the queue and return what is printed, without times and hashes."""
    done = project.try_run("python", "-m", "tools.fleet", "run")
    assert done.returncode == status, done.stdout
    return re.sub(r"-[0-9a-f]{10}(-[0-9a-f]{4})?|on \S+ in \d+ s", "", done.stdout).splitlines()


def results(project: Project) -> list[str]:
    """Return the names of the experiments that are there."""
    return list(refs_of(project.run("git", "for-each-ref", "refs/exps")))


def test_the_queue_runs_each_experiment_once_and_names_failures(project: Project):
    queue(project, 1, 13, 1)
    printed = fleet(project, status=1)
    assert printed[-1] == "2 experiments: 1 ran, 0 were already done, 1 failed"
    assert "seed1: ran " in printed
    assert any(line.startswith("seed13: failed") for line in printed)
    assert "    13 brings bad luck" in printed
    assert len(results(project)) == 1
    assert len(re.findall("Queued", project.run("dvc", "queue", "status"))) == 1  # the one that failed
    assert (project.root.parent / "ran").read_text().split().count("evaluate") == 1

    # Its results are whole, as those of any experiment are.
    project.run("dvc", "exp", "apply", results(project)[0])
    assert "seed: 1" in (project.root / "params.yaml").read_text()
    assert ran(project.run("dvc", "repro", "evaluate")) == []


@pytest.mark.slow
def test_the_same_hashes_as_a_run_by_hand(finished: Project, tmp_path: Path):
    one, other = copy(finished, tmp_path / "one"), copy(finished, tmp_path / "other")
    one.run("dvc", "exp", "run", "-S", "train.seed=3", "evaluate")
    queue(other, 3)
    fleet(other)
    other.run("dvc", "exp", "apply", results(other)[0])
    assert (one.root / "dvc.lock").read_text() == (other.root / "dvc.lock").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_stopped_goes_on_when_it_is_started_again(how, project: Project):
    queue(project, 1, 2)
    (project.root.parent / "wait: train").touch()
    process = subprocess.Popen(
        ["python", "-m", "tools.fleet", "run"],
        cwd=project.root,
        env=project.env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    wait_for((project.root.parent / "started").exists, 200)  # other tests may run beside it
    process.send_signal(how)
    output, _ = process.communicate(timeout=60)
    assert "Traceback" not in output
    assert process.returncode == (130 if how != signal.SIGKILL else -signal.SIGKILL)
    assert results(project) == []
    (project.root.parent / "wait: train").unlink()
    (project.root.parent / "go").touch()
    assert fleet(project)[-1] == "2 experiments: 2 ran, 0 were already done, 0 failed"


@pytest.mark.slow
def test_a_result_of_another_commit_with_equal_content_is_taken(project: Project):
    queue(project, 1)
    fleet(project)
    queue(project, 1)
    assert fleet(project) == ["seed1: was already done", "1 experiments: 0 ran, 1 were already done, 0 failed"]
    (project.root / "README.md").write_text("Words change no result.\n")
    project.run("git", "add", "README.md")
    project.run("git", "commit", "--quiet", "--message", "Words")
    queue(project, 1)
    assert "from another commit with equal code" in fleet(project)[0]


@pytest.mark.slow
def test_the_content_names_an_experiment(standin: Project, monkeypatch: pytest.MonkeyPatch):
    queue(standin, 1, 2)
    queue(standin, 1)  # the same
    standin.edit("lenet/training.py", "import math", "import math  # code does")
    queue(standin, 1)
    standin.run("dvc", "exp", "run", "--queue", "-S", "train.seed=1")  # to the end: other targets
    standin.run("dvc", "exp", "run", "--queue", "-S", "train.seed=1", "--force")
    monkeypatch.chdir(standin.root)
    one, two, same, code, targets, switch = queued()
    assert one.content == same.content
    assert len({experiment.content for experiment in (one, two, code, targets, switch)}) == 5
    assert [experiment.label for experiment in (one, two, code)] == ["seed1", "seed2", "seed1"]
    assert switch.words == ("--force",)


def test_what_an_experiment_is_known_by(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tools.fleet.queue.git", lambda *_: "lock\n")

    def content(code: str = "code", params: str = "{seed: 1}", **asked: object) -> str:
        pipeline = "stages: {train: {cmd: train, deps: [lenet/a.py], params: [train], outs: [model]}}"
        kwargs = pickle.dumps({"kwargs": {"targets": ["train"], "force": False} | asked}).decode("latin1")
        files = {"dvc.yaml": pipeline, "params.yaml": params, "requirements.lock": "lock", ".dvc/tmp/repro.dat": kwargs}
        files |= {"lenet/a.py": code, "README.md": f"no dep {len(made)}"}
        monkeypatch.setattr("tools.fleet.queue._tree", lambda _: files)
        monkeypatch.setattr("tools.fleet.queue._blob", lambda text: text.encode("latin1"))
        made.append(read("commit", "baseline").content)
        return made[-1]

    made: list[str] = []
    assert content() == content()
    content(code="other code")
    content(params="{seed: 2}")
    content(targets=["other"])
    content(force=True)
    assert len(set(made)) == 5


@pytest.mark.parametrize(
    ("printed", "line"),
    [
        (
            "warning: w\nfatal: no repository\n\nPlease make sure\n\tit exists.\n",
            "fatal: no repository Please make sure it exists.",
        ),
        ("Collecting\nERROR: unexpected error - no route\n\nHaving any troubles?\n", "ERROR: unexpected error - .*"),
        ("one\ntwo\n", "two"),
        ("", "there is no output"),
    ],
)
def test_the_reason_of_a_failure(printed, line):
    assert re.fullmatch(line, reason(printed))


def test_a_host_that_leaves_waits_for_no_remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "clone").mkdir()
    said: list[str] = []
    run = work._Run(JOB, tmp_path, tmp_path / "clone", "", said.append)
    monkeypatch.setattr(work, "PATIENCE", 5)
    monkeypatch.setattr(work, "STOPPING", threading.Event())
    threading.Timer(0.5, work.STOPPING.set).start()
    with pytest.raises(Reschedule):
        run._patiently("git", "fetch", "nowhere")
    assert [line.partition(": ")[0] for line in said] == ["waits for git fetch"]


def test_what_is_not_fetched_stays_queued(monkeypatch: pytest.MonkeyPatch):
    def git(*_: str) -> None:
        raise ToolError("no route")

    removed: list[set[str]] = []
    monkeypatch.setattr(tools.fleet.sweep, "git", git)
    monkeypatch.setattr(tools.fleet.sweep, "remove", removed.append)
    with pytest.raises(ToolError, match="no route"):
        Sweep([JOB]).fetch_results({JOB.experiment.content: ("refs/exps/x", "ran")})
    assert removed == []


def test_a_host_brings_the_experiment_and_then_data_before_the_ref(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    did: list[str] = []
    monkeypatch.setattr(work._Run, "_patiently", lambda _, *words: did.append(" ".join(words[-2:])) or "")
    monkeypatch.setattr(work._Run, "_try", lambda _, *words: did.append(" ".join(words[3:5])) or (0, "log"))
    monkeypatch.setattr(work, "git", lambda *words, **_: did.append(words[0]) or "")
    run = work._Run(JOB, tmp_path, tmp_path, "ours", print)
    ref = f"refs/exps/bb/{'b' * 38}/seed1-0123456789-ours"
    assert run.result() == (ref, "log")
    steps = ["origin refs/exps/*-0123456789-*", f"origin {JOB.experiment.ref}", "checkout", "clean", "restore"]
    after = ["update-ref", "exp run", "--with-deps evaluate", f"origin {ref}"]
    assert did == [*steps, "pull --allow-missing", *after]
    did.clear()
    run.result()
    assert did == [*steps, *after]  # another of the same commit, whose data is there


def test_a_host_that_can_run_nothing_leaves(monkeypatch: pytest.MonkeyPatch):
    did: list[str] = []
    worker = SimpleNamespace(
        state=SimpleNamespace(total_resources=marks.resources(1, {"cpu": "ours"})),
        log_event=lambda _, event: did.append(event["line"].partition(" on ")[0]),
        loop=SimpleNamespace(add_callback=did.append),
        close_gracefully="close",
    )

    def clone(*_: object) -> None:
        raise OSError("no space")

    for name, value in (("get_worker", lambda: worker), ("LEFT", []), ("_clone", clone)):
        monkeypatch.setattr(work, name, value)
    with pytest.raises(Reschedule):
        work.run(JOB)
    assert did == ["seed1-0123456789", "close"]
    assert work.LEFT == ["no space"]


def test_a_job_asks_for_the_numerics_of_this_machine():
    here = numerics.Machine(0, {"cpu": "c"})
    for any_numerics, wanted in ((False, "c"), (True, "")):
        job = tools.fleet.sweep._job(JOB.experiment, here, ("A", "a"), True, any_numerics)
        assert (job.device, job.numerics) == ("cpu", wanted)


def test_a_label():
    old = {"train": {"seed": 0, "lr": 0.1, "augment": {"shift": 2}}, "split": {"fold": 0}}
    for new, expected in (
        ({"train": {"seed": 0, "lr": 0.1, "augment": {"shift": 2}}, "split": {"fold": 0}}, "same"),
        ({"train": {"seed": 3, "lr": 0.02, "augment": {"shift": 0}}, "split": {"fold": 0}}, "seed3_lr0.02_shift0"),
        ({"train": {"seed": -1, "lr": "..~^:?*[ x"}}, "seed-1_lr.-x"),
        ({"train": {"seed": "9" * 100}}, "seed" + "9" * 36),
    ):
        found = label(new, old)
        assert found == expected
        assert subprocess.run(["git", "check-ref-format", f"refs/exps/{found}"]).returncode == 0


def test_a_result_of_other_numerics_is_taken_only_where_asked():
    refs = {"seed1-0123456789-aaaa": "theirs", "seed1-9876543210-bbbb": "another experiment"}
    assert find(refs, JOB.experiment, "bbbb" + 12 * "0") is None
    assert find(refs, JOB.experiment, "") == "theirs"
    assert find(refs, JOB.experiment, "aaaa" + 12 * "0") == "theirs"


def test_a_suspended_machine_does_not_lose_its_own_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Dask's scheduler drops a worker that is silent for longer than worker-ttl, and this worker never comes back."""
    monkeypatch.setattr(work, "FOLDER", tmp_path)
    with tools.fleet.sweep._client(None, 1, numerics.Machine(0, {"cpu": "abcd"})) as client:
        assert client.cluster.scheduler.worker_ttl is None


def test_hosts_that_come_go_or_differ_are_named(capsys: pytest.CaptureFixture[str]):
    sweep = Sweep([JOB])
    told: list[list[str]] = []

    def look(**numerics: str) -> list[str]:
        workers = {
            f"tcp://{host}": {"name": f"{host}:1", "nthreads": 2, "resources": marks.resources(2, {"cpu": fingerprint})}
            for host, fingerprint in numerics.items()
        }
        client = SimpleNamespace(
            scheduler=SimpleNamespace(identity=None),
            sync=lambda *_, **__: {"workers": workers},
            run=lambda function, line, workers, **_: told.append([*workers, line.partition(",")[0]]),
        )
        sweep.update_hosts(client)
        return [line.partition(",")[0].partition(";")[0] for line in capsys.readouterr().out.splitlines()]

    waiting = "waiting for a suitable host: start one with python -m tools.fleet worker"
    assert look(h1="theirs") == ["h1: different numerics", waiting]
    assert look(h1="theirs", h2="ours") == ["h2: 2 cores"]
    assert look(h2="ours") == []
    assert look() == ["lost h2", waiting]
    assert told == [["tcp://h1", "no experiments for this host: different numerics"]]


def test_hosts_are_watched_while_the_git_remote_is_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    sweep, content = Sweep([JOB]), JOB.experiment.content
    sweep.workers = {"h1:1": {"metrics": {"task_counts": {"executing": 2}}}}
    looks: list[bool] = []
    shown: list[str] = []

    def fetch_results(arrived: dict[str, tuple[str, str]]) -> None:
        assert arrived == {content: ("ref", "")}
        if len(looks) < 2:
            raise ToolError("no route")
        sweep.outcomes[content] = "ran"

    monkeypatch.setattr(sweep, "fetch_results", fetch_results)
    monkeypatch.setattr(sweep, "update_hosts", lambda _: looks.append(True))
    monkeypatch.setattr(tools.fleet.sweep.tqdm, "set_postfix_str", lambda _, text: shown.append(text))
    monkeypatch.setattr(tools.fleet.sweep.time, "sleep", lambda _: None)
    result = work.Result("h1", "ref", 9, "")
    sweep.follow(None, {content: SimpleNamespace(status="finished", result=lambda: result)})
    assert len(looks) == 3
    assert shown == ["2 running, 0 failed"] * 3
    assert capsys.readouterr().out == "waiting for the Git remote: no route\n"


def test_a_result_that_only_this_clone_has_is_none_for_hosts(standin: Project, monkeypatch: pytest.MonkeyPatch):
    standin.run("git", "init", "--quiet", "--bare", "../remote.git")
    standin.run("git", "remote", "add", "origin", "../remote.git")
    standin.run("git", "update-ref", f"refs/exps/bb/{'b' * 38}/seed1-0123456789-ours", "HEAD")
    monkeypatch.chdir(standin.root)
    sweep = Sweep([JOB])
    sweep.fetch_existing()
    assert sweep.left == [JOB]


def test_experiments_that_run_at_once_have_a_clone_each(standin: Project):
    with work._clone(standin.root, False) as (one, _), work._clone(standin.root, False) as (other, _):
        assert one != other
    with work._clone(standin.root, False) as (again, _):
        assert again == one


def test_a_worker_goes_on_when_its_scheduler_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for place, name, value in (
        *((work, "FOLDER", tmp_path), (work, "LEFT", []), (work, "STOPPING", threading.Event())),
        *((cluster, "remotes_missing", list), (cluster, "measure", lambda: numerics.Machine(0, {"cpu": "c"}))),
    ):
        monkeypatch.setattr(place, name, value)

    async def schedule(port: int) -> int:
        async with Scheduler(host="127.0.0.1", port=port, dashboard=False) as scheduler:
            while not scheduler.workers:
                assert not worker.done()
                await asyncio.sleep(0.05)
            return scheduler.port

    with ThreadPoolExecutor(1) as thread, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        worker = thread.submit(cluster.serve_worker, f"tcp://127.0.0.1:{port}", 1)
        for _ in range(2):
            asyncio.run(asyncio.wait_for(schedule(port), 60))
        work.LEFT.append("it has had enough")
        with pytest.raises(ToolError, match="it has had enough"):
            worker.result(60)


def test_each_gpu_has_a_worker_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert cluster.visible(2) == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    python = tmp_path / "python"  # a worker that fails on one of the GPUs
    python.write_text('#!/bin/sh\necho "$CUDA_VISIBLE_DEVICES $*"\n[ "$CUDA_VISIBLE_DEVICES" = 3 ]\n')
    python.chmod(0o755)
    monkeypatch.setattr(cluster.sys, "executable", str(python))
    monkeypatch.setattr(cluster, "remotes_missing", list)
    monkeypatch.setattr(cluster, "measure", lambda: numerics.Machine(2, {"cpu": "c", "cuda": "g"}))
    assert cluster.serve_worker("tcp://10.0.0.1:1", 8) == 1
    command = "-m tools.fleet worker tcp://10.0.0.1:1 --cores 4"
    assert sorted(capfd.readouterr().out.splitlines()) == [f"3 {command}", f"5 {command}"]


@pytest.mark.slow
def test_what_stops_a_host_stops_the_worker_of_each_gpu(tmp_path: Path):
    fake = f"#!/bin/sh\ntrap 'touch {tmp_path}/stopped$CUDA_VISIBLE_DEVICES; exit' TERM\n"
    (tmp_path / "python").write_text(f"{fake}touch {tmp_path}/up$CUDA_VISIBLE_DEVICES\nwhile :; do sleep 0.1; done\n")
    (tmp_path / "python").chmod(0o755)
    code = "import sys; sys.argv[1:] = ['worker', 'tcp://10.0.0.1:1']; from tools.errors import run; "
    code += "from tools.fleet import __main__, cluster, numerics; cluster.remotes_missing = list; "
    code += "cluster.measure = lambda: numerics.Machine(2, {'cpu': 'c', 'cuda': 'g'}); "
    code += f"sys.executable = '{tmp_path}/python'; run(__main__.main)"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    wait_for(lambda: all((tmp_path / f"up{gpu}").exists() for gpu in (0, 1)))
    process.terminate()
    assert process.wait(30) == 130
    assert all((tmp_path / f"stopped{gpu}").exists() for gpu in (0, 1))


def test_a_worker_offers_its_cores_its_gpu_and_its_marks():
    offered = marks.resources(4, {"cpu": "c", "cuda": "g"})
    assert marks.describe(offered) == "4 cores and 1 GPU"
    assert {marks.mark("cpu", "c"), marks.mark("cuda", "g"), marks.mark("cuda", "")} <= offered.keys()
    assert (marks.numerics(offered, "cpu"), marks.numerics(offered, "cuda")) == ("c", "g")
    assert marks.describe(marks.resources(1, {"cpu": "c"})) == "1 core"


def test_what_objects_to_a_host_is_named(monkeypatch: pytest.MonkeyPatch):
    offered = marks.resources(4, {"cpu": "theirs"})
    assert marks.objection(offered, marks.mark("cpu", "theirs")) == ""
    assert marks.objection(offered, marks.mark("cpu", "")) == ""
    assert "different numerics" in marks.objection(offered, marks.mark("cpu", "ours"))
    assert marks.objection(offered, marks.mark("cuda", "ours")) == "no GPU"
    code, lock = marks._hashes()
    monkeypatch.setattr(marks, "_hashes", lambda: (code, "other"))
    assert "different packages in requirements.lock" in marks.objection(offered, marks.mark("cpu", ""))
    monkeypatch.setattr(marks, "_hashes", lambda: ("other", lock))
    assert "different code in tools" in marks.objection(offered, marks.mark("cpu", ""))


def test_the_mark_covers_what_a_host_runs_from_its_own_clone():
    code = "import sys, tools.fleet.__main__, tools.fleet.sweep\n"
    code += "print(*{getattr(module, '__file__', None) for module in sys.modules.values()})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    rooms = tuple(f"{ROOT}/{room}/" for room in ("lenet", "stages", "tools"))
    imported = {Path(path).relative_to(ROOT) for path in done.stdout.split() if path.startswith(rooms)}
    assert Path("tools/git.py") in imported
    covered = {path.relative_to(ROOT) for pattern in marks.CODE for path in ROOT.glob(pattern)}
    assert {path for path in imported - covered if (ROOT / path).read_text()} == set()


def test_a_host_whose_packages_have_changed_is_at_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "requirements.lock").write_text("pytest==0.1 \\\n")
    run = work._Run(JOB, tmp_path, tmp_path, "ours", print)
    monkeypatch.setattr(work._Run, "_patiently", lambda *_: "")
    monkeypatch.setattr(work._Run, "_check_out", lambda _: None)
    monkeypatch.setattr(work, "git", lambda *_, **__: "")
    monkeypatch.setattr(work._Run, "_try", lambda *_: (2, "it failed"))
    with pytest.raises(work.HostError, match=r"packages differ from requirements.lock: pytest \S+ instead of 0.1;"):
        run.result()
    (tmp_path / "requirements.lock").write_text("")
    assert run.result() == ("", "it failed")  # its own fault


@pytest.mark.slow
def test_the_numerics_are_those_of_the_stages(monkeypatch: pytest.MonkeyPatch):
    first = numerics.measure()
    assert numerics.measure() == first
    monkeypatch.setenv("STAGES_PROCESSOR", "ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41")
    assert numerics.measure().numerics["cpu"] != first.numerics["cpu"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("run", "nothing is queued; .*"),
        ("run nowhere", "error: the scheduler's address is 'nowhere', but must look like tcp://10.0.0.1:8786"),
        ("run --any-numerics", "nothing is queued; .*"),
        ("run --any-arithmetic", "nothing is queued; .*"),
        ("run --cores 0", "error: --cores is 0, but must be at least 1"),
        ("run tcp://127.0.0.1:1", NO_REMOTES),
        ("worker tcp://127.0.0.1:1", NO_REMOTES),
        ("scheduler --port 99999", r"error: --port is 99999, but must be between 0 \(any free port\) and 65535"),
        ("scheduler --host 192.0.2.1", r"error: the scheduler can't listen on 192\.0\.2\.1:8786: .*"),
    ],
)
def test_a_mistake_is_named(words, line, standin: Project):
    done = standin.try_run("python", "-m", "tools.fleet", *words.split())
    assert re.fullmatch(f"{line}\n", done.stdout)
    assert done.returncode == (2 if line.startswith("error") else 0)


def test_what_answers_but_is_no_scheduler():
    def greet() -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")
            connection.recv(1000)

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(ToolError, match=f"what answers at {address} is no scheduler"):
            cluster.answers(address)
        thread.join()


def test_a_sweep_that_was_stopped_is_counted_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tools.fleet.sweep, "UNFINISHED", tmp_path / "unfinished.json")
    jobs = [replace(JOB, experiment=replace(JOB.experiment, content=content)) for content in ("first", "second", "new")]
    stopped = Sweep(jobs[:2])
    stopped.outcomes["first"] = "ran"
    stopped.remember()
    again = Sweep(jobs[1:2])
    assert again.earlier == {"first": "ran"}
    assert again.stale == [JOB.experiment.ref]
    again.outcomes["second"] = "failed"
    assert again.summary() == "2 experiments: 1 ran, 0 were already done, 1 failed"
    assert set(again.all_outcomes) == {"ran", "failed"}
    assert Sweep(jobs[2:]).earlier == {}  # another sweep


def test_a_module_that_git_does_not_track_is_named(standin: Project):
    standin.edit("dvc.yaml", "      - lenet/augment.py\n", "      - lenet/augment.py\n      - lenet/blur.py\n")
    (standin.root / "lenet/blur.py").touch()
    standin.run("git", "commit", "--quiet", "--all", "--message", "Blur")
    queue(standin, 1)
    done = standin.try_run("python", "-m", "tools.fleet", "run")
    line = "error: lenet/blur.py is a dep in dvc.yaml, but Git does not track it: git add it, and queue again\n"
    assert (done.returncode, done.stdout) == (2, line)


def test_an_experiment_for_other_packages_is_named(standin: Project):
    queue(standin, 1)
    standin.edit("requirements.lock", "#", "# newer")
    line = "error: seed1 was queued with another requirements.lock than the one here: queue it again\n"
    assert standin.refuse("python", "-m", "tools.fleet", "run") == line


def test_refs_that_are_gone_keep_no_others(standin: Project, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(standin.root)
    sweep = Sweep([replace(JOB, shared=False)])
    standin.run("git", "update-ref", "refs/fleet/there", "HEAD")
    sweep.remove_refs(["refs/fleet/gone", "refs/fleet/there"])
    assert standin.run("git", "for-each-ref", "refs/fleet") == ""


@pytest.mark.slow
def test_a_project_in_a_subfolder_of_an_odd_name(standin: Project, tmp_path: Path):
    """DVC itself can't write such a name into its config."""
    moved = standin.in_a_subfolder(tmp_path / "é ü")
    moved.run("dvc", "exp", "run", "--queue", "-S", "train.seed=1,2")
    printed = moved.run("python", "-m", "tools.fleet", "run")
    assert printed.endswith("2 experiments: 2 ran, 0 were already done, 0 failed\n"), printed
