"""What a worker offers and an experiment takes, in the words of Dask's resources: an amount of each thing."""

import hashlib
import os
from functools import cache
from pathlib import Path
from typing import Any

NAMES = {"cores": "core", "gpu": "GPU"}


def layout(cores: int, gpus: int) -> list[dict[str, Any]]:
    """Return the workers of a host: one for each GPU, each with its share of the cores; without GPUs, one.

    `CUDA_VISIBLE_DEVICES`, where it is set, says which GPUs there are.
    """
    if not gpus:
        return [{"cores": cores, "gpu": None}]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(number) for number in range(gpus)]
    return [{"cores": max(1, cores // gpus), "gpu": name} for name in names[:gpus]]


def describe(offer: dict[str, float]) -> str:
    """Return in words what is offered."""
    words = [f"{offer[what]:.0f} {name}{'s' * (offer[what] != 1)}" for what, name in NAMES.items() if what in offer]
    return " and ".join(words)


def resources(one: dict[str, Any], found: dict[str, Any]) -> dict[str, float]:
    """Return what a worker offers.

    An experiment takes cores, or a GPU, and asks for a mark. So hosts with other code of the fleet or, where it
    matters, other arithmetic never get one.
    """
    devices = ["cpu", *(["cuda"] if one["gpu"] is not None else [])]
    marks = [mark(device, known_as) for device in devices for known_as in (found[device], "any")]
    return dict.fromkeys(["cores", *marks], float(one["cores"])) | ({"gpu": 1.0} if "cuda" in devices else {})


def mark(device: str, fingerprint: str) -> str:
    """Return the name of what a worker offers that has this code of the fleet, and on `device` that arithmetic."""
    return f"{_code()} {device} {fingerprint}"


def arithmetic(device: str, offer: dict[str, float]) -> str:
    """Return the arithmetic on `device` of a worker that offers that."""
    found = {name.removeprefix(mark(device, "")) for name in offer if name.startswith(mark(device, ""))}
    (known,) = found - {"any"}
    return known


@cache
def _code() -> str:
    content = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return hashlib.sha256(content).hexdigest()[:8]


def objection(offer: dict[str, float], here: dict[str, Any], any_arithmetic: bool) -> str:
    """Return why a host that offers that takes no part for a submitter who computes as `here`; "" if it does."""
    if mark("cpu", "any") not in offer:
        return "other code in tools/fleet: git pull there"
    if not any_arithmetic and mark("cpu", here["cpu"]) not in offer:
        return "other arithmetic, so other last bits: --any-arithmetic lets it take part"
    return ""
