"""How this machine computes: `python -m tools.fleet.arithmetic` prints it as JSON.

`cpu` and, where there is a GPU, `cuda` are fingerprints (lenet/provenance.py): machines with equal ones give the same
bits. `gpus` is the number of GPUs. It is a program of its own, because the variables of the environment that decide it
have to be there before PyTorch is imported.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from lenet import arithmetic
from lenet.errors import PipelineError, run
from tools import pipeline


def measure() -> dict[str, Any]:
    """Return what this program prints, in the environment that a stage has."""
    replaced = dict(pair.split("=", 1) for pair in os.environ.get("STAGES_PROCESSOR", "").split())
    environment = os.environ | arithmetic.environment() | replaced
    command = [sys.executable, "-m", "tools.fleet.arithmetic"]
    done = subprocess.run(command, env=environment, text=True, capture_output=True)
    if done.returncode:
        last = (done.stderr.strip() or "it says nothing").splitlines()[-1].removeprefix("error: ")
        raise PipelineError(
            f"the arithmetic of this machine can't be measured: {last}", status=2 if done.returncode == 2 else 1
        )
    return dict(json.loads(done.stdout))


def _fingerprint(device: str) -> str:
    from lenet.checking import check
    from lenet.compute import ComputeConfig, prepare
    from lenet.provenance import fingerprint_of_scoring
    from lenet.training import TrainConfig, fingerprint_of_training

    place = prepare(ComputeConfig(device=device, threads=1))  # type: ignore[arg-type]
    # Of the params, the fingerprint depends on the batch size alone.
    train = check(pipeline.load(Path("params.yaml")), {"train": TrainConfig}, "params.yaml")["train"]
    train = train.model_copy(update={"batch_size": 64})
    both = fingerprint_of_scoring(place) + fingerprint_of_training(train, place)
    return hashlib.sha256(both.encode()).hexdigest()[:16]


def main() -> None:
    """Print the JSON."""
    import torch

    found: dict[str, Any] = {"cpu": _fingerprint("cpu"), "gpus": torch.cuda.device_count()}
    if found["gpus"]:
        found["cuda"] = _fingerprint("cuda")
    print(json.dumps(found))


if __name__ == "__main__":
    run(main)
