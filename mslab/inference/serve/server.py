"""`mslab serve`: a page and an endpoint that say what images show. For this machine; nothing leaves it.

Every request goes through `App.__call__`, from top to bottom: who asks, what for, the answer, the headers, the log.
Refusals are MslabErrors with a status: what happened, what was expected, how to fix it, as JSON.
MindSpore is imported by predictor.py, behind all that can be said without it.
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
FORM = "the image as the body, or a form whose parts are files named image"
CURL = "curl -F image=@one.jpg -F image=@two.jpg http://127.0.0.1:8000/predict"
HEADERS = {
    # what runs is page.js, what is shown are pictures that it made, what is asked is this server; no text becomes HTML
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
    """Answer requests until Ctrl-C, which is raised. Raises MslabError where it cannot begin."""
    with listening(host, port) as listener:  # first: loading the network takes seconds
        if not is_loopback(host):
            log.info(
                "note: --host %s: whoever reaches this address may ask the network, without a password, and what they "
                "send is not encrypted; browsers allow the camera at http://127.0.0.1 only",
                host,
            )
        from mslab.inference import predicting
        from mslab.inference.serve.predictor import Predictor

        model = predicting.open_model(source, device, batch=1)
        with tempfile.TemporaryDirectory(prefix="mslab-serve-") as folder, Predictor(model, Path(folder)) as predictor:
            predictor.thread.submit(predictor.warm_up).result()
            # no proxy_headers: they would let a client say who it is; log_config: what is logged is logged here
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
    """uvicorn's server, which says when it is ready and lets the predictor stop."""

    def __init__(self, config: uvicorn.Config, predictor: "Predictor", listener: socket.socket) -> None:
        super().__init__(config)
        self.predictor = predictor
        host, port = listener.getsockname()[:2]
        self.url = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        log.info("ready: %s  (Ctrl-C ends it)", self.url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.predictor.stop()
        await super().shutdown(sockets=sockets)


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises MslabError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(found[4][:2], family=found[0])
    except (OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise MslabError(
                f"Port {port} of {host} is taken: another program listens there.",
                expected="a port that is free",
                fix=f"--port {port + 1 if port < 65535 else 8000}, or --port 0, which takes any free one",
            ) from None
        raise MslabError(
            f"mslab cannot listen at {host}, port {port}: {getattr(error, 'strerror', None) or error}.",
            expected="an address of this machine and a port from 1024 on",
            fix="leave --host and --port out: 127.0.0.1, which only this machine reaches, and 8000",
        ) from None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


class App:
    """What uvicorn calls for each request."""

    def __init__(self, predictor: "Predictor", host: str, source: str) -> None:
        self.predictor, self.host, self.source = predictor, host.lower(), source
        self.pages = {path: Path(__file__).with_name(name).read_bytes() for path, name in PAGES.items()}
        self.under_way = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, began = Body(receive), time.monotonic()
        request = Request(scope, body.receive)
        path = scope["path"] if scope["path"] in (*PAGES, "/about", "/predict") else "(no such page)"
        allowed = ["POST"] if path == "/predict" else ["GET", "HEAD"]
        method = request.method if request.method in ("GET", "HEAD", "POST") else "(other)"
        try:
            self.check_host(request)
            if path == "(no such page)":
                raise HTTPError(404, "There is no such page.", f"{', '.join(PAGES)}, /about or /predict", "begin at /")
            if method not in allowed:
                here = " or ".join(allowed)
                raise HTTPError(405, f"{path} does not answer this method.", here, f"ask {path} with {allowed[0]}")
            if path == "/predict":
                check_origin(request)
                response = as_json({"images": await self.predict(request)})
            elif path == "/about":
                response = as_json(self.about())
            else:
                response = Response(self.pages[path], media_type=TYPES[Path(PAGES[path]).suffix])
        except ClientDisconnect:
            log.info("%s %s: the client went away", method, path)
            return
        except HTTPError as refused:
            if "expect" not in request.headers:  # such a client waits for our word before it sends
                await drain(body)
            text = {"error": refused.what, "expected": refused.expected, "fix": refused.fix}
            response = as_json(text, refused.status)
            more = {405: {"Allow": ", ".join(allowed)}, 503: {"Retry-After": "2"}}
            response.headers.update(more.get(refused.status, {}))
        except Exception:  # the server goes on, and its terminal has the traceback
            log.error(traceback.format_exc())
            fix = "what mslab serve printed says more"
            response = as_json({"error": "The network did not answer.", "expected": "an answer", "fix": fix}, 500)
        response.headers.update(HEADERS)
        # nothing that the client chose is in this line
        log.info("%s %s %d %.2f s", method, path, response.status_code, time.monotonic() - began)
        await response(scope, receive, send)

    def check_host(self, request: Request) -> None:
        """Refuse other names for this server: a foreign page could give its own name our address (DNS rebinding)."""
        try:
            name = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        except ValueError:
            name = ""
        if name in ("localhost", "127.0.0.1", "::1", self.host):
            return
        with suppress(ValueError):  # where every address of the machine is served: numbers cannot be rebound
            if ipaddress.ip_address(self.host).is_unspecified and ipaddress.ip_address(name):
                return
        raise HTTPError(
            403,
            "The Host of this request is not this server.",
            expected=" or ".join(dict.fromkeys(["localhost", "127.0.0.1", "[::1]", self.host])),
            fix="open the address that mslab serve printed",
        )

    def about(self) -> dict[str, Any]:
        """What the page needs to know, and a script may want to."""
        return {
            "source": self.source,
            "class_names": self.predictor.model.class_names,
            "image_size": self.predictor.model.info["image_size"],
            "heat_maps": self.predictor.heat_map is not None,
            "limits": {"bytes": BODY, "images": IMAGES, "pixels": PIXELS},
        }

    async def predict(self, request: Request) -> list[dict[str, Any]]:
        """Answers for the images of a request, which waits for its turn."""
        if self.under_way >= WAITING:
            raise HTTPError(
                503, f"{WAITING} requests are under way.", expected=f"at most {WAITING} at a time", fix="ask again soon"
            )
        self.under_way += 1
        try:
            images = await asyncio.wait_for(images_of(request), SECONDS)
            heat = request.query_params.get("heat") == "1"
            return await asyncio.get_running_loop().run_in_executor(
                self.predictor.thread, self.predictor.answer, images, heat
            )
        except asyncio.TimeoutError:
            raise HTTPError(
                408,
                f"The request had not arrived after {SECONDS:g} s.",
                expected=f"all of it within {SECONDS:g} s",
                fix="send fewer or smaller images",
            ) from None
        finally:
            self.under_way -= 1


def check_origin(request: Request) -> None:
    """Refuse what a page of another site sends: a browser would send it along without its user's knowledge (CSRF)."""
    origin = request.headers.get("origin")  # scripts send none
    if origin is not None and origin.lower() != f"http://{request.headers['host']}".lower():
        raise HTTPError(
            403,
            "This request comes from a page of another site.",
            expected="the page of this server, or a script, which sends no Origin",
            fix="open the address that mslab serve printed",
        )


async def images_of(request: Request) -> list[bytes]:
    """The images of a request: parts of a form named `image`, or the body itself. Raises HTTPError."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        body = b"".join([chunk async for chunk in bounded(request)])
        if not body:
            raise HTTPError(400, "The request has no image.", expected=FORM, fix=CURL)
        return [body]
    try:
        form = await MultiPartParser(request.headers, bounded(request)).parse()
    except (MultiPartException, KeyError) as error:
        reason = getattr(error, "message", "") or "its Content-Type has no boundary"
        raise HTTPError(400, f"The form cannot be read: {reason}", expected=FORM, fix=CURL) from None
    try:
        parts = form.multi_items()
        if not parts or any(name != "image" or not isinstance(part, UploadFile) for name, part in parts):
            raise HTTPError(400, "The form has no image, or a part that is none.", expected=FORM, fix=CURL)
        if len(parts) > IMAGES:
            raise HTTPError(
                413,
                f"The request has {len(parts)} images.",
                expected=f"at most {IMAGES}",
                fix="send them in several requests",
            )
        return [await part.read() for _, part in parts if isinstance(part, UploadFile)]
    finally:
        await form.close()


async def bounded(request: Request) -> AsyncGenerator[bytes, None]:
    """The body as it comes. Raises HTTPError where it is, or says it will be, too large."""
    declared, arrived = int(request.headers.get("content-length", 0)), 0
    too_large = HTTPError(
        413,
        f"The request has more than {BODY >> 20} MiB.",
        expected=f"at most {BODY >> 20} MiB, all images together",
        fix="send fewer or smaller images",
    )
    if declared > BODY:
        raise too_large
    async for chunk in request.stream():
        arrived += len(chunk)
        if arrived > BODY:
            raise too_large
        yield chunk


class Body:
    """What is still to come of a request, by the receive() that uvicorn gave."""

    def __init__(self, receive: Any) -> None:
        self._receive, self.more = receive, True

    async def receive(self) -> Any:
        message = await self._receive()
        self.more = message.get("more_body", False)
        return message


async def drain(body: Body) -> None:
    """Read and forget the rest of a refused request, for a moment: a client that cannot send does not hear why."""

    async def rest() -> None:
        while body.more:
            await body.receive()

    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(rest(), 1)


def as_json(content: Any, status: int = 200) -> Response:
    """ASCII, so that class names from outside UTF-8 can be said, too."""
    return Response(json.dumps(content), status, media_type="application/json")
