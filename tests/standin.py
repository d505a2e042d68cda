"""Stands in for each stage where only DVC's behaviour or the launcher's is tested: the same files, hardly any work.

What it writes depends, as a stage's results do, on its params and on the contents of the data, models and metrics that
it reads, but not on the words of its code.

No variable of a test's own reaches a stage, but HOME does: there a test leaves word for its stand-ins, and they for it.
Each run adds the stage's name to the file `ran` there. Where there is a file `wait: train`, or `wait: train is
imported`, the stage train creates `started` at that moment and waits for `go`.
"""

import hashlib
import time
from pathlib import Path

from pydantic import BaseModel

from stages.artifacts.files import write
from stages.launch import yaml12

STAGE = Path(__file__).stem
ENTRY = yaml12.load(Path("dvc.yaml").read_bytes(), "dvc.yaml")["stages"][STAGE]


class Anything(BaseModel, extra="allow"):
    """A section whose keys nobody checks."""


def wait(when: str) -> None:
    """Wait for a test that wants to do something at this moment."""
    if (Path.home() / f"wait: {when}").exists():
        (Path.home() / "started").touch()
        while not (Path.home() / "go").exists():
            time.sleep(0.01)


wait(f"{STAGE} is imported")


def main(**sections: Anything) -> None:
    """Write every output of the stage."""
    content = hashlib.sha256(repr(sections).encode())
    for dep in map(Path, ENTRY["deps"]):
        if dep.suffix != ".py" and dep.name != "requirements.lock":
            for path in sorted(dep.iterdir()) if dep.is_dir() else [dep]:
                content.update(path.read_bytes())
    with (Path.home() / "ran").open("a") as file:
        file.write(f"{STAGE}\n")
    wait(STAGE)
    for entry in ENTRY.get("outs", []) + ENTRY.get("metrics", []) + ENTRY.get("plots", []):
        for out in [entry] if isinstance(entry, str) else entry:
            path = Path(out, "file") if out == "data/mnist" else Path(out)
            number = int(content.hexdigest()[:12], 16)
            write(path, f'{{"number": {number}}}\n'.encode() if path.suffix == ".json" else f"{number}\n".encode())


# The launcher asks main for the sections of params.yaml that it takes.
main.__annotations__ = dict.fromkeys(ENTRY.get("params", []), Anything)
