"""`mslab serve`: a page and an endpoint that answer about images on this machine; nothing leaves it.

`App.__call__` handles every request from start to end: the answer, headers, the log line. Refusals are MslabErrors with
a status; the client gets what happened, expected and fix as JSON.
addresses.py knows which requests are this server's, behind a proxy, too; connections.py limits connections, uploads.py
the requests that arrive; openapi.json describes all of it, and /docs shows that.
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

import jinja2
import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from mslab.config import language
from mslab.config.tasks import CLASSIFY
from mslab.errors import MslabError
from mslab.escaping import escape_control, quoted
from mslab.inference.serve import zh
from mslab.inference.serve.addresses import Addresses, prefix_of
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

PAGES = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js", "/docs": "docs.html"}
PAGES |= {"/openapi.json": "openapi.json"}
PATHS = (*PAGES, "/about", "/healthz", "/predict")
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".json": "application/json"}
METHODS = ("GET", "HEAD", "POST", "OPTIONS")
NO_PAGE = "(no such page)"
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


def run(
    source: Path, addresses: Addresses, port: int, device: str, engine: str = "auto", precision: str = "fp32"
) -> None:
    """Answer requests until Ctrl-C, which is raised. Raises MslabError if the server cannot start."""
    host = addresses.host
    with open_listener(host, port) as listener:  # first: loading the network takes seconds
        if not is_loopback(host):
            log.info(
                "note: --host %s: anyone who can reach this address can use the network without a password, and "
                "requests are not encrypted; browsers allow the camera at http://127.0.0.1 only",
                host,
            )
        with (
            Repeats() as repeats,
            tempfile.TemporaryDirectory(prefix="mslab-serve-") as folder,
            open_predictor(source, Path(folder), device, engine, precision) as predictor,
        ):
            predictor.threads.submit(predictor.warm_up).result()
            Connection.most = possible_connections()
            # no proxy_headers: they let a client choose its address; no log_config: all logging is done here
            config = uvicorn.Config(
                App(predictor, addresses, source.resolve().name),
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
            Server(config, predictor, listener, repeats, addresses).run(sockets=[listener])


def open_predictor(source: Path, folder: Path, device: str, engine: str, precision: str) -> "Predictor":
    """The network behind the page. Raises what predicting.open_model raises."""
    from mslab.inference import predicting, task_predicting
    from mslab.inference.serve.predictor import Predictor
    from mslab.inference.serve.task_predictor import TaskPredictor

    opening: dict[str, Any] = {"device": device, "batch": 1, "engine": engine, "precision": precision}
    weights = predicting.read_weights(source)
    if weights and weights.task != CLASSIFY:
        return TaskPredictor(task_predicting.open_model(weights, **opening), folder)
    return Predictor(predicting.open_model(weights or source, **opening), folder)


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


def methods_of(path: str) -> list[str]:
    return ["POST"] if path == "/predict" else ["GET", "HEAD"]


def read_pages(addresses: Addresses) -> dict[str, bytes]:
    """The content of each path that does not change. Their addresses are relative, so any prefix of a proxy will do.

    With --root-path they begin there, also on a page whose own address lacks the slash at its end.
    """
    contents = {path: Path(__file__).with_name(name).read_text(encoding="utf-8") for path, name in PAGES.items()}
    environment = jinja2.Environment(autoescape=True, trim_blocks=True)
    docs = environment.from_string(contents["/docs"]).render(api=json.loads(contents["/openapi.json"]))
    contents["/docs"] = escape_control(docs)
    if addresses.root:
        for path in ("/", "/docs"):
            contents[path] = contents[path].replace("<head>", f'<head>\n<base href="{addresses.base}">', 1)
    return {path: content.encode() for path, content in contents.items()}


class App:
    """The ASGI application that uvicorn calls for each request."""

    def __init__(self, predictor: "Predictor", addresses: Addresses, source: str) -> None:
        self.predictor, self.addresses, self.source = predictor, addresses, source
        self.pages = read_pages(addresses)
        self.headers = dict(HEADERS)
        if addresses.root:  # the pages name it in <base>
            policy = HEADERS["Content-Security-Policy"]
            self.headers["Content-Security-Policy"] = policy.replace("base-uri 'none'", "base-uri 'self'")
        self.uploads = Uploads()
        self.waiting: list[str] = []  # addresses of the complete requests that wait for their answer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, start = Body(receive), time.monotonic()
        request, path = Request(scope, body.receive), self.addresses.path(scope["path"])
        lang = language.of_header(request.headers.get("accept-language", ""))
        kind = f"{request.method if request.method in METHODS else '(other)'} {path if path in PATHS else NO_PAGE}"
        try:
            response = await self.answer(request, path, lang)
        except ClientDisconnect:
            kind += ": the client disconnected"
            log.info(kind, extra={"kind": kind})
            return
        except HTTPError as refused:
            if "expect" not in request.headers:  # such a client sends nothing before it is allowed to
                await drain(body)
            content = {"error": refused.what, "expected": refused.expected, "fix": refused.fix}
            response = as_json(zh.refusal(content, refused.status, lang), refused.status)
            headers = {405: {"Allow": ", ".join(methods_of(path))}, 503: {"Retry-After": "2"}}
            response.headers.update(headers.get(refused.status, {}))
        except Exception:  # the server continues; its terminal shows the traceback
            text = traceback.format_exc()
            log.error(text, extra={"kind": text.splitlines()[-1]})
            fix = "see the output of mslab serve"
            content = {"error": "The request failed: internal error.", "expected": "an answer", "fix": fix}
            response = as_json(zh.refusal(content, 500, lang), 500)
        response.headers.update(self.headers | self.addresses.shared_with(request))
        # this line contains no text from the client
        kind = f"{kind} {response.status_code}"
        if kind != "GET /healthz 200":  # a platform asks every few seconds
            log.info("%s %.2f s", kind, time.monotonic() - start, extra={"kind": kind})
        await response(scope, receive, send)

    async def answer(self, request: Request, path: str, lang: str) -> Response:
        """The answer to a request for a path within this server, in this language. Raises HTTPError."""
        if path != "/healthz":  # probes name the machine by whatever address it has
            self.addresses.check_host(request)
        if path not in PATHS:
            prefix = prefix_of(request.scope["path"], PATHS)
            proxy = f"; if a proxy in front passes {prefix} on: mslab serve RUN --root-path {quoted(prefix)}"
            raise HTTPError(404, "No such page.", ", ".join(PATHS), f"start at /{proxy * bool(prefix)}")
        if request.method == "OPTIONS" and "Access-Control-Allow-Origin" in self.addresses.shared_with(request):
            return Response(status_code=204)  # a page of --allow-origin asks before it sends an image
        allowed = methods_of(path)
        if request.method not in allowed:
            methods = " or ".join(allowed)
            raise HTTPError(405, f"{path} does not allow this method.", methods, f"use {allowed[0]} for {path}")
        if path == "/predict":
            self.addresses.check_origin(request)
            return as_json({"images": zh.answers(await self.predict(request), lang)})
        if path in ("/about", "/healthz"):
            return as_json(self.about() if path == "/about" else {"status": "ok"})
        if path == "/docs" and request.scope["path"].endswith("/"):  # the addresses in it are relative
            return Response(status_code=308, headers={"Location": "../docs"})
        return Response(self.pages[path], media_type=TYPES[Path(PAGES[path]).suffix])

    def about(self) -> dict[str, Any]:
        """Facts for the page and for scripts: source, task, classes, image size, limits."""
        return {
            "source": self.source,
            **self.predictor.about(),
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
            picture = request.query_params.get(self.predictor.picture) == "1"
            work = asyncio.ensure_future(self.predictor.answers(images, picture))
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


def as_json(content: Any, status: int = 200) -> Response:
    """A JSON response in ASCII, so that class names that are not valid UTF-8 can be sent, too."""
    return Response(json.dumps(content), status, media_type="application/json")
