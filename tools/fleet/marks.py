"""Marks: what a host and the submitter must have in common for an experiment to run there.

The mark of a host and a device is `CODE LOCK DEVICE NUMERICS`: the hashes of tools/fleet with the code that it imports
and of requirements.lock, and the fingerprint of the device's numerics. A worker offers every prefix of its marks as a
Dask resource, and an experiment requires one of them: a complete mark or, if any numerics will do, a mark without its
last part. So Dask's scheduler itself keeps experiments away from unsuitable hosts.
"""

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

# What a host runs from its own clone. It runs stages from the experiment's commit.
CODE = ("tools/fleet/*.py", "tools/errors.py", "tools/git.py", "stages/launch/*.py", "lenet/errors.py")
# Why a host does not offer a prefix of 1, 2, 3 or 4 parts.
OBJECTIONS = (
    "different code in tools or stages/launch: run git pull there and restart the worker",
    "different packages in requirements.lock: run git pull and make fleet there and restart the worker",
    "no GPU",
    "different numerics, so the last bits differ: --any-numerics includes it",
)


def mark(device: str, numerics: str) -> str:
    """Return the mark for this code and lock file; with an empty `numerics`, the prefix that accepts any."""
    return " ".join([*_hashes(), device, numerics]).strip()


@cache  # an update while this process runs does not change the code that it has loaded
def _hashes() -> tuple[str, str]:
    root = Path(__file__).parents[2]
    code = b"".join(path.read_bytes() for pattern in CODE for path in sorted(root.glob(pattern)))
    first, second = (
        hashlib.sha256(content).hexdigest()[:8] for content in (code, Path("requirements.lock").read_bytes())
    )
    return first, second


def _beginnings(wanted: str) -> list[str]:
    parts = wanted.split()
    return [" ".join(parts[:length]) for length in range(1, len(parts) + 1)]


def resources(cores: int, numerics: dict[str, str]) -> dict[str, float]:
    """Return what a worker offers, given its number of cores and the fingerprint of each of its devices."""
    beginnings = [name for pair in numerics.items() for name in _beginnings(mark(*pair))]
    return dict.fromkeys(["cores", *beginnings], float(cores)) | ({"gpu": 1.0} if "cuda" in numerics else {})


def objection(offered: Iterable[str], wanted: str) -> str:
    """Return why a host that offers `offered` can't run an experiment that requires the mark `wanted`, or ""."""
    return next((why for part, why in zip(_beginnings(wanted), OBJECTIONS, strict=False) if part not in offered), "")


def numerics(offered: Iterable[str], device: str) -> str:
    """Return the fingerprint for `device` of a worker that offers `offered`."""
    return next(parts[3] for parts in map(str.split, offered) if len(parts) == 4 and parts[2] == device)


def describe(offered: dict[str, float]) -> str:
    """Return in words how many cores and GPUs a worker offers: `4 cores and 1 GPU`."""
    words = [(offered.get(name, 0), word) for name, word in (("cores", "core"), ("gpu", "GPU"))]
    return " and ".join(f"{number:.0f} {word}{'s' * (number != 1)}" for number, word in words if number)
