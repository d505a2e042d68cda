"""`make verify` tells a faithful record from a false one: forgeries of every kind, as consistent as a forger can."""

import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from conftest import LR, STAGES, Project
from PIL import Image

from stages.launch import pipeline
from tools import checks, record, verify
from tools.errors import run


def ask(project: Project, **env: str) -> CompletedProcess:
    """Commit everything and verify it."""
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--allow-empty", "--message", "A change")
    return project.try_run("python", "-m", "tools.verify", **env)


def forge(project: Project, path: str, change: Callable[[bytes], bytes]) -> None:
    """Change the output `path`, its hash wherever dvc.lock has it, and DVC's cache, as a forger would."""
    file = project.root / path
    old, new = file.read_bytes(), change(file.read_bytes())
    assert new != old
    file.unlink()  # what DVC keeps in its cache is read-only
    file.write_bytes(new)
    before, after = record.md5(old), record.md5(new)
    project.edit("dvc.lock", f"{before}\n      size: {len(old)}", f"{after}\n      size: {len(new)}")
    cached = project.root / ".dvc/cache/files/md5" / after[:2] / after[2:]
    cached.parent.mkdir(parents=True, exist_ok=True)
    cached.write_bytes(new)


def number(path: str, *keys: str, change: float) -> Callable[[Project], None]:
    """Change a number in a metrics file."""

    def forgery(project: Project) -> None:
        def changed(data: bytes) -> bytes:
            content = place = json.loads(data)
            for key in keys[:-1]:
                place = place[key]
            place[keys[-1]] += change
            return (json.dumps(content, indent=2) + "\n").encode()

        forge(project, path, changed)

    return forgery


def replaced(path: str, old: bytes, new: bytes) -> Callable[[Project], None]:
    return lambda project: forge(project, path, lambda data: data.replace(old, new))


def painted(path: str) -> Callable[[Project], None]:
    """Draw over a picture: another one is in its place, which is as valid."""
    return lambda project: forge(project, path, lambda data: (project.root / "metrics/tensor.png").read_bytes())


def animated(path: str) -> Callable[[Project], None]:
    """Add a second frame to a picture, which browsers show after the first."""

    def change(data: bytes) -> bytes:
        first, file = Image.open(io.BytesIO(data)), io.BytesIO()
        first.save(file, "PNG", save_all=True, append_images=[Image.new("RGBA", first.size)], **first.info)
        return file.getvalue()

    return lambda project: forge(project, path, change)


def one_more_or_less_correct(table: bytes) -> bytes:
    *rows, last = table.decode().splitlines()
    index, actual, predicted, confidence = last.split(",")
    other = actual if predicted != actual else str((int(actual) + 1) % 10)
    return "\n".join([*rows, f"{index},{actual},{other},{confidence}", ""]).encode()


def of_another_seed(project: Project) -> None:
    """Run another seed, and write the committed one into params.yaml and dvc.lock."""
    project.edit("params.yaml", "seed: 0", "seed: 1")
    project.repro()
    project.edit("params.yaml", "seed: 1", "seed: 0")
    project.edit("dvc.lock", "seed: 1", "seed: 0")


def other_numerics(*forgeries: Callable[[Project], None], stages: tuple[str, ...] = ("train", "evaluate")):
    """Forge, and also write into the metrics of `stages` that another machine made them."""

    def forgery(project: Project) -> None:
        for forge_more in forgeries:
            forge_more(project)
        for stage in stages:
            forge(project, f"metrics/{stage}.json", lambda data: re.sub(rb'("numerics": \[\s*")', rb"\g<1>0", data))

    return forgery


def without_the_cache(project: Project) -> None:
    shutil.rmtree(project.root / ".dvc/cache")
    shutil.rmtree(project.root / "models")


def idle_plot(project: Project) -> None:
    """Let the stage plot do nothing, and DVC keep what lies there."""
    text = (project.root / "dvc.yaml").read_text()
    before, after = text.split("  plot:\n")
    after = after.replace("python -m stages plot", "'true'").replace(
        "cache: false", "cache: false\n          persist: true"
    )
    (project.root / "dvc.yaml").write_text(f"{before}  plot:\n{after}")
    project.edit("dvc.lock", "python -m stages plot", "'true'")


def edited(path: str, old: str, new: str) -> Callable[[Project], None]:
    return lambda project: project.edit(path, old, new)


def with_command(project: Project) -> None:
    """Let DVC put the recorded metrics back after the stage."""
    command = "python -m stages evaluate"
    for name in ("dvc.yaml", "dvc.lock"):
        project.edit(name, f"cmd: {command}\n", f"cmd: {command} && git show HEAD:metrics/evaluate.json > x\n")


def added(path: str, content: bytes = b"print()\n") -> Callable[[Project], None]:
    def forgery(project: Project) -> None:
        (project.root / path).parent.mkdir(exist_ok=True, parents=True)
        (project.root / path).write_bytes(content)
        project.run("git", "add", "--force", path)

    return forgery


ACCURACY = number("metrics/evaluate.json", "test", "accuracy", change=0.01)
FORGERIES = {
    "a test accuracy": (ACCURACY, "test.accuracy is "),
    "a test accuracy without its table": (
        lambda p: [ACCURACY(p), without_the_cache(p)],
        "evaluate: metrics/evaluate.json",
    ),
    "the last digit of a loss": (
        number("metrics/evaluate.json", "test", "loss", change=1e-12),
        "evaluate: metrics/evaluate.json",
    ),
    "the calibration error": (
        number("metrics/evaluate.json", "test", "calibration_error", change=-0.1),
        "evaluate: metrics/evaluate.json",
    ),
    "a table without a column": (
        replaced("models/predictions.csv", b"index,actual,", b"index,actually,"),
        "was not written by a stage: KeyError('actual')",
    ),
    "a table without rows": (
        lambda p: forge(p, "metrics/history.csv", lambda data: data[: data.index(b"\n") + 1]),
        "was not written by a stage: IndexError(",
    ),
    "a metric that is no number": (
        lambda p: forge(p, "metrics/train.json", lambda data: re.sub(rb'("loss": )([^,]+)', rb'\1"\2"', data)),
        "was not written by a stage: ",
    ),
    "a training loss": (number("metrics/train.json", "loss", change=-0.1), "train: loss is "),
    "mean": (number("metrics/stats.json", "mean", change=1e-9), "stats: metrics/stats.json"),
    "a count": (number("metrics/download.json", "test", "images", change=1), "download: metrics/download.json"),
    "a picture": (painted("metrics/confusion.png"), "plot: metrics/confusion.png"),
    "a row of the predictions": (
        lambda p: forge(p, "models/predictions.csv", one_more_or_less_correct),
        "evaluate: test.accuracy is ",
    ),
    "a confidence": (
        lambda p: forge(
            p, "models/predictions.csv", lambda data: data[:-2] + (b"1" if data[-2:-1] != b"1" else b"2") + b"\n"
        ),
        "evaluate: models/predictions.csv",
    ),
    "the history": (replaced("metrics/history.csv", b"\n1,", b"\n1,1"), "train: metrics/history.csv"),
    "the model": (
        lambda p: forge(p, "models/lenet5.safetensors", lambda data: data[:-1] + bytes([data[-1] ^ 1])),
        "train: models/lenet5.safetensors",
    ),
    "another seed": (of_another_seed, "train: models/lenet5.safetensors"),
    "a frozen stage": (
        edited("dvc.yaml", "  plot:\n", "  plot:\n    frozen: true\n"),
        "plot: it is frozen, so DVC does not check whether it is up to date",
    ),
    "a frozen stage and its picture": (
        lambda p: [painted("metrics/filters.png")(p), p.edit("dvc.yaml", "  plot:\n", "  plot:\n    frozen: true\n")],
        "plot: it is frozen",
    ),
    "a hash in dvc.lock alone": (
        lambda p: p.edit("dvc.lock", record.md5((p.root / "models/predictions.csv").read_bytes()), "a" * 32),
        "evaluate: models/predictions.csv",
    ),
    "a size in dvc.lock": (edited("dvc.lock", "nfiles: 4", "nfiles: 5"), "dvc.lock"),
    "the name of the numerics": (
        other_numerics(ACCURACY),
        "test.accuracy is ",
    ),
    "the name of the numerics and a picture": (
        other_numerics(painted("metrics/confusion.png")),
        "plot: metrics/confusion.png, made from the recorded outputs of earlier stages, shows something else",
    ),
    "the name of the numerics and a loss": (
        other_numerics(number("metrics/evaluate.json", "test", "loss", change=-0.01)),
        "evaluate: metrics/evaluate.json, made from the recorded outputs of earlier stages, differs in 1 numbers",
    ),
    "the name of the numerics and the mean": (
        other_numerics(number("metrics/stats.json", "mean", change=1e-9)),
        "stats: metrics/stats.json",
    ),
    "a command that puts the record back": (with_command, "evaluate: its cmd is not python -m stages evaluate"),
    "bytecode": (added("lenet/__pycache__/figures.cpython-311.pyc"), "figures.cpython-311.pyc: is compiled code"),
    "an extension module": (added("numpy.so"), "numpy.so: is compiled code"),
    "a module in place of a package": (added("scipy.py"), "scipy.py: could run in place of an installed package"),
    "a package in place of another": (
        added("safetensors/__init__.py", b""),
        "safetensors/__init__.py: could run in place of an installed package",
    ),
    "a second dvc.yaml": (added("docs/dvc.yaml", b"metrics: [best.json]\n"), "docs/dvc.yaml: is a second dvc.yaml"),
    "a metric that no stage writes": (
        lambda p: [
            added("best.json", b'{"accuracy": 1}')(p),
            p.edit("dvc.yaml", "\nplots:", "\nmetrics: [best.json]\nplots:"),
        ],
        "best.json: is written by no stage in dvc.yaml",
    ),
    "a plot of a table that no stage writes": (
        lambda p: p.edit("dvc.yaml", "metrics/history.csv: [train_loss", "history.csv: [train_loss"),
        "history.csv: is written by no stage in dvc.yaml",
    ),
    "the folder of a stage": (
        lambda p: p.edit(
            "dvc.yaml",
            "    cmd: python -m stages plot\n",
            "    cmd: python -m stages plot\n    wdir: .\n    always_changed: true\n",
        ),
        "plot: it is always_changed",
    ),
    "a package in place of a stage": (
        added("stages/evaluate/__init__.py"),
        "stages/evaluate.py: is shadowed by a folder of that name",
    ),
    "code in a package": (added("lenet/report/__init__.py"), "lenet/report/__init__.py: is not empty"),
    "the name of the numerics and a second frame": (
        other_numerics(animated("metrics/confusion.png")),
        "plot: metrics/confusion.png, made from the recorded outputs of earlier stages, shows something else",
    ),
    "the name of the numerics and a row of the confusion": (
        other_numerics(lambda p: forge(p, "metrics/confusion.csv", lambda data: data[:-1] + b"0\n")),
        "evaluate: metrics/confusion.csv, made from",
    ),
    "the name of the numerics and the page": (
        other_numerics(replaced("report.html", b"Calibration", b"Perfection")),
        "report: report.html, made from the recorded outputs of earlier stages, has different words",
    ),
    "the name of the numerics and a metric more": (
        other_numerics(
            lambda p: forge(p, "metrics/evaluate.json", lambda data: data.replace(b'"val":', b'"best": 1,\n  "val":'))
        ),
        "evaluate: the keys of its metrics",
    ),
    "no numerics at all": (
        lambda p: forge(
            p,
            "metrics/train.json",
            lambda data: (json.dumps({k: v for k, v in json.loads(data).items() if k != "numerics"}) + "\n").encode(),
        ),
        "train: the keys of its metrics",
    ),
    "metrics that are no JSON": (
        lambda p: forge(p, "metrics/evaluate.json", lambda data: data[:-3]),
        "error: metrics/evaluate.json is not valid JSON",
    ),
}

# Neither proven nor plausible: what would decide is nowhere to be had.
UNDECIDABLE = {
    "the name of the numerics and all scores, without the model": (
        lambda p: [other_numerics(ACCURACY, painted("metrics/confusion.png"))(p), without_the_cache(p)],
        "error: the recorded models/lenet5.safetensors, models/predictions.csv is nowhere to be had",
    ),
    "the name of the numerics, and a model that never was": (
        lambda p: [
            other_numerics(number("metrics/evaluate.json", "test", "loss", change=-0.01))(p),
            p.edit("dvc.lock", record.md5((p.root / "models/lenet5.safetensors").read_bytes()), "deadbeef" * 4),
            added("release/predictions.csv", (p.root / "models/predictions.csv").read_bytes())(p),
            without_the_cache(p),
        ],
        "error: the recorded models/lenet5.safetensors is nowhere to be had",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FORGERIES | UNDECIDABLE)
def test_a_forged_record_is_false(name, project: Project, finished: Project, monkeypatch, capfd):
    """The run of the pipeline is not done here: it gives what the true one gave, whatever the record says."""
    forgery, named = (FORGERIES | UNDECIDABLE)[name]
    forgery(project)
    project.run("git", "commit", "--quiet", "--all", "--message", "A forgery")
    monkeypatch.setattr(sys, "argv", ["verify"])
    monkeypatch.setattr(os, "environ", project.env)
    monkeypatch.chdir(project.root)
    monkeypatch.setattr(verify, "_repro", lambda clone: copy_outputs(finished, clone))
    with pytest.raises(SystemExit) as done:
        run(verify.main)
    printed = "".join(capfd.readouterr())
    assert done.value.code == (2 if name in UNDECIDABLE else 1), printed
    assert named in printed


def copy_outputs(project: Project, root: Path) -> list[str]:
    """Copy all that the stages of `project` wrote into the clone `root`; return their names."""
    outputs = [path for stage in pipeline.read(root).values() for path in stage.outputs]
    for path in ["dvc.lock", *outputs]:
        source = project.root / path
        if source.is_dir():
            shutil.copytree(source, root / path, dirs_exist_ok=True)
        else:
            (root / path).parent.mkdir(exist_ok=True)
            shutil.copy(source, root / path)
    return STAGES


def test_a_forged_record_is_false_as_a_user_sees_it(project: Project):
    forgery, named = FORGERIES["a test accuracy"]
    forgery(project)
    done = ask(project)
    assert done.returncode == 1, done.stdout
    assert named in done.stdout
    assert "Traceback" not in done.stdout


SAME = ({"a": {"a.csv": "1"}, "b": {"a.json": "1", "b.json": "2"}}, {"b": {"cmd": "run"}})
OTHER_BYTES = ({"a": {"a.csv": "1"}, "b": {"a.json": "1", "b.json": "3"}}, {"b": {"cmd": "run"}})
OTHER_LOCK = ({"a": {"a.csv": "1"}, "b": {"a.json": "1", "b.json": "2"}}, {"b": {"cmd": "walk"}})


@pytest.mark.parametrize(
    ("ran", "found", "verdict"),
    [
        ("ab", [SAME], ""),
        ("a", [SAME], "these stages did not run\n  b"),
        ("ab", [OTHER_LOCK], "every output was reproduced, but not dvc.lock\n  dvc.lock"),
        ("ab", [OTHER_BYTES, SAME], "the code is not deterministic: .*\n  b: b.json"),
        ("ab", [OTHER_BYTES, OTHER_BYTES], "two runs .* agree with each other, but not with the record\n  b: b.json"),
    ],
)
def test_what_a_run_proves(ran, found, verdict, monkeypatch: pytest.MonkeyPatch):
    recorded, *results = [record.Record(hashes, {"a": {}, "b": {}}, set(), lock) for hashes, lock in (SAME, *found)]
    steps: list[str] = []

    def repro(_: Path) -> list[str]:
        steps.append("run")
        return list(ran)

    monkeypatch.setattr(verify, "checks", None)
    monkeypatch.setattr(verify, "_read", lambda _: (recorded, {}))
    monkeypatch.setattr(verify, "_forget_history", lambda _: steps.append("history is forgotten"))
    monkeypatch.setattr(verify, "_repro", repro)
    monkeypatch.setattr(record, "read", lambda _: results.pop(0))
    if verdict:
        with pytest.raises(verify.FalseRecord, match=verdict):
            verify._verify(Path(), Path())
    else:
        assert verify._verify(Path(), Path()) == 0
    assert steps[:2] == ["history is forgotten", "run"]
    assert results == []


def test_a_run_begins_without_outputs(standin: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    python = tmp_path / "python"  # in place of DVC
    python.write_text('#!/bin/sh\ncase "$*" in *--force*) ls metrics; echo "Running stage \'a\':" ;; esac\n')
    python.chmod(0o755)
    monkeypatch.setattr(verify.sys, "executable", str(python))
    assert (standin.root / "metrics/stats.json").is_file()
    assert verify._repro(standin.root) == ["a"]
    assert not list((standin.root / "metrics").glob("*.*"))


TABLES = {
    "metrics/history.csv": b"train_loss,train_accuracy,val_loss,val_accuracy\n0.9,0.5,0.8,0.6\n0.5,0.75,0.4,0.8\n",
    "models/predictions.csv": b"actual,predicted\n1,1\n2,2\n3,4\n5,5\n",
}
METRICS = {
    "train": {"loss": 0.5, "accuracy": 0.75},
    "evaluate": {"val.loss": 0.4, "val.accuracy": 0.8, "test.accuracy": 0.75},
}


@pytest.mark.parametrize("smoothing", [0, 0.1])
def test_a_metric_that_contradicts_its_table_is_named(smoothing, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pipeline, "load", lambda _: {"train": {"label_smoothing": smoothing}})
    assert checks.contradictions(record.Record({}, METRICS, set(), {}), TABLES) == []
    for stage, metrics in METRICS.items():
        for name, value in metrics.items():
            forged = METRICS | {stage: metrics | {name: value + 0.001}}
            found = checks.contradictions(record.Record({}, forged, set(), {}), TABLES)
            named = [] if smoothing and name == "val.loss" else [f"{stage}: {name}"]  # calibration changes the loss
            assert [line.partition(" is ")[0] for line in found] == named


OTHER_FRAME = Image.new("L", (8, 8), 255)


def shade(level: int, **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8), level).save(file, "PNG", **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("path", "before", "after", "words"),
    [
        ("a.png", shade(100), shade(102), ""),
        ("a.png", shade(100), shade(103), "shows something else"),
        ("a.png", shade(0), shade(0, save_all=True, append_images=[OTHER_FRAME]), "shows something else"),
        ("a.png", shade(0), shade(0, dpi=(300, 300)), "shows something else"),
        ("a.csv", b"index,loss\n0,0.5\n", b"index,loss\n0,0.50001\n", ""),
        ("a.csv", b"index,loss\n0,0.5\n", b"index,loss\n0,0.5001\n", "differs in 1 numbers by more than rounding"),
        ("a.csv", b"index,loss\n100000,0.5\n", b"index,loss\n100001,0.5\n", "differs in 1 numbers by more .*"),
        ("a.csv", b"index,loss\n", b"index,cost\n", "has different words"),
    ],
)
def test_what_is_more_than_rounding(path, before, after, words):
    assert re.fullmatch(words, checks.beyond_rounding(path, before, after))


@pytest.mark.slow
def test_a_true_record_is_proven(project: Project, tmp_path: Path):
    """In a subfolder of a clone at an odd path, on one core, in another user's home and language, without a cache."""
    project = project.in_a_subfolder(tmp_path / "mné st")
    done = project.try_run(
        *("taskset", "--cpu-list", "0", "python", "-m", "tools.verify", "--keep", str(tmp_path / "kept")),
        **{"HOME": str(tmp_path), "LANG": "C", "LC_ALL": "C"},
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("proven: every byte of every output was reproduced (identical to the bit)\n")
    table = [line.split() for line in done.stdout.splitlines() if " yes " in line]
    assert [row[:3] for row in table] == [[stage, "yes", "yes"] for stage in STAGES]
    assert project.run("git", "status", "--porcelain") == ""
    assert (tmp_path / "kept/sub/report.html").exists()
    done = project.try_run("python", "-m", "tools.verify", "--keep", str(tmp_path / "kept"))
    assert done.returncode == 2
    assert f"error: {tmp_path}/kept already exists: choose another folder" in done.stdout


OTHER = "ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41"


@pytest.mark.slow
def test_a_true_record_of_another_processor_is_plausible(project: Project):
    done = ask(project, STAGES_PROCESSOR=OTHER)
    assert done.returncode == 3, done.stdout
    assert "bits can't be compared: numerics " in done.stdout
    assert re.search(r"\ntrain +yes +no +.*loss: [\d.]+ -> ", done.stdout)
    assert done.stdout.endswith("everything else follows from the recorded model\n")


@pytest.mark.slow
def test_without_the_recorded_model_nothing_follows_from_it(project: Project):
    without_the_cache(project)
    assert ask(project).returncode == 0
    done = ask(project, STAGES_PROCESSOR=OTHER)
    assert done.returncode == 2, done.stdout
    assert "error: the recorded models/lenet5.safetensors, models/predictions.csv is nowhere to be had" in done.stdout


def test_what_cannot_be_asked(project: Project):
    project.edit("params.yaml", LR, "\n  lr: 0.01 ")
    done = project.try_run("python", "-m", "tools.verify")
    assert (done.returncode, done.stdout) == (
        2,
        "error: only what is committed can be verified: commit or stash params.yaml\n",
    )
    project.run("git", "checkout", "--quiet", ".")
    project.edit("requirements.lock", "numpy==", "numpy==99.")
    done = ask(project)
    assert done.returncode == 2
    assert done.stdout.startswith("error: packages differ from requirements.lock: numpy ")


@pytest.mark.slow
def test_a_stage_that_leaves_a_painted_picture_alone(project: Project):
    painted("metrics/filters.png")(project)
    idle_plot(project)
    done = ask(project)
    assert done.returncode == 1
    assert "plot: its cmd is not python -m stages plot" in done.stdout


@pytest.mark.slow
def test_planted_non_determinism(project: Project):
    project.edit(
        "stages/stats.py",
        "stats.write(mean, std)",
        "stats.write(mean, std + __import__('random').random() * 1e-6)",
    )
    project.repro()
    done = ask(project)
    assert done.returncode == 1
    assert "not deterministic: two runs on this machine differ\n  stats: metrics/stats.json" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("__import__('subprocess').run(['git', 'show', 'HEAD:dvc.lock'])", "error: the stage evaluate starts programs"),
        ("metrics['test']['accuracy'] += 0.01", "evaluate: test.accuracy is "),
    ],
)
def test_a_stage_whose_code_cheats(line, named, project: Project):
    project.edit("stages/evaluate.py", "    predictions.write(", f"    {line}\n    predictions.write(")
    project.run("dvc", "repro", STAGES_STRICT="")
    done = ask(project)
    assert done.returncode == 1
    assert named in done.stdout


@pytest.mark.slow
def test_a_stage_that_reads_what_dvc_yaml_does_not_list(project: Project, tmp_path: Path):
    secret = project.root / "secret.txt"
    secret.write_text("0")
    project.edit("stages/stats.py", "    mean, std =", f"    Path({str(secret)!r}).read_text()\n    mean, std =")
    project.edit("stages/stats.py", "from lenet.data", "from pathlib import Path\n\nfrom lenet.data")
    project.run("dvc", "repro", STAGES_STRICT="")
    done = ask(project)
    assert done.returncode == 1
    assert f"error: the stage stats reads files that its deps in dvc.yaml do not list: {secret}" in done.stdout


@pytest.mark.slow
def test_a_damaged_cache_is_noticed_and_cured(project: Project, tmp_path: Path):
    cache = (project.root / ".dvc/cache").rename(tmp_path / "moved")
    project.run("dvc", "cache", "dir", "--local", str(cache))
    model = project.root / "models/lenet5.safetensors"
    data = model.read_bytes()
    (cached,) = (path for path in cache.glob("files/md5/??/*") if path.read_bytes() == data)
    cached.chmod(0o644)
    cached.write_bytes(b"damaged")
    cached.chmod(0o444)
    model.unlink()
    assert project.repro() == []
    assert model.read_bytes() == b"damaged"  # restored in silence
    done = ask(project)
    assert done.returncode == 2
    assert f"error: DVC's cache is damaged, and DVC won't notice: remove {cached}, " in done.stdout
    cached.unlink()
    for folder in ("data", "models"):
        shutil.rmtree(project.root / folder)
    project.repro()
    assert model.read_bytes() == data
    assert ask(project).returncode == 0
