"""`mslab serve` in a separate process, and requests to its page and its endpoint."""

import base64
import http.client
import io
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import PROGRAM
from PIL import Image

from mslab import checkpoint

CLASSES = [  # class names of the network in most tests: hostile text
    "<script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\"> & 'quotes'",
    "new\nline, \u202eturned\u202c, half \ud800",
    "long" * 2_500,
]
BOUNDARY = "between"
COMMAND = [*PROGRAM, "serve"]
FILES = 64  # that the server may open, connections included


@dataclass
class Served:
    """A server in a separate process. `temp` is its folder for temporary files."""

    process: subprocess.Popen
    log: Path
    temp: Path
    source: Path
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def ask(self, method="GET", path="/", body=b"", **headers) -> tuple[int, dict, bytes]:
        """Status, headers, body. Header names with _ for -; Host is this server's by default."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        renamed = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {"Host": f"127.0.0.1:{self.port}"} | renamed)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), content

    def connect(self, *lines: str, body: bytes = b"") -> socket.socket:
        """A connection on which these lines of a request have been sent, and nothing else."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        connection.sendall("".join(f"{line}\r\n" for line in lines).encode() + body)
        return connection

    def predict(self, *images: bytes, heat: bool = False) -> list[dict]:
        """The answers for images, sent as a form."""
        status, _, body = self.ask("POST", f"/predict{'?heat=1' if heat else ''}", form(*images), **FORM)
        assert status == 200, body
        return json.loads(body)["images"]


FORM = {"Content_Type": f"multipart/form-data; boundary={BOUNDARY}"}


def form(*images: bytes, name="image", filename="../../etc/passwd\r\n\x1b[31m.png") -> bytes:
    """A form as a browser sends it, but with hostile names."""
    quoted = filename.replace("\r", "%0D").replace("\n", "%0A")
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{quoted}"\r\n\r\n'.encode()
    return b"".join(head + image + b"\r\n" for image in images) + f"--{BOUNDARY}--\r\n".encode()


def few_files():
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))


@contextmanager
def serving(source, folder, *more):
    """`mslab serve` on a free port, once it has logged that it is ready; stopped by Ctrl-C."""
    temp, log = folder / "temp", folder / "log"
    temp.mkdir()
    command = [*COMMAND, str(source), "--port", "0", "--device", "cpu", *more]
    with log.open("wb") as file:
        environment = os.environ | {"TMPDIR": str(temp)}
        process = subprocess.Popen(command, stderr=file, env=environment, preexec_fn=few_files)
    served = Served(process, log, temp, Path(source))
    try:
        for _ in range(600):
            if ready := re.search(r"^ready: http://\S+:(\d+)/", log.read_text(), re.MULTILINE):
                served.port = int(ready[1])
                break
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        yield served
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


@contextmanager
def hostile(parent, folder):
    """A server with hostile class names."""
    weights = checkpoint.read(parent / "checkpoints" / "best.ckpt")
    file = folder / "hostile.ckpt"
    checkpoint.save_arrays(weights.backbone | weights.head, file, weights.info | {"class_names": CLASSES})
    with serving(file, folder) as running:
        yield running


# --- a proxy in front -------------------------------------------------------------------------------------------------

CONFIG = """
daemon off; pid pid; error_log stderr warn; %s
events {}
http {
    access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path a; uwsgi_temp_path b;
    scgi_temp_path c;
    server {
        listen 127.0.0.1:%d;
        %s
        %s
    }
}
"""


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]


@contextmanager
def nginx(folder, port, rules, more=""):
    """nginx on this port. `rules`: location -> address that it passes requests to; `more`: lines of its server."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("no proxy: nginx is not installed; on Debian: apt-get install nginx-light")
    locations = "".join(f"location {path} {{ proxy_pass {address}; }}\n" for path, address in rules.items())
    user = "user root;" if os.geteuid() == 0 else ""  # else its workers may not read this folder
    (folder / "nginx.conf").write_text(CONFIG % (user, port, more, locations))
    log = folder / "nginx.log"
    with log.open("wb") as file:
        process = subprocess.Popen([program, "-p", folder, "-e", "stderr", "-c", "nginx.conf"], stderr=file)
    try:
        for _ in range(100):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(10)


def fetched(port: int, path: str, host: str) -> tuple[int, dict]:
    """Status and JSON, or {}, of a GET with this Host."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={"Host": host})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content) if "json" in answer.getheader("Content-Type", "") else {}


def as_bytes(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# --- the page --------------------------------------------------------------------------------------------------------


def percentages(article) -> list[float]:
    """The numbers beside a card's bars, in per cent."""
    return [float(text.removesuffix(" %")) for text in article.locator("td.number").all_inner_texts()]


def assert_no_complaints(page, served):
    """Assert that the page has no errors, ran no text as code, and sent requests to the server only."""
    assert page.complaints == [] and page.title() == "mslab serve"
    assert {url for url in page.requested if not url.startswith((served.url, "blob:", "data:"))} == set()


def escaped(text: str) -> str:
    """Untrusted text as the page and the table of `mslab predict` show it, except for the form of the escapes."""
    return re.sub(r"[\n\u202e\u202c\ud800]", lambda m: f"\\u{{{ord(m[0]):x}}}", text)


def drop(page, files, zeros=0):
    """Drop files, (name, bytes), on the page as a user would; also one of `zeros` zero bytes."""
    script = """([files, zeros]) => {
        const dropped = new DataTransfer();
        for (const [name, text] of files)
            dropped.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
        if (zeros) dropped.items.add(new File([new Uint8Array(zeros)], "zeros.png"));
        return dropped;
    }"""
    texts = [(name, base64.b64encode(content).decode()) for name, content in files]
    dropped = page.evaluate_handle(script, [texts, zeros])
    for kind in ("dragover", "drop"):
        page.dispatch_event("#drop", kind, {"dataTransfer": dropped})
