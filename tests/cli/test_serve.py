"""mslab serve: the page in a real browser, the endpoint over real HTTP, and everything that it refuses."""

import asyncio
import base64
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from helpers import cli
from PIL import Image

from mslab import checkpoint, export, predict, serve
from mslab.errors import MslabError
from mslab.serve import limits

CLASSES = [  # of the network that most tests ask: hostile from the start
    "<script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\"> & 'quotes'",
    "new\nline, \u202eturned\u202c, half \ud800",
    "long" * 2_500,
]
BOUNDARY = "between"
COMMAND = [str(Path(sys.executable).with_name("mslab")), "serve"]


@dataclass
class Served:
    """A server in a process of its own. `temp` is its folder for temporary files."""

    process: subprocess.Popen
    log: Path
    temp: Path
    source: Path
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def ask(self, method="GET", path="/", body=b"", **headers) -> tuple[int, dict, bytes]:
        """Status, headers, body. Names of headers with _ for -; Host is this server's where not given."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {"Host": f"127.0.0.1:{self.port}"} | named)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), content

    def predict(self, *images: bytes, heat: bool = False) -> list[dict]:
        """The answers for images, sent as a form."""
        status, _, body = self.ask("POST", f"/predict{'?heat=1' if heat else ''}", form(*images), **FORM)
        assert status == 200, body
        return json.loads(body)["images"]


FORM = {"Content_Type": f"multipart/form-data; boundary={BOUNDARY}"}


def form(*images: bytes, name="image", filename="../../etc/passwd\r\n\x1b[31m.png") -> bytes:
    """A form as a browser would send it, but for the names, which are worse."""
    quoted = filename.replace("\r", "%0D").replace("\n", "%0A")
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{quoted}"\r\n\r\n'.encode()
    return b"".join(head + image + b"\r\n" for image in images) + f"--{BOUNDARY}--\r\n".encode()


@contextmanager
def serving(source, folder, *more):
    """`mslab serve` on a free port, once it has said that it is ready; ended by Ctrl-C."""
    temp, log = folder / "temp", folder / "log"
    temp.mkdir()
    command = [*COMMAND, str(source), "--port", "0", "--device", "cpu", *more]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stderr=file, env=os.environ | {"TMPDIR": str(temp)})
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


@pytest.fixture(scope="module")
def served(parent, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    weights = checkpoint.read(parent / "checkpoints" / "best.ckpt")
    hostile = folder / "hostile.ckpt"
    checkpoint.save_arrays(weights.backbone | weights.head, hostile, weights.info | {"class_names": CLASSES})
    with serving(hostile, folder) as running:
        yield running


@pytest.fixture(scope="module")
def photo(squares):
    """A file of a class, and its bytes."""
    path = squares / "three" / "test" / "a" / "000.png"
    return path, path.read_bytes()


@pytest.fixture(scope="module")
def expected(served, photo):
    """What `mslab predict` says of it: {class: probability}."""
    (row,) = predict.predict(predict.open_model(served.source, "cpu"), [photo[0]])
    return row["probabilities"]


def as_bytes(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# --- the page --------------------------------------------------------------------------------------------------------


def shares(article) -> list[float]:
    """The numbers beside a card's bars, in per cent."""
    return [float(text.removesuffix(" %")) for text in article.locator("td.number").all_inner_texts()]


def assert_quiet(page, served):
    """Nothing went wrong, nothing of the page's text ran, and no request left the server."""
    assert page.complaints == [] and page.title() == "mslab serve"
    assert {url for url in page.requested if not url.startswith((served.url, "blob:", "data:"))} == set()


def test_a_chosen_file_shows_mslab_predicts_probabilities_and_a_heat_map(served, page, photo, expected, tmp_path):
    page.goto(served.url)
    page.set_input_files("#files", photo[0])
    card = page.locator("article")
    card.wait_for()
    assert shares(card) == [float(f"{100 * share:.1f}") for share in sorted(expected.values(), reverse=True)]
    widths = card.locator(".bar div").evaluate_all("bars => bars.map(b => b.offsetWidth / b.parentElement.clientWidth)")
    assert [100 * width for width in widths] == pytest.approx(shares(card), abs=3)
    heat = card.locator("img.heat")
    assert heat.evaluate("image => image.decode().then(() => image.naturalWidth)") == 32
    assert "Grad-CAM" in heat.get_attribute("alt") and page.locator("#no-heat").is_hidden()
    best = max(expected, key=expected.get)
    assert page.locator("[role=status]").inner_text().startswith("000.png: " + shown(best)[:20])
    page.screenshot(path=tmp_path / "light.png", full_page=True)
    assert_quiet(page, served)


def shown(text: str) -> str:
    """As the page and `mslab predict`'s table write text from outside, but for how a character is spelled out."""
    return re.sub(r"[\n\u202e\u202c\ud800]", lambda m: f"\\u{{{ord(m[0]):x}}}", text)


def test_hostile_names_are_text(served, page, photo, tmp_path):
    page.goto(served.url)
    names = [
        "<img src=x onerror=\"document.title='taken'\">.png",
        "'\";\n\r\x00\u202egnp.exe",
        "long" * 2_500 + ".png",
    ]
    drop(page, [(name, photo[1]) for name in names])
    page.locator("article").nth(2).wait_for()
    headings = page.locator("article h2").all_inner_texts()[::-1]  # the newest is the first
    assert headings[0] == names[0]
    assert headings[1] == "'\";\\u{a}\\u{d}\\u{0}\\u{202e}gnp.exe"
    assert headings[2].startswith("longlong") and "…" in headings[2] and len(headings[2]) == 60
    classes = set(page.locator("article").first.locator("th").all_inner_texts())
    assert any(name.startswith("<script>document.title = 'tak") for name in classes)
    assert "new\\u{a}line, \\u{202e}turned\\u{202c}, half \\u{d800}" in classes
    page.screenshot(path=tmp_path / "hostile.png", full_page=True)
    assert page.locator("article script, article img:not([src^='blob:']):not([src^='data:'])").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert_quiet(page, served)


def drop(page, files, zeros=0):
    """Drop files, (name, bytes), on the page as a person would; with them one of so many zeros."""
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


def test_what_cannot_be_used_is_said_beside_what_can(served, page, photo):
    page.goto(served.url)
    drop(page, [("text.png", b"no image"), ("good.png", photo[1])], serve.BODY + 1)
    page.locator("article").nth(2).wait_for()
    too_large, good, text = page.locator("article").all()
    assert "no JPEG, PNG" in text.inner_text() and "more than 32 MiB" in too_large.inner_text()
    assert len(shares(good)) == 3
    drop(page, [])
    assert page.locator("[role=status]").inner_text() == "There was no file in that."
    page.get_by_role("button", name="Clear the page").click()
    assert page.locator("article").count() == 0
    assert_quiet(page, served)


def test_the_keyboard_is_enough_and_everything_has_a_name(served, page, photo):
    page.goto(served.url)
    page.locator("body").press("Tab")
    page.wait_for_function("document.activeElement.type === 'file'")
    choosers = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    for _ in range(5):  # Chromium now and then swallows the first key that a page gets
        page.keyboard.press("Space")
        page.wait_for_timeout(1000)
        if choosers:
            break
    assert choosers[0].is_multiple()
    choosers[0].set_files(photo[0])
    page.locator("article").wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Use the camera"
    assert page.get_by_label("Choose files").count() == 1
    tree = page.locator("body").aria_snapshot()
    for part in (
        'heading "What does the network see?"',
        "status:",
        'button "Use the camera"',
        'rowheader "new',
        "table",
    ):
        assert part in tree, tree
    assert page.locator("img:not([alt]), img[alt='']").count() == 0


def test_dark_and_as_narrow_as_a_phone(served, new_page, photo, tmp_path):
    page = new_page(color_scheme="dark", viewport={"width": 360, "height": 740})
    page.goto(served.url)
    page.set_input_files("#files", photo[0])
    page.locator("article").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.screenshot(path=tmp_path / "dark.png", full_page=True)
    corner = Image.open(tmp_path / "dark.png").convert("L").getpixel((2, 2))
    assert corner < 60
    assert_quiet(page, served)


def test_chinese_by_the_browser_or_by_the_address(served, new_page):
    chinese, english = new_page(locale="zh-CN"), new_page(locale="en-US")
    chinese.goto(served.url)
    assert chinese.get_by_role("heading", name="网络看到了什么？").is_visible()
    assert chinese.locator("html").get_attribute("lang") == "zh-Hans"
    chinese.goto(f"{served.url}?lang=en")
    assert chinese.get_by_role("heading", name="What does the network see?").is_visible()
    english.goto(f"{served.url}?lang=zh")
    english.locator("#about", has_text="3 个类别").wait_for()


def test_both_languages_have_the_same_words():
    text = Path(serve.__file__).with_name("page.js").read_text()
    english, chinese = (re.findall(r"^    (\w+):", part, re.M) for part in text.split("  zh: {"))
    assert english == chinese[: len(english)] and len(english) > 15


def test_a_picture_of_the_camera(served, new_page):
    page = new_page(permissions=["camera"])
    page.goto(served.url)
    page.get_by_role("button", name="Use the camera").click()
    still = page.get_by_role("button", name="Take the picture")
    still.click()
    card = page.locator("article")
    card.wait_for()
    assert card.locator("h2").inner_text() == "camera" and len(shares(card)) == 3
    page.get_by_role("button", name="Camera off").click()
    assert page.evaluate("document.getElementById('video').srcObject") is None
    assert_quiet(page, served)


def test_without_a_camera_the_page_says_so(served, new_page):
    page = new_page()
    page.add_init_script("delete Navigator.prototype.mediaDevices")  # as where the page is not from this machine
    page.goto(served.url)
    page.get_by_role("button", name="Use the camera").click()
    page.locator("[role=status]", has_text="cannot be used").wait_for()
    assert_quiet(page, served)


# --- the endpoint ----------------------------------------------------------------------------------------------------


def test_forms_and_raw_bodies_get_mslab_predicts_answer(served, photo, expected):
    first, second = served.predict(photo[1], photo[1])
    status, _, body = served.ask("POST", "/predict", photo[1])
    (raw,) = json.loads(body)["images"]
    assert status == 200 and first == second == raw and first["heat"] is None and first["error"] == ""
    assert first["probabilities"] == pytest.approx(expected, abs=1e-5) and list(first["probabilities"]) == CLASSES
    assert first["class"] == max(expected, key=expected.get)
    assert first["probability"] == max(first["probabilities"].values())
    (warm,) = served.predict(photo[1], heat=True)
    picture = Image.open(io.BytesIO(base64.b64decode(warm.pop("heat"))))
    assert picture.format == "JPEG" and picture.size == (32, 32) and warm == {k: first[k] for k in warm}


def test_about_says_what_is_served(served):
    status, headers, body = served.ask(path="/about")
    about = json.loads(body)
    assert status == 200 and headers["content-type"] == "application/json"
    assert about["class_names"] == CLASSES and about["image_size"] == 32 and about["source"] == "hostile.ckpt"
    assert about["limits"] == {"bytes": serve.BODY, "images": serve.IMAGES, "pixels": limits.PIXELS}


def test_other_formats_and_turned_photos_work_and_a_broken_file_is_one_answer(served, photo):
    image = Image.open(photo[0])
    exif = Image.Exif()
    exif[274] = 6  # shown turned by a quarter
    turned = as_bytes(image.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    webp = as_bytes(image, "WEBP", lossless=True)
    eps = as_bytes(image, "EPS")  # Pillow would start another program for it
    answers = served.predict(photo[1], turned, as_bytes(image, "GIF"), photo[1][:-20], webp, b"", eps)
    right = answers[0]["probabilities"]
    assert answers[1]["probabilities"] == right
    assert answers[2]["probabilities"] == pytest.approx(right, abs=0.02)  # a GIF has 256 colours
    assert answers[4]["probabilities"] == pytest.approx(right, abs=0.02)  # a lossy copy of it is looked at
    for broken, said in ((3, "truncated: "), (5, "unreadable: no JPEG"), (6, "unreadable: no JPEG")):
        assert answers[broken]["error"].startswith(said) and answers[broken]["class"] is None


def refusals(photo: bytes):
    """What is refused: (status, what the message has, the request)."""
    post = ("POST", "/predict")
    many = Image.new("1", (limits.PIXELS // 8000 + 1, 8000))
    yield 403, "not this server", ("GET", "/", b"", {"Host": "evil.example"})
    yield 403, "not this server", ("GET", "/about", b"", {"Host": "127.0.0.1.evil.example:8000"})
    yield 403, "not this server", ("GET", "/", b"", {"Host": "["})
    yield 403, "not this server", (*post, photo, {"Host": "evil.example", "Origin": "http://evil.example"})
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1"):
        yield 403, "another site", (*post, photo, {"Origin": origin})
    yield 413, "more than 32 MiB", (*post, bytes(serve.BODY + 1), {})
    yield 413, "more than 32 MiB", (*post, b"", {"Content-Length": str(10**15)})
    yield 413, "more than 32 MiB", (*post, iter([bytes(1 << 20)] * 33), {})  # in chunks, without its length
    yield 413, "has 17 images", (*post, form(*[photo] * 17), FORM)
    yield 413, "Image 2 of 2 has more than 64,000,000 pixels", (*post, form(photo, as_bytes(many, "PNG")), FORM)
    yield 413, "Image 1 of 1 has more", (*post, as_bytes(Image.new("1", (20_000, 10_000)), "PNG"), {})
    yield 400, "has no image", (*post, b"", {})
    yield 400, "has no image", (*post, form(), FORM)
    yield 400, "or a part that is none", (*post, form(photo, name="picture"), FORM)
    yield 400, "cannot be read", (*post, b"no boundary\r\n", FORM)
    yield 400, "cannot be read", (*post, form(photo), {"Content_Type": "multipart/form-data"})
    yield 404, "no such page", ("GET", "/../mslab/cli.py", b"", {})
    yield 404, "no such page", ("GET", "/page.html", b"", {})
    yield 405, "does not answer", ("GET", "/predict", b"", {})
    yield 405, "does not answer", ("DELETE", "/", b"", {})


def test_every_refusal_says_what_happened_what_was_expected_and_how_to_fix_it(served, photo):
    for status, said, (method, path, body, headers) in refusals(photo[1]):
        got, _, answer = served.ask(method, path, body, **headers)
        content = json.loads(answer)
        assert (got, set(content)) == (status, {"error", "expected", "fix"}), (said, content)
        assert said in content["error"] and content["expected"] and content["fix"]
    assert served.predict(photo[1])[0]["class"]  # and it goes on


def test_other_names_of_this_machine_and_its_own_page_are_let_in(served, photo):
    for host in (f"localhost:{served.port}", "LOCALHOST", "[::1]:80", "127.0.0.1"):
        assert served.ask(Host=host)[0] == 200
    host = f"localhost:{served.port}"
    assert served.ask("POST", "/predict", photo[1], Host=host, Origin=f"http://{host}")[0] == 200


def test_every_answer_has_the_headers_that_keep_it_in(served):
    for path in ("/", "/page.js", "/page.css", "/about", "/nowhere"):
        headers = served.ask(path=path)[1]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
        assert not any(name.startswith("access-control") or name == "server" for name in headers)


def test_beyond_the_queue_requests_are_told_to_come_back(served, photo):
    waiting = []
    for _ in range(serve.WAITING):
        line = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(photo[1])}\r\n\r\n"
        waiting.append(socket.create_connection(("127.0.0.1", served.port)))
        waiting[-1].sendall(line.encode())
    time.sleep(0.3)
    status, headers, body = served.ask("POST", "/predict", photo[1])
    assert status == 503 and headers["retry-after"] == "2" and "8 requests are under way" in json.loads(body)["error"]
    for connection in waiting[1:]:
        connection.close()
    waiting[0].sendall(photo[1])
    assert waiting[0].recv(12) == b"HTTP/1.1 200"
    waiting[0].close()
    assert served.predict(photo[1])[0]["class"]


def test_the_log_has_a_short_line_a_request_and_nothing_of_the_clients(served, photo):
    served.predict(photo[1])
    served.ask("BREW", "/%0Anowhere%1B%5B31m?secret=1")
    lines = served.log.read_text().splitlines()
    assert lines[-1].startswith("(other) (no such page) 404 ")
    usual = r"ready: .*|(GET|HEAD|POST|\(other\)) [\w/.() ]+( \d{3} \d+\.\d\d s|: the client went away)"
    assert all(re.fullmatch(usual, line) for line in lines), lines
    left = [path.name for path in served.temp.rglob("*") if not path.name.endswith(".log")]  # MindSpore's output
    assert len(left) == 1 and left[0].startswith("mslab-serve-"), left


# --- beginning and ending --------------------------------------------------------------------------------------------


def test_a_graph_has_no_heat_map_every_address_is_said_and_ctrl_c_leaves_nothing(parent, photo, page, tmp_path):
    """One server for three promises: its start takes seconds."""
    graph = tmp_path / "best.onnx"
    export.export_run(parent, "onnx", graph)
    with serving(graph, tmp_path, "--host", "0.0.0.0") as served:
        assert "note: --host 0.0.0.0: whoever reaches this address may ask" in served.log.read_text()
        assert served.ask(Host="192.0.2.7")[0] == 200 and served.ask(Host="evil.example")[0] == 403
        page.goto(served.url)
        page.set_input_files("#files", photo[0])
        page.locator("article").wait_for()
        assert page.locator("#no-heat").is_visible() and page.locator("img.heat").count() == 0
        assert_quiet(page, served)
        slow = as_bytes(Image.fromarray(np.random.default_rng(0).integers(0, 255, (2000, 1500, 3), np.uint8)), "TIFF")
        connection = socket.create_connection(("127.0.0.1", served.port))  # a request is under way
        head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {FORM['Content_Type']}\r\n"
        body = form(*[slow] * 3)
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        for _ in range(100):
            if psutil.Process(served.process.pid).children():
                break
            time.sleep(0.02)
        workers = psutil.Process(served.process.pid).children(recursive=True)
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(15) == 130 and workers
        connection.close()
        assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)
        assert list(served.temp.iterdir()) == []
        assert "Traceback" not in served.log.read_text() and served.log.read_text().endswith("stopped\n")


def test_ctrl_c_while_mindspore_is_imported_ends_as_cleanly(served, tmp_path):
    command = [*COMMAND, str(served.source), "--port", "0", "--device", "cpu"]
    process = psutil.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(tmp_path)})
    while not any("_c_expression" in part.path for part in process.memory_maps()):  # its library, early in its import
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert (process.returncode, said, list(tmp_path.iterdir())) == (130, "stopped\n", [])


def test_a_port_that_is_taken_is_one_message_and_exit_1(served):
    done = cli("serve", served.source, "--port", served.port)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith(f"MslabError: Port {served.port} of 127.0.0.1 is taken")
    assert "expected  a port that is free" in done.stderr and f"--port {served.port + 1}" in done.stderr


def test_an_address_that_is_not_this_machines_is_one_message():
    for host in ("192.0.2.1", "no such host", "x" * 70 + ".example"):
        with pytest.raises(MslabError, match="mslab cannot listen at") as caught:
            serve.run("nowhere", host, 0, "cpu")
        assert caught.value.expected and caught.value.fix


def test_no_run_or_a_run_without_a_best_checkpoint_is_one_message(tmp_path):
    for source in (tmp_path, tmp_path / "nowhere", tmp_path / "nowhere.onnx"):
        with pytest.raises(MslabError, match=r"has no checkpoints/best.ckpt|[Nn]o .*nowhere") as caught:
            serve.run(str(source), "127.0.0.1", 0, "cpu")
        assert caught.value.expected and caught.value.fix


def called(app, *received) -> tuple[int, dict]:
    """Status and JSON that the application sends for POST /predict; what it receives are messages, then nothing."""
    sent, messages = [], list(received)

    async def receive():
        return messages.pop(0) if messages else await asyncio.sleep(60)

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/predict",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
    }
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], json.loads(sent[1]["body"])


def test_a_request_that_does_not_arrive_in_time_is_refused(monkeypatch):
    monkeypatch.setattr(serve, "SECONDS", 0.05)
    status, content = called(
        serve.App(None, "127.0.0.1", "x"), {"type": "http.request", "body": b"a", "more_body": True}
    )
    assert status == 408 and "had not arrived after 0.05 s" in content["error"]


def test_an_unknown_error_is_an_answer_and_its_traceback_is_printed(capsys, monkeypatch):
    status, content = called(serve.App(None, "127.0.0.1", "x"), {"type": "http.request", "body": b"a"})  # no desk
    assert status == 500 and set(content) == {"error", "expected", "fix"}
