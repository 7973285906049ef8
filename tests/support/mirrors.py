"""A server of weights on loopback that serves, cuts off, lies, stalls …, and a table that has small files."""

import contextlib
import hashlib
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mslab.weights import fetching, registry, torchvision

CONTENT = bytes(range(256)) * 2000  # 512 kB
PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"


class Mirror(ThreadingHTTPServer):
    """Answers with CONTENT; `answers` are taken first, one a request. `requests`: (path, Range) of each."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.answers: list[Callable[[Handler], None]] = []
        self.requests: list[tuple[str, str]] = []
        self.released = threading.Event()  # for answers that wait

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers.get("Range", "")))
        answer = self.server.answers.pop(0) if self.server.answers else serve
        with contextlib.suppress(ConnectionError):
            answer(self)

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def begin(self, code: int, **headers: object) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    @property
    def start(self) -> int:
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(found[1]) if found else 0


def serve(handler: Handler, most: int | None = None) -> None:
    """The rest of the file that was asked for, or `most` bytes of it, and then the end of the connection."""
    content, start = handler.server.content, handler.start
    if start >= len(content):
        handler.begin(416, Content_Range=f"bytes */{len(content)}", Content_Length=0)
        return
    headers = {"Content_Length": len(content) - start}
    if start:
        headers["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
    handler.begin(206 if start else 200, **headers)
    handler.wfile.write(content[start:][:most])


def cut(most: int) -> Callable[[Handler], None]:
    return lambda handler: serve(handler, most)


def whole(content: bytes, most: int | None = None, **headers: object) -> Callable[[Handler], None]:
    """A server that knows no ranges."""

    def answer(handler: Handler) -> None:
        handler.begin(200, **({"Content_Length": len(content)} | headers))
        handler.wfile.write(content[:most])

    return answer


def status(code: int, **headers: object) -> Callable[[Handler], None]:
    return lambda handler: handler.begin(code, **({"Content_Length": 0} | headers))


def stall(most: int) -> Callable[[Handler], None]:
    """Sends some bytes, then nothing, with the connection open."""

    def answer(handler: Handler) -> None:
        serve(handler, most)
        handler.wfile.flush()
        handler.server.released.wait(20)

    return answer


def slowly(pieces: int, pause: float) -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        content = handler.server.content
        handler.begin(200, Content_Length=len(content))
        for at in range(0, len(content), len(content) // pieces):
            handler.wfile.write(content[at : at + len(content) // pieces])
            time.sleep(pause)

    return answer


def chunked(most: int | None = None, end: bool = True) -> Callable[[Handler], None]:
    """The file in chunks, without its length. `end`: whether the last chunk says so."""

    def answer(handler: Handler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.begin(200, Transfer_Encoding="chunked")
        for at in range(0, len(handler.server.content[:most]), 100_000):
            piece = handler.server.content[:most][at : at + 100_000]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        handler.wfile.write(b"0\r\n\r\n" * end)
        handler.close_connection = True

    return answer


@contextlib.contextmanager
def running() -> Iterator[Mirror]:
    server = Mirror()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()


def rows(content: bytes = CONTENT, name: str = "resnet18.IMAGENET1K_V1", stem: str = "resnet18") -> str:
    """A table of torchvision with one file of this content, under a name that has the digits of its hash."""
    return f"\n{name} {stem}-{hashlib.sha256(content).hexdigest()[:8]}.pth 69.758 224/256 44.661\n"


def use_table(patch: pytest.MonkeyPatch, text: str) -> None:
    patch.setattr(torchvision, "ROWS", text)
    for function in (registry.table, registry.defaults, registry.by_file):
        function.cache_clear()


def program(table: str, *words: str) -> list[str]:
    """A process `mslab …` with this table, and without pauses between tries."""
    lines = ["import sys", "from mslab.weights import fetching, torchvision", f"torchvision.ROWS = {table!r}"]
    lines += ["fetching.PAUSE = 0.01", f"sys.argv = ['mslab', *{words!r}]", "from mslab.cli import app", "app()"]
    return [sys.executable, "-P", "-c", "\n".join(lines)]


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Mirror]:
    """A server that has the file of torchvision:resnet18, an empty folder of weights, no pauses."""
    with running() as server:
        use_table(monkeypatch, rows())
        monkeypatch.setattr(fetching, "PAUSE", 0.0)
        monkeypatch.setenv("MSLAB_WEIGHTS", str(tmp_path / "weights"))
        monkeypatch.setenv("MSLAB_WEIGHTS_MIRROR", server.address)
        yield server
    for function in (registry.table, registry.defaults, registry.by_file):
        function.cache_clear()
