"""`mslab serve`: a page and an endpoint that classify images on this machine; nothing leaves it.

`App.__call__` handles every request from start to end: host, path and method, the answer, headers, the log line.
Refusals are MslabErrors with a status; the client gets what happened, expected and fix as JSON.
connections.py limits connections, uploads.py the requests that arrive.
Only predictor.py imports MindSpore, after all checks that do not need it.
"""

import asyncio
import errno
import ipaddress
import json
import logging
import socket
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from mslab.config import language
from mslab.errors import MslabError
from mslab.inference.serve import zh
from mslab.inference.serve.connections import Connection, Server
from mslab.inference.serve.limits import (
    BODY,
    BODY_SECONDS,
    IMAGE_SECONDS,
    IMAGES,
    PER_ADDRESS,
    PIXELS,
    WAITING,
    HTTPError,
    possible_connections,
)
from mslab.inference.serve.repeats import Repeats
from mslab.inference.serve.uploads import Body, Uploads, drain

if TYPE_CHECKING:
    from mslab.inference.serve.predictor import Predictor

log = logging.getLogger("mslab")

PAGES = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js"}
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
HEADERS = {
    # only page.js runs, only images that it created are shown, only this server is called; text never becomes HTML
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


def run(source: Path, host: str, port: int, device: str, engine: str = "auto", precision: str = "fp32") -> None:
    """Answer requests until Ctrl-C, which is raised. Raises MslabError if the server cannot start."""
    with open_listener(host, port) as listener:  # first: loading the network takes seconds
        if not is_loopback(host):
            log.info(
                "note: --host %s: anyone who can reach this address can use the network without a password, and "
                "requests are not encrypted; browsers allow the camera at http://127.0.0.1 only",
                host,
            )
        from mslab.inference import predicting
        from mslab.inference.serve.predictor import Predictor

        model = predicting.open_model(source, device, 1, engine=engine, precision=precision)
        with (
            Repeats() as repeats,
            tempfile.TemporaryDirectory(prefix="mslab-serve-") as folder,
            Predictor(model, Path(folder)) as predictor,
        ):
            predictor.thread.submit(predictor.warm_up).result()
            Connection.most = possible_connections()
            # no proxy_headers: they let a client choose its address; no log_config: all logging is done here
            config = uvicorn.Config(
                App(predictor, host, source.resolve().name),
                http=Connection,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=2,
                backlog=max(1, Connection.most // 3),  # several times that many are accepted before others are closed
            )
            Server(config, predictor, listener, repeats).run(sockets=[listener])


def open_listener(host: str, port: int) -> socket.socket:
    """A listening socket. Raises MslabError if it cannot be opened."""
    try:
        address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[4][:2], family=address[0])
    except (OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise MslabError(
                f"Port {port} of {host} is in use by another program.",
                expected="a free port",
                fix=f"use --port {port + 1 if port < 65535 else 8000}, or --port 0 for any free port",
            ) from None
        raise MslabError(
            f"mslab cannot listen on {host}, port {port}: {getattr(error, 'strerror', None) or error}.",
            expected="an address of this machine, and a port of at least 1024",
            fix="leave out --host and --port; the defaults are 127.0.0.1, reachable from this machine only, and 8000",
        ) from None


def is_loopback(host: str) -> bool:
    """Whether the address is reachable from this machine only."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


class App:
    """The ASGI application that uvicorn calls for each request."""

    def __init__(self, predictor: "Predictor", host: str, source: str) -> None:
        self.predictor, self.host, self.source = predictor, host.lower(), source
        self.pages = {path: Path(__file__).with_name(name).read_bytes() for path, name in PAGES.items()}
        self.uploads = Uploads()
        self.waiting: list[str] = []  # addresses of the complete requests that wait for their answer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, start = Body(receive), time.monotonic()
        request = Request(scope, body.receive)
        lang = language.of_header(request.headers.get("accept-language", ""))
        path = scope["path"] if scope["path"] in (*PAGES, "/about", "/predict") else "(no such page)"
        allowed = ["POST"] if path == "/predict" else ["GET", "HEAD"]
        method = request.method if request.method in ("GET", "HEAD", "POST") else "(other)"
        try:
            self.check_host(request)
            if path == "(no such page)":
                raise HTTPError(404, "No such page.", f"{', '.join(PAGES)}, /about or /predict", "start at /")
            if method not in allowed:
                methods = " or ".join(allowed)
                raise HTTPError(405, f"{path} does not allow this method.", methods, f"use {allowed[0]} for {path}")
            if path == "/predict":
                check_origin(request)
                response = as_json({"images": zh.answers(await self.predict(request), lang)})
            elif path == "/about":
                response = as_json(self.about())
            else:
                response = Response(self.pages[path], media_type=TYPES[Path(PAGES[path]).suffix])
        except ClientDisconnect:
            kind = f"{method} {path}: the client disconnected"
            log.info(kind, extra={"kind": kind})
            return
        except HTTPError as refused:
            if "expect" not in request.headers:  # such a client sends nothing before it is allowed to
                await drain(body)
            content = {"error": refused.what, "expected": refused.expected, "fix": refused.fix}
            response = as_json(zh.refusal(content, refused.status, lang), refused.status)
            headers = {405: {"Allow": ", ".join(allowed)}, 503: {"Retry-After": "2"}}
            response.headers.update(headers.get(refused.status, {}))
        except Exception:  # the server continues; its terminal shows the traceback
            text = traceback.format_exc()
            log.error(text, extra={"kind": text.splitlines()[-1]})
            fix = "see the output of mslab serve"
            content = {"error": "The request failed: internal error.", "expected": "an answer", "fix": fix}
            response = as_json(zh.refusal(content, 500, lang), 500)
        response.headers.update(HEADERS)
        # this line contains no text from the client
        kind = f"{method} {path} {response.status_code}"
        log.info("%s %.2f s", kind, time.monotonic() - start, extra={"kind": kind})
        await response(scope, receive, send)

    def check_host(self, request: Request) -> None:
        """Refuse other host names: a foreign page could point its own name at this address (DNS rebinding)."""
        try:
            name = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        except ValueError:
            name = ""
        if name in ("localhost", "127.0.0.1", "::1", self.host):
            return
        with suppress(ValueError):  # if all addresses are served: numeric addresses cannot be rebound
            if ipaddress.ip_address(self.host).is_unspecified and ipaddress.ip_address(name):
                return
        raise HTTPError(
            403,
            "The Host header of this request does not name this server.",
            expected=" or ".join(dict.fromkeys(["localhost", "127.0.0.1", "[::1]", self.host])),
            fix="open the address that mslab serve printed",
        )

    def about(self) -> dict[str, Any]:
        """Facts for the page and for scripts: source, classes, image size, limits."""
        return {
            "source": self.source,
            "class_names": self.predictor.model.class_names,
            "image_size": self.predictor.model.info["image_size"],
            "heat_maps": self.predictor.model.build is not None,  # a graph has no gradients
            "limits": {
                "bytes": BODY,
                "images": IMAGES,
                "pixels": PIXELS,
                "requests": PER_ADDRESS,
                "seconds_to_send": BODY_SECONDS,
                "seconds_per_image": IMAGE_SECONDS,
            },
        }

    async def predict(self, request: Request) -> list[dict[str, Any]]:
        """Answers for the images of a request. It waits for its turn once it has arrived, not before."""
        address = request.client.host if request.client else ""
        self.require_place(address)
        with self.uploads.upload(address) as upload:
            images = await self.uploads.receive(upload, request)
            self.require_place(address)
            self.waiting.append(address)
            work = asyncio.ensure_future(self.predictor.answers(images, request.query_params.get("heat") == "1"))
            gone = asyncio.ensure_future(disconnected(request))
            try:
                await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not work.done():
                    raise ClientDisconnect
                return work.result()
            finally:
                work.cancel()
                gone.cancel()
                self.waiting.remove(address)

    def require_place(self, address: str) -> None:
        """Raise HTTPError if too many complete requests wait, of all clients or of this one."""
        own = self.waiting.count(address)
        if own >= PER_ADDRESS or len(self.waiting) >= WAITING:
            raise HTTPError(
                503,
                f"{len(self.waiting)} requests are running, {own} of them from your address.",
                expected=f"at most {WAITING} at a time, {PER_ADDRESS} from one address",
                fix="try again soon",
            )


async def disconnected(request: Request) -> None:
    """Wait until the client of a complete request closes its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def check_origin(request: Request) -> None:
    """Refuse requests from pages of other sites: browsers send them without the user's knowledge (CSRF)."""
    origin = request.headers.get("origin")  # scripts send none
    if origin is not None and origin.lower() != f"http://{request.headers['host']}".lower():
        raise HTTPError(
            403,
            "This request comes from a page of another site.",
            expected="a request from this server's page, or from a script, without an Origin header",
            fix="open the address that mslab serve printed",
        )


def as_json(content: Any, status: int = 200) -> Response:
    """A JSON response in ASCII, so that class names that are not valid UTF-8 can be sent, too."""
    return Response(json.dumps(content), status, media_type="application/json")
