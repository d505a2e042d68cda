"""Fake MNIST: seven-segment digits, shifted and noisy, in files like MNIST's."""

import gzip
import hashlib
import re
import struct
from pathlib import Path

import numpy as np

# The segments of a calculator's digits, clockwise from the top, the middle one last, as rows and columns of an image.
_SEGMENTS = [
    (slice(5, 8), slice(9, 19)),
    (slice(5, 15), slice(16, 19)),
    (slice(12, 22), slice(16, 19)),
    (slice(19, 22), slice(9, 19)),
    (slice(12, 22), slice(9, 12)),
    (slice(5, 15), slice(9, 12)),
    (slice(12, 15), slice(9, 19)),
]
_LIT = ["012345", "12", "01643", "01236", "5612", "05623", "056432", "012", "0123456", "650123"]


def digits(n: int, seed: int = 0, classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Return `n` images, uint8 n×28×28, and their labels, uint8 n, each of the `classes` equally often."""
    random = np.random.default_rng(seed)
    labels = (np.arange(n) % classes).astype(np.uint8)
    images = random.integers(0, 60, (n, 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        for segment in _LIT[label]:
            image[_SEGMENTS[int(segment)]] += 180
        image[:] = np.roll(image, random.integers(-2, 3, 2), (0, 1))
    return images, labels


def idx(array: np.ndarray) -> bytes:
    """Return `array` of uint8 as an IDX file."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def files(train: int, test: int, classes: int = 10) -> dict[str, bytes]:
    """Return the four files of a fake MNIST by name."""
    content = {}
    for part, n, seed in (("train", train, 0), ("t10k", test, 1)):
        images, labels = digits(n, seed, classes)
        content |= {f"{part}-images-idx3-ubyte": idx(images), f"{part}-labels-idx1-ubyte": idx(labels)}
    return content


def checksums(content: dict[str, bytes]) -> dict[str, tuple[int, str]]:
    """Return the FILES of lenet/data/dataset.py that stand for just `content`."""
    return {name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in content.items()}


def dataset(text: str, content: dict[str, bytes]) -> str:
    """Return `text`, that of lenet/data/dataset.py, with the FILES that stand for just `content`."""
    changed, n = re.subn(r"^FILES = {.*?}$", f"FILES = {checksums(content)!r}", text, flags=re.M | re.S)
    assert n == 1
    return changed


def write_mirror(folder: Path, content: dict[str, bytes]) -> None:
    """Write `content` into `folder` as the mirrors have it, gzipped."""
    folder.mkdir(parents=True)
    for name, data in content.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(data, mtime=0))
