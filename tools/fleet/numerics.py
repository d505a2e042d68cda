"""The numerics of this machine: `python -m tools.fleet.numerics` prints them as JSON.

It is a separate program because the environment variables that affect the last bits must be set before PyTorch is
imported.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass

from stages.launch.numerics import environment
from tools.errors import ToolError, run
from tools.git import reason


@dataclass(frozen=True)
class Machine:
    """The GPUs and numerics of a machine. Machines with the same fingerprint for a device compute the same bits."""

    gpus: int
    numerics: dict[str, str]  # the fingerprint for `cpu` and, if there is a GPU, for `cuda`


def measure() -> Machine:
    """Measure this machine, in the environment of a stage; raise ToolError if that fails."""
    command = [sys.executable, "-m", "tools.fleet.numerics"]
    done = subprocess.run(command, env=os.environ | environment(), text=True, capture_output=True)
    if done.returncode:
        raise ToolError(f"the numerics of this machine can't be measured: {reason(done.stderr)}", done.returncode)
    return Machine(**json.loads(done.stdout))


def _fingerprint(device: str) -> str:
    from lenet.compute import ComputeConfig, prepare
    from lenet.numerics import fingerprint_of_machine

    return fingerprint_of_machine(prepare(ComputeConfig.model_validate({"device": device, "threads": 1})))


def main() -> None:
    """Print the fields of `Machine`."""
    import torch

    gpus = torch.cuda.device_count()
    devices = ["cpu", "cuda"] if gpus else ["cpu"]
    print(json.dumps({"gpus": gpus, "numerics": {device: _fingerprint(device) for device in devices}}))


if __name__ == "__main__":
    run(main)
