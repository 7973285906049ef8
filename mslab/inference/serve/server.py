"""`mslab serve`: a page and an endpoint that classify images on this machine; nothing leaves it.

`App.__call__` handles every request from start to end: host, path and method, the answer, headers, the log line.
Refusals are MslabErrors with a status; the client gets what happened, expected and fix as JSON.
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
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import uvicorn
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from mslab.errors import MslabError
from mslab.inference.serve.limits import BODY, IMAGES, PIXELS, SECONDS, WAITING, HTTPError

if TYPE_CHECKING:
    from mslab.inference.serve.predictor import Predictor

log = logging.getLogger("mslab")

PAGES = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js"}
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
FORM = "the image as the request body, or a form in which every part is a file named image"
CURL = "curl -F image=@one.jpg -F image=@two.jpg http://127.0.0.1:8000/predict"
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


def run(source: str, host: str, port: int, device: str) -> None:
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

        model = predicting.open_model(source, device, batch=1)
        with tempfile.TemporaryDirectory(prefix="mslab-serve-") as folder, Predictor(model, Path(folder)) as predictor:
            predictor.thread.submit(predictor.warm_up).result()
            # no proxy_headers: they let a client choose its address; no log_config: all logging is done here
            config = uvicorn.Config(
                App(predictor, host, Path(source).resolve().name),
                http="h11",
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=2,
            )
            Server(config, predictor, listener).run(sockets=[listener])


class Server(uvicorn.Server):
    """uvicorn's server; it also logs when it is ready, and stops the predictor."""

    def __init__(self, config: uvicorn.Config, predictor: "Predictor", listener: socket.socket) -> None:
        super().__init__(config)
        self.predictor = predictor
        host, port = listener.getsockname()[:2]
        self.url = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        log.info("ready: %s  (Ctrl-C stops it)", self.url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.predictor.stop()
        await super().shutdown(sockets=sockets)


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
        self.running = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, start = Body(receive), time.monotonic()
        request = Request(scope, body.receive)
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
                response = as_json({"images": await self.predict(request)})
            elif path == "/about":
                response = as_json(self.about())
            else:
                response = Response(self.pages[path], media_type=TYPES[Path(PAGES[path]).suffix])
        except ClientDisconnect:
            log.info("%s %s: the client disconnected", method, path)
            return
        except HTTPError as refused:
            if "expect" not in request.headers:  # such a client sends nothing before it is allowed to
                await drain(body)
            content = {"error": refused.what, "expected": refused.expected, "fix": refused.fix}
            response = as_json(content, refused.status)
            headers = {405: {"Allow": ", ".join(allowed)}, 503: {"Retry-After": "2"}}
            response.headers.update(headers.get(refused.status, {}))
        except Exception:  # the server continues; its terminal shows the traceback
            log.error(traceback.format_exc())
            fix = "see the output of mslab serve"
            response = as_json(
                {"error": "The request failed: internal error.", "expected": "an answer", "fix": fix}, 500
            )
        response.headers.update(HEADERS)
        # this line contains no text from the client
        log.info("%s %s %d %.2f s", method, path, response.status_code, time.monotonic() - start)
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
            "heat_maps": self.predictor.heat_map is not None,
            "limits": {"bytes": BODY, "images": IMAGES, "pixels": PIXELS},
        }

    async def predict(self, request: Request) -> list[dict[str, Any]]:
        """Answers for the images of a request; requests wait for each other."""
        if self.running >= WAITING:
            raise HTTPError(
                503, f"{WAITING} requests are running.", expected=f"at most {WAITING} at a time", fix="try again soon"
            )
        self.running += 1
        try:
            images = await asyncio.wait_for(images_of(request), SECONDS)
            heat = request.query_params.get("heat") == "1"
            return await asyncio.get_running_loop().run_in_executor(
                self.predictor.thread, self.predictor.answer, images, heat
            )
        except asyncio.TimeoutError:
            raise HTTPError(
                408,
                f"The request was not complete after {SECONDS:g} s.",
                expected=f"the complete request within {SECONDS:g} s",
                fix="send fewer or smaller images",
            ) from None
        finally:
            self.running -= 1


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


async def images_of(request: Request) -> list[bytes]:
    """The images of a request: the form parts named `image`, or the body itself. Raises HTTPError."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        body = b"".join([chunk async for chunk in bounded(request)])
        if not body:
            raise HTTPError(400, "The request contains no image.", expected=FORM, fix=CURL)
        return [body]
    try:
        form = await MultiPartParser(request.headers, bounded(request)).parse()
    except (MultiPartException, KeyError) as error:
        reason = getattr(error, "message", "") or "its Content-Type has no boundary"
        raise HTTPError(400, f"The form cannot be read: {reason}", expected=FORM, fix=CURL) from None
    try:
        parts = form.multi_items()
        if not parts or any(name != "image" or not isinstance(part, UploadFile) for name, part in parts):
            raise HTTPError(400, "The form contains no image, or a part that is not one.", expected=FORM, fix=CURL)
        if len(parts) > IMAGES:
            raise HTTPError(
                413,
                f"The request contains {len(parts)} images.",
                expected=f"at most {IMAGES}",
                fix="send them in several requests",
            )
        return [await part.read() for _, part in parts if isinstance(part, UploadFile)]
    finally:
        await form.close()


async def bounded(request: Request) -> AsyncGenerator[bytes, None]:
    """Yield the body in chunks. Raises HTTPError if it is, or declares to be, too large."""
    declared, received = int(request.headers.get("content-length", 0)), 0
    too_large = HTTPError(
        413,
        f"The request is larger than {BODY >> 20} MiB.",
        expected=f"at most {BODY >> 20} MiB for all images together",
        fix="send fewer or smaller images",
    )
    if declared > BODY:
        raise too_large
    async for chunk in request.stream():
        received += len(chunk)
        if received > BODY:
            raise too_large
        yield chunk


class Body:
    """Wrapper of uvicorn's receive() that knows whether more of the request will follow."""

    def __init__(self, receive: Any) -> None:
        self._receive, self.more = receive, True

    async def receive(self) -> Any:
        message = await self._receive()
        self.more = message.get("more_body", False)
        return message


async def drain(body: Body) -> None:
    """Read and discard the rest of a refused request for up to 1 s: clients read the answer only after sending."""

    async def rest() -> None:
        while body.more:
            await body.receive()

    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(rest(), 1)


def as_json(content: Any, status: int = 200) -> Response:
    """A JSON response in ASCII, so that class names that are not valid UTF-8 can be sent, too."""
    return Response(json.dumps(content), status, media_type="application/json")
