"""Stands in for each stage's script where only DVC's behaviour is tested: the same files, hardly any work.

What it writes depends, as a stage's results do, on its params and on the contents of the data, models and metrics that
it reads, but not on the words of its code. Each run adds the stage's name to the file that RAN names. Where WAIT names
a folder, stage train creates `started` there and waits for `go`.
"""

from stages.runner import run

# isort: split
import dataclasses
import hashlib
import os
import sys
import time
from pathlib import Path

from ruamel.yaml import YAML

from stages import params
from stages.files import write

STAGE = Path(sys.argv[0]).stem


@dataclasses.dataclass(frozen=True)
class Anything:
    """A section whose keys nobody checks."""


def main() -> None:
    """Write every output of the stage."""
    stage = YAML(typ="safe").load(Path("dvc.yaml").read_text())["stages"][STAGE]
    content = hashlib.sha256()
    params.parse = lambda raw, kind, section: raw
    for section in stage.get("params", []):
        content.update(repr(params.read(section, Anything)).encode())
    for dep in map(Path, stage["deps"]):
        if dep.suffix != ".py" and dep.name != "requirements.lock":
            for path in sorted(dep.iterdir()) if dep.is_dir() else [dep]:
                content.update(path.read_bytes())
    if log := os.environ.get("RAN"):
        with Path(log).open("a") as file:
            file.write(f"{STAGE}\n")
    if STAGE == "train" and (folder := os.environ.get("WAIT")):
        Path(folder, "started").touch()
        while not Path(folder, "go").exists():
            time.sleep(0.01)
    for entry in stage.get("outs", []) + stage.get("metrics", []) + stage.get("plots", []):
        for out in [entry] if isinstance(entry, str) else entry:
            path = Path(out, "file") if out == "data/mnist" else Path(out)
            number = int(content.hexdigest()[:12], 16)
            write(path, f'{{"number": {number}}}\n'.encode() if path.suffix == ".json" else f"{number}\n".encode())


if __name__ == "__main__":
    run(main)
