"""Which requests are meant for this server: its own names, the path of --root-path, the sites of --allow-origin.

A page of another site must reach nothing here: neither under a name of its own that it points at this address (DNS
rebinding) nor through its visitor's browser (CSRF). X-Forwarded-Host and the like are not read: where no proxy is in
front, a page can send them itself. So a proxy's public name comes from the command line.
"""

import ipaddress
import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from starlette.requests import Request

from mslab.errors import ConfigError
from mslab.escaping import command, quoted
from mslab.inference.serve.limits import HTTPError

OWN = ("localhost", "127.0.0.1", "::1")  # the names of this machine, on every machine
PORTS = {"http": 80, "https": 443}  # browsers leave them out of an origin
SAFE = "/@~"  # characters of a path that JupyterHub leaves as they are
ORIGIN = "http://HOST or https://HOST, with :PORT where the browser shows one"
ROOT = "the path under which the proxy shows the page, such as /user/ada/proxy/8000"


@dataclass(frozen=True)
class Addresses:
    """Where the server is. `root`: decoded, without a slash at its end; `origins`: as browsers write them."""

    host: str
    root: str = ""
    origins: tuple[str, ...] = ()

    @property
    def base(self) -> str:
        """The path of the page for browsers, with a slash at its end."""
        return quote(self.root, safe=SAFE) + "/"

    def public(self, port: int, environ: Mapping[str, str] = os.environ) -> str:
        """Where visitors of the proxy find the page: by --root-path, or as code-server and JupyterHub say; or ""."""
        if self.root:
            return "".join(self.origins[:1]) + self.base
        if "{{port}}" in (address := environ.get("VSCODE_PROXY_URI", "")):
            return address.replace("{{port}}", str(port))
        hub = environ.get("JUPYTERHUB_SERVICE_PREFIX", "")  # /user/ada/
        return f"{''.join(self.origins[:1])}{hub.rstrip('/')}/proxy/{port}/" if hub else ""

    def path(self, requested: str) -> str:
        """The path of a request within this server, whether or not the proxy has removed --root-path."""
        # Addresses("", "/p").path("/p/about/") -> "/about"; of "/about", "//about", too
        if requested == self.root or requested.startswith(f"{self.root}/"):
            requested = requested[len(self.root) :]
        return "/" + requested.strip("/")

    def check_host(self, request: Request) -> None:
        """Raise HTTPError for other host names: a foreign page could point its own name at this address."""
        header = request.headers.get("host", "")
        try:
            name = urlsplit(f"//{header}").hostname or ""
        except ValueError:
            name = ""
        public = [urlsplit(origin).hostname for origin in self.origins]
        if name in (*OWN, self.host.lower(), *public):
            return
        with suppress(ValueError):  # if all addresses are served: numeric addresses cannot be rebound
            if ipaddress.ip_address(self.host).is_unspecified and ipaddress.ip_address(name):
                return
        own = dict.fromkeys(["localhost", "127.0.0.1", "[::1]", self.host.lower(), *map(str, public)])
        proxy = ""
        with suppress(ValueError):
            proxy = f"; if it names a proxy in front of mslab serve: {allowing(origin_of(f'https://{header}'))}"
            proxy += ", or http://, as the browser shows it"
        raise HTTPError(
            403,
            "The Host header of this request does not name this server.",
            expected=" or ".join(own),
            fix=f"open the address that mslab serve printed{proxy}",
        )

    def check_origin(self, request: Request) -> None:
        """Raise HTTPError for requests from pages of other sites: browsers send them without the user's knowledge."""
        origin = request.headers.get("origin")  # scripts send none
        own = f"http://{request.headers['host']}".lower()
        if origin is None or origin.lower() in (own, *self.origins):
            return
        proxy = ""
        with suppress(ValueError):
            proxy = f"; if this page is mslab serve's own, behind a proxy: {allowing(origin_of(origin))}"
        raise HTTPError(
            403,
            "This request comes from a page of another site.",
            expected="a request from this server's page, from a site of --allow-origin, or from a script, without an "
            "Origin header",
            fix=f"open the address that mslab serve printed{proxy}",
        )

    def shared_with(self, request: Request) -> dict[str, str]:
        """Headers that let the pages of --allow-origin read an answer (CORS), and ask before they send an image."""
        if not self.origins:
            return {}
        origin = request.headers.get("origin", "").lower()
        if origin not in self.origins:
            return {"Vary": "Origin"}
        return {
            "Vary": "Origin",
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": "GET, HEAD, POST",
            "Access-Control-Allow-Headers": "Content-Type",
            "Access-Control-Allow-Private-Network": "true",  # a public site's page may ask a server on this machine
            "Access-Control-Expose-Headers": "Retry-After",
            "Access-Control-Max-Age": "600",
        }


def allowing(origin: str) -> str:
    return f"start it with --allow-origin {quoted(origin)}"


def prefix_of(requested: str, pages: Sequence[str]) -> str:
    """The --root-path for which a path that is not here would be one of the pages, or ""."""
    # prefix_of("/user/ada/proxy/8000/about", ["/about"]) -> "/user/ada/proxy/8000"
    page = next((page for page in pages if page != "/" and requested.endswith(page)), "")
    prefix = requested.removesuffix(page).rstrip("/")
    if not page and not requested.endswith("/") and prefix.count("/") < 2:
        return ""  # a word, not a place of a proxy
    with suppress(ValueError):
        return root_of(quote(prefix, safe=SAFE))
    return ""


# --- the command line ------------------------------------------------------------------------------------------------


def addresses(host: str, root_path: str | None = None, origins: Sequence[str] = ()) -> Addresses:
    """The addresses of a command line. Raises ConfigError that lists every problem."""
    problems: list[tuple[str, str]] = []
    fixes: list[str] = []
    root, good = "", []
    if root_path is not None:
        try:
            root = root_of(root_path)
            fixes += ["--root-path", root_path]
        except ValueError as error:
            problems.append(("--root-path", str(error)))
            fixes += ["--root-path", corrected_root(root_path)]
    for text in origins:
        try:
            good.append(origin_of(text))
            fixes += ["--allow-origin", good[-1]]
        except ValueError as error:
            problems.append(("--allow-origin", str(error)))
            fixes += [word for origin in corrected_origins(text) for word in ("--allow-origin", origin)]
    if problems:
        named = list(dict.fromkeys(name for name, _ in problems))
        parts = {"--root-path": ROOT, "--allow-origin": ORIGIN}
        raise ConfigError(
            f"{' and '.join(named)} cannot be used as given.",
            details=problems,
            expected="\n".join(f"{name}: {parts[name]}" for name in named),
            fix=command("serve", "RUN", *fixes) if fixes else "leave the option out, or give it the browser's address",
        )
    return Addresses(host, root, tuple(dict.fromkeys(good)))


def root_of(text: str) -> str:
    """A --root-path, decoded and without a slash at its end. Raises ValueError with the problem."""
    decoded = unquote(text)
    if not text:
        raise ValueError("it is empty; / stands for no prefix")
    if "://" in text:
        raise ValueError(f"{text} is a whole address, not a path")
    if not text.startswith("/"):
        raise ValueError(f"{text} does not start with /")
    if "?" in text or "#" in text:
        raise ValueError(f"{text} has a query or a fragment behind the path")
    if not decoded.isprintable() or "\\" in decoded:
        raise ValueError(f"{text} has characters that are not part of a path")
    segments = decoded.rstrip("/").split("/")[1:]
    if {".", ".."} & set(segments):
        raise ValueError(f"{text} has . or .. in it, which browsers resolve before they send it")
    if "" in segments:
        raise ValueError(f"{text} has // in it, which browsers take for the name of another host")
    return "".join(f"/{segment}" for segment in segments)


def corrected_root(text: str) -> str:
    """The path that was probably meant."""
    # corrected_root("https://hub.example/user/ada/?a=1") -> "/user/ada"
    path = urlsplit(text).path if "://" in text else re.split("[?#]", text)[0]
    path = "".join(c for c in unquote(path).strip().replace("\\", "/") if c.isprintable())
    return quote(posixpath.normpath("/" + path.strip("/")), safe=SAFE)


def origin_of(text: str) -> str:
    """An --allow-origin as browsers send it: https://hub.example.edu. Raises ValueError with the problem."""
    if not text:
        raise ValueError("it is empty")
    if text.lower() == "null":
        raise ValueError("null is what every sandboxed page and local file sends")
    if "*" in text:
        raise ValueError(f"{text} would let pages of unknown sites use the network; name each site")
    if re.search(r"[,;\s]", text):
        raise ValueError(f"{text} is more than one origin; repeat the option")
    if not re.match("(?i)https?://", text):
        raise ValueError(f"{text} does not start with http:// or https://")
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except (ValueError, UnicodeError):
        raise ValueError(f"{text} has no valid host or port") from None
    if "@" in parts.netloc:
        raise ValueError(f"{text} has a user name in it")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"{text} has a path behind the host")
    if not re.fullmatch(r"[\w.-]+|[0-9a-f:.]+", host):
        raise ValueError(f"{text} has no valid host")
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}" + (f":{port}" if port and port != PORTS[parts.scheme] else "")


def corrected_origins(text: str) -> list[str]:
    """The origins that were probably meant; none for *, null and what is no address at all."""
    # corrected_origins("hub.example.edu/user/ada") -> ["https://hub.example.edu"]
    found = []
    for part in re.split(r"[,;\s]+", text.strip()):
        address = part if "://" in part else f"https://{part}"
        with suppress(ValueError):
            parts = urlsplit(address)
            scheme = parts.scheme if parts.scheme in PORTS else "https"
            if part.lower() != "null":
                found.append(origin_of(f"{scheme}://{parts.netloc.rpartition('@')[2]}"))
    return found
