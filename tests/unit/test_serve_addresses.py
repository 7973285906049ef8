"""mslab serve behind a proxy: --root-path, --allow-origin, and which requests are this server's."""

import asyncio
import json

import pytest

from mslab.errors import ConfigError
from mslab.inference.serve import server
from mslab.inference.serve.addresses import Addresses, addresses

ORIGIN = "https://hub.example.edu"
PUBLIC = Addresses("127.0.0.1", "/user/ada", (ORIGIN,))


def ask(where: Addresses, path: str = "/", method: str = "GET", **headers: str):
    """Status, headers and content that the application sends, without a network."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    named = {"host": "localhost"} | {name.replace("_", "-"): value for name, value in headers.items()}
    pairs = [(name.encode(), value.encode()) for name, value in named.items()]
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": pairs}
    asyncio.run(server.App(None, where, "x")(scope, receive, send))
    head = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], head, b"".join(message.get("body", b"") for message in sent[1:])


# --- the command line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "root", "base"),
    [
        ("/", "", "/"),
        ("/user/ada/proxy/8000", "/user/ada/proxy/8000", "/user/ada/proxy/8000/"),
        ("/user/ada/proxy/8000/", "/user/ada/proxy/8000", "/user/ada/proxy/8000/"),
        ("/user/ada%40uni.example/", "/user/ada@uni.example", "/user/ada@uni.example/"),
        ("/张/%E6%9D%8E x", "/张/李 x", "/%E5%BC%A0/%E6%9D%8E%20x/"),
        ("/a'\"<b>", "/a'\"<b>", "/a%27%22%3Cb%3E/"),
    ],
)
def test_a_root_path_is_the_path_that_requests_have_and_its_page_an_address(text, root, base):
    where = addresses("127.0.0.1", text)
    assert (where.root, where.base) == (root, base)
    assert where.path(f"{root}/about") == where.path("/about/") == where.path("//about") == "/about"
    assert where.path(root) == where.path("/") == "/" and where.path(f"{root}x") in (f"{root}x", "/x")


@pytest.mark.parametrize(
    ("text", "problem", "fix"),
    [
        ("", "it is empty", "/"),
        ("user/ada", "does not start with /", "/user/ada"),
        (" /user/ada", "does not start with /", "/user/ada"),
        ("/user/ada?x=1", "has a query or a fragment", "/user/ada"),
        ("/user/ada#x", "has a query or a fragment", "/user/ada"),
        ("/user/../ada", "has . or ..", "/ada"),
        ("/user/%2e%2e/ada", "has . or ..", "/ada"),
        ("/user/./ada", "has . or ..", "/user/ada"),
        ("//evil.example/a", "has // in it", "/evil.example/a"),
        ("/user//ada", "has // in it", "/user/ada"),
        ("/user\\ada", "not part of a path", "/user/ada"),
        ("/user\r\nX: 1", "not part of a path", "/userX%3A%201"),
        ("https://hub.example/user/ada/?x", "is a whole address", "/user/ada"),
    ],
)
def test_a_wrong_root_path_is_one_message_whose_fix_is_accepted(text, problem, fix):
    with pytest.raises(ConfigError) as caught:
        addresses("127.0.0.1", text)
    assert problem in caught.value.details[0][1] and "/user/ada/proxy/8000" in caught.value.expected
    assert caught.value.fix == f"mslab serve RUN --root-path {fix}"
    addresses("127.0.0.1", fix)


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        (ORIGIN, ORIGIN),
        ("HTTPS://Hub.Example.edu:443/", ORIGIN),
        ("http://10.0.0.7:8080", "http://10.0.0.7:8080"),
        ("http://[2001:DB8::1]:80", "http://[2001:db8::1]"),
        ("https://实验室.cn", "https://xn--qbtm5249b.cn"),
    ],
)
def test_an_origin_is_kept_as_browsers_send_it(text, origin):
    assert addresses("127.0.0.1", None, [text, text]).origins == (origin,)


@pytest.mark.parametrize(
    ("text", "problem", "fix"),
    [
        ("", "it is empty", None),
        ("*", "name each site", None),
        ("https://*.example.edu", "name each site", None),
        ("null", "every sandboxed page", None),
        ("hub.example.edu", "does not start with http", [ORIGIN]),
        ("localhost:8888", "does not start with http", ["https://localhost:8888"]),
        ("ftp://hub.example.edu", "does not start with http", [ORIGIN]),
        (f"{ORIGIN}/hub/user", "has a path", [ORIGIN]),
        (f"{ORIGIN}?x", "has a path", [ORIGIN]),
        (f"{ORIGIN},http://b.example", "more than one origin", [ORIGIN, "http://b.example"]),
        ("https://ada:pw@hub.example.edu", "has a user name", [ORIGIN]),
        ("https://hub.example.edu:99999", "no valid host or port", None),
        ("https://", "no valid host", None),
        ("https://a b", "more than one", ["https://a", "https://b"]),
        ("https://a<b>", "no valid host", None),
        ("https://[::1", "no valid host or port", None),
    ],
)
def test_a_wrong_origin_is_one_message_whose_fix_is_accepted(text, problem, fix):
    with pytest.raises(ConfigError) as caught:
        addresses("127.0.0.1", None, [text])
    assert problem in caught.value.details[0][1] and "http://HOST or https://HOST" in caught.value.expected
    if fix:
        assert caught.value.fix == "mslab serve RUN" + "".join(f" --allow-origin {origin}" for origin in fix)
        addresses("127.0.0.1", None, fix)
    else:
        assert caught.value.fix.startswith("leave the option out")


def test_all_problems_are_reported_at_once_and_what_is_right_stays_in_the_fix():
    with pytest.raises(ConfigError) as caught:
        addresses("127.0.0.1", "user/ada", ["*", "hub.example.edu", "http://b.example"])
    assert len(caught.value.details) == 3
    fix = f"--root-path /user/ada --allow-origin {ORIGIN} --allow-origin http://b.example"
    assert caught.value.fix == f"mslab serve RUN {fix}" and str(caught.value).count("expected") == 1


def test_the_proxy_of_a_notebook_is_named_with_the_page_in_it():
    hub, code = (
        {"JUPYTERHUB_SERVICE_PREFIX": "/user/ada/"},
        {"VSCODE_PROXY_URI": "https://code.example/proxy/{{port}}/"},
    )
    local = Addresses("127.0.0.1")
    assert local.public(8000, {}) == "" and local.public(8000, hub) == "/user/ada/proxy/8000/"
    assert local.public(8000, code) == "https://code.example/proxy/8000/"
    assert Addresses("", "", (ORIGIN,)).public(8000, hub) == f"{ORIGIN}/user/ada/proxy/8000/"
    assert PUBLIC.public(8000, hub | code) == f"{ORIGIN}/user/ada/"


# --- requests --------------------------------------------------------------------------------------------------------


def test_a_proxys_name_is_accepted_and_an_unknown_one_is_told_how():
    for host in ("hub.example.edu", "HUB.example.edu:443", "localhost:1"):
        assert ask(PUBLIC, host=host)[0] == 200
    for where in (PUBLIC, Addresses("127.0.0.1")):
        status, _, body = ask(where, host="lab.example:8443", x_forwarded_host="localhost", forwarded="host=localhost")
        assert status == 403 and "start it with --allow-origin https://lab.example:8443, or" in json.loads(body)["fix"]
    assert "--allow-origin" not in json.loads(ask(PUBLIC, host="<script>")[2])["fix"]


def test_pages_of_an_allowed_origin_may_ask_and_read_and_no_others():
    status, headers, _ = ask(PUBLIC, "/predict", "OPTIONS", origin=ORIGIN, access_control_request_method="POST")
    assert status == 204 and headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in headers["access-control-allow-methods"] and headers["vary"] == "Origin"
    assert ask(PUBLIC, "/predict", "POST", origin=ORIGIN)[0] == 400  # without an image
    status, headers, body = ask(PUBLIC, "/predict", "POST", origin="https://evil.example")
    assert status == 403 and "access-control-allow-origin" not in headers
    assert "start it with --allow-origin https://evil.example" in json.loads(body)["fix"]
    assert ask(PUBLIC, "/predict", "OPTIONS", origin="https://evil.example")[0] == 405
    assert not any("access-control" in name or name == "vary" for name in ask(Addresses("127.0.0.1"))[1])


def test_a_path_that_a_proxy_has_passed_on_names_the_root_path_that_is_missing():
    for path, prefix in {
        "/user/ada/proxy/8000/": "/user/ada/proxy/8000",
        "/user/ada/proxy/8000": "/user/ada/proxy/8000",
        "/lab/about": "/lab",
        "/lab/": "/lab",
        "/a b/predict": "'/a b'",
        "/favicon.ico": "",
        "/../x": "",
        "//": None,
    }.items():
        status, _, body = ask(Addresses("127.0.0.1"), path)
        if prefix is None:
            assert status == 200
            continue
        fix = json.loads(body)["fix"]
        assert status == 404 and fix.partition("--root-path ")[2] == prefix, (path, fix)


def test_a_probe_needs_no_host_name_and_leaves_no_line(capsys):
    for path in ("/healthz", "/healthz/", "/user/ada/healthz"):
        status, headers, body = ask(PUBLIC, path, host="10.1.2.3:8000")
        assert status == 200 and json.loads(body) == {"status": "ok"} and headers["cache-control"] == "no-store"
    assert ask(PUBLIC, "/healthz", "POST")[0] == 405


def test_the_description_and_its_page_agree_and_load_nothing_from_elsewhere():
    api = json.loads(ask(PUBLIC, "/openapi.json")[2])
    assert {*api["paths"]} | {*server.PAGES} == {*server.PATHS}
    page = ask(PUBLIC, "/docs")[2].decode()
    assert all(f"POST {path}" in page or f"GET {path}" in page for path in api["paths"])
    assert '<base href="/user/ada/">' in page and "://" not in page.replace("http://127.0.0.1:8000", "")
    status, headers, _ = ask(Addresses("127.0.0.1"), "/docs/")
    assert status == 308 and headers["location"] == "../docs"
