"""mslab serve: connections that are slow, uploads that need too much memory, log lines that repeat."""

import asyncio
import json
import logging
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
import uvicorn

from mslab.inference.serve import connections, limits, server, uploads
from mslab.inference.serve.addresses import Addresses
from mslab.inference.serve.repeats import Repeats

GET = b"GET /page.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
POST = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"
SLOW = {
    "silent": b"",
    "a header that does not end": b"GET / HTTP/1.1\r\nX: ",
    "a body that does not come": POST + b"Content-Length: 9\r\n\r\n",
    "a body that waits to be asked for": POST + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n",
    "a chunk that does not end": POST + b"Transfer-Encoding: chunked\r\n\r\n9\r\na",
    "answers that nobody reads": GET * 1_000,
    "a second header that does not end": GET + b"GET /",
}


class Nothing:
    """In place of the network, which none of these requests reaches."""

    def stop(self) -> None:
        pass


@contextmanager
def running():
    """The real server without a network, in a thread. Yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        application = server.App(None, Addresses("127.0.0.1"), "x")
        config = uvicorn.Config(
            application, http=connections.Connection, ws="none", lifespan="off", log_config=None, access_log=False
        )
        running = connections.Server(config, Nothing(), listener, Repeats(), Addresses("127.0.0.1"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            running.should_exit = True
            thread.join()


def connect(port: int, content: bytes = b"") -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", port))
    connection.sendall(content)
    return connection


def rest(connection: socket.socket) -> bytes:
    """What arrives until the server closes the connection."""
    received = b""
    try:
        while part := connection.recv(1 << 16):
            received += part
    except ConnectionResetError:
        pass
    return received


def test_the_server_closes_every_slow_connection_by_itself(monkeypatch):
    monkeypatch.setattr(uploads, "BODY_SECONDS", 0.2)
    monkeypatch.setattr(
        connections,
        "SECONDS",
        {"waiting for a request": 0.4, "sending an answer": 0.4, "receiving a request": 9.0, "working": 9.0},
    )
    with running() as port:
        slow = {name: connect(port, content) for name, content in SLOW.items()}
        with connect(port, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n") as quick:
            assert rest(quick).startswith(b"HTTP/1.1 200")
        for name, connection in slow.items():
            if name == "answers that nobody reads":
                with pytest.raises(OSError, match=r"reset|Broken pipe"):
                    while True:  # the server does not read either: sending blocks until it closes the connection
                        connection.sendall(GET * 1_000)
            else:
                received = rest(connection)
                assert (b" 408 " in received) == ("body" in name or "chunk" in name), name
            connection.close()


def test_a_full_server_closes_the_oldest_connection_of_the_largest_group(monkeypatch):
    monkeypatch.setattr(connections.Connection, "most", 10)
    with running() as port:
        upload = connect(port, POST + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n")
        assert upload.recv(100).startswith(b"HTTP/1.1 100")
        silent = [connect(port) for _ in range(30)]
        for connection in silent[:20]:
            assert rest(connection) == b""
        with connect(port, GET) as late:
            assert late.recv(12) == b"HTTP/1.1 200"
        upload.setblocking(False)
        with pytest.raises(BlockingIOError):  # older than all, but still open
            upload.recv(1)
        for connection in (upload, *silent):
            connection.close()


def test_few_files_allow_few_connections_and_many_no_more_than_the_limit():
    code = """
import resource
from mslab.inference.serve.limits import possible_connections
for files in (resource.getrlimit(resource.RLIMIT_NOFILE)[1], 64, 16):
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    print(possible_connections())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    many, few, fewest = map(int, done.stdout.split())
    assert 100 < many <= limits.CONNECTIONS and 10 < few < 20 and fewest == 4


# --- memory ----------------------------------------------------------------------------------------------------------


def upload(app, address: str, *parts: bytes):
    """Status and answer to a body that arrives in these parts and then not at all, as a coroutine."""
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]

    async def receive():
        return messages.pop(0) if messages else await asyncio.sleep(60)

    async def answer():
        sent = []

        async def send(message):
            sent.append(message)

        waits = [(b"host", b"localhost"), (b"expect", b"100-continue")]  # so that a refusal does not wait for the rest
        scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": waits}
        await app(scope | {"client": (address, 1)}, receive, send)
        return sent[0]["status"], json.loads(sent[1]["body"])

    return answer()


def test_uploads_beyond_the_memory_drop_the_oldest_of_the_address_that_has_most(monkeypatch):
    monkeypatch.setattr(uploads, "MEMORY", 1000)
    monkeypatch.setattr(uploads, "BODY_SECONDS", 0.1)

    async def all_of_them():
        app = server.App(None, Addresses("127.0.0.1"), "x")
        sizes = (("a", 300), ("b", 350), ("b", 300), ("a", 250))
        return await asyncio.gather(*[upload(app, address, bytes(size)) for address, size in sizes])

    answers = asyncio.run(all_of_them())
    assert [status for status, _ in answers] == [408, 503, 408, 408]
    assert "larger than" in answers[1][1]["error"] and answers[1][1]["expected"] and answers[1][1]["fix"]


# --- the log ---------------------------------------------------------------------------------------------------------


def test_a_repeated_line_appears_once_with_a_count(caplog):
    log = logging.getLogger("mslab")
    log.addHandler(caplog.handler)
    try:
        with Repeats() as repeats, caplog.at_level(logging.INFO):
            for number in range(5):
                log.info("GET / 200 0.0%d s", number, extra={"kind": "GET / 200"})
                logging.getLogger("asyncio").error("no more files\nsocket %d", number)
            log.info("another line")
            repeats.report()  # too early
    finally:
        log.removeHandler(caplog.handler)
    texts = [record.getMessage() for record in caplog.records if record.name == "mslab"]
    assert texts == ["GET / 200 0.00 s", "another line", "GET / 200: 4 more in 0 s", "no more files: 4 more in 0 s"]
