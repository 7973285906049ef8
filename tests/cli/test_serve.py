"""mslab serve: the page in a real browser, the endpoint over real HTTP, and every refusal."""

import asyncio
import base64
import io
import json
import os
import re
import signal
import socket
import time
from pathlib import Path

import jsonschema
import mindspore.dataset.vision as vision
import numpy as np
import psutil
import pytest
from checking import many_scans, slow_jpeg
from helpers import cli
from PIL import Image
from serving import (
    CLASSES,
    FORM,
    as_bytes,
    assert_no_complaints,
    drop,
    escaped,
    fetched,
    form,
    free_ports,
    hostile,
    nginx,
    percentages,
    serving,
)

from mslab.check import worker
from mslab.errors import MslabError
from mslab.inference import export, predicting
from mslab.inference.serve import limits, server, uploads
from mslab.inference.serve.addresses import Addresses
from mslab.inference.serve.predictor import NoAnswer, Predictor
from mslab.runtime import signals


@pytest.fixture(scope="module")
def served(parent, tmp_path_factory):
    with hostile(parent, tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.fixture(scope="module")
def photo(squares):
    """The file of an image, and its bytes."""
    path = squares / "three" / "test" / "a" / "000.png"
    return path, path.read_bytes()


@pytest.fixture(scope="module")
def expected(served, photo):
    """The result of `mslab predict` for it: {class: probability}."""
    (row,) = predicting.predict(predicting.open_model(served.source, "cpu"), [photo[0]])
    return row["probabilities"]


# --- the page --------------------------------------------------------------------------------------------------------


def test_a_chosen_file_shows_mslab_predicts_probabilities_and_a_heat_map(served, new_page, photo, expected):
    """One page: a file from the dialog, then dropped files with hostile names; dark mode, finally a phone's width."""
    page = new_page(color_scheme="dark")
    page.goto(served.url)
    page.set_input_files("#files", photo[0])
    card = page.locator("article")
    card.wait_for()
    assert percentages(card) == [float(f"{100 * value:.1f}") for value in sorted(expected.values(), reverse=True)]
    widths = card.locator(".bar div").evaluate_all("bars => bars.map(b => b.offsetWidth / b.parentElement.clientWidth)")
    assert [100 * width for width in widths] == pytest.approx(percentages(card), abs=3)
    heat = card.locator("img.heat")
    assert heat.evaluate("image => image.decode().then(() => image.naturalWidth)") == 32
    assert "Grad-CAM" in heat.get_attribute("alt") and page.locator("#no-heat").is_hidden()
    best = max(expected, key=expected.get)
    assert page.locator("[role=status]").inner_text().startswith("000.png: " + escaped(best)[:20])
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", dark)[:3])) < 60

    names = [
        "<img src=x onerror=\"document.title='taken'\">.png",
        "'\";\n\r\x00\u202egnp.exe",
        "long" * 2_500 + ".png",
        "می‌خواهم क्‍ष 👩🏽‍🚀❤️‍🔥 蘑菇 a\u200db\u3164.png",
    ]
    drop(page, [(name, photo[1]) for name in names])
    page.locator("article").nth(4).wait_for()
    headings = page.locator("article h2").all_inner_texts()[3::-1]  # the newest is first
    assert headings[0] == names[0]
    assert headings[1] == "'\";\\u{a}\\u{d}\\u{0}\\u{202e}gnp.exe"
    assert headings[2].startswith("longlong") and "…" in headings[2] and len(headings[2]) == 60
    assert headings[3] == "می‌خواهم क्‍ष 👩🏽‍🚀❤️‍🔥 蘑菇 a\\u{200d}b\\u{3164}.png"
    classes = set(page.locator("article").first.locator("th").all_inner_texts())
    assert any(name.startswith("<script>document.title = 'tak") for name in classes)
    assert "new\\u{a}line, \\u{202e}turned\\u{202c}, half \\u{d800}" in classes
    assert page.locator("article script, article img:not([src^='blob:']):not([src^='data:'])").count() == 0
    for width in (1280, 360):
        page.set_viewport_size({"width": width, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert_no_complaints(page, served)


def test_both_languages_have_the_same_texts():
    text = Path(server.__file__).with_name("page.js").read_text()
    english, chinese = (re.findall(r"^    (\w+):", part, re.M) for part in text.split("  zh: {"))
    assert english == chinese[: len(english)] and len(english) > 15


# --- the endpoint ----------------------------------------------------------------------------------------------------


def test_forms_and_raw_bodies_get_the_answer_of_mslab_predict(served, photo, expected):
    first, second = served.predict(photo[1], photo[1])
    status, _, body = served.ask("POST", "/predict", photo[1])
    (raw,) = json.loads(body)["images"]
    assert status == 200 and first == second == raw and first["heat"] is None and first["error"] == ""
    assert first["probabilities"] == pytest.approx(expected, abs=1e-5) and list(first["probabilities"]) == CLASSES
    assert first["class"] == max(expected, key=expected.get)
    assert first["probability"] == max(first["probabilities"].values())
    (with_heat,) = served.predict(photo[1], heat=True)
    picture = Image.open(io.BytesIO(base64.b64decode(with_heat.pop("heat"))))
    assert picture.format == "JPEG" and picture.size == (32, 32) and with_heat == {k: first[k] for k in with_heat}


def test_about_describes_the_network(served):
    status, headers, body = served.ask(path="/about")
    about = json.loads(body)
    assert status == 200 and headers["content-type"] == "application/json"
    assert about["class_names"] == CLASSES and about["image_size"] == 32 and about["source"] == "hostile.ckpt"
    assert about["limits"] == {
        "bytes": server.BODY,
        "images": server.IMAGES,
        "pixels": limits.PIXELS,
        "requests": 8,
        "seconds_to_send": 30.0,
        "seconds_per_image": 5.0,
    }


def test_every_answer_is_as_openapi_json_describes_it(served, photo):
    api = json.loads(served.ask(path="/openapi.json")[2])
    validator = jsonschema.validators.validator_for(api, jsonschema.Draft202012Validator)
    requests = [
        ("/predict", "post", photo[1], {}),
        ("/predict?heat=1", "post", form(photo[1], b"no image"), FORM),
        ("/predict", "post", b"", {}),
        ("/predict", "post", photo[1], {"Origin": "http://evil.example"}),
        ("/predict", "post", form(*[photo[1]] * 17), FORM),
        ("/about", "get", b"", {}),
        ("/about", "get", b"", {"Host": "evil.example"}),
        ("/healthz", "get", b"", {}),
    ]
    seen = set()
    for path, method, body, headers in requests:
        status, _, answer = served.ask(method.upper(), path, body, **headers)
        described = api["paths"][path.partition("?")[0]][method]["responses"][str(status)]
        described = api["components"]["responses"]["Refusal"] if "$ref" in described else described
        schema = described["content"]["application/json"]["schema"] | {"components": api["components"]}
        validator(schema).validate(json.loads(answer))
        seen.add(status)
    assert seen == {200, 400, 403, 413}


def test_other_formats_and_rotated_photos_work_and_a_damaged_file_gets_an_error(served, photo):
    image = Image.open(photo[0])
    exif = Image.Exif()
    exif[274] = 6  # displayed rotated by 90 degrees
    turned = as_bytes(image.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    webp = as_bytes(image, "WEBP", lossless=True)
    eps = as_bytes(image, "EPS")  # Pillow would start an external program for it
    answers = served.predict(photo[1], turned, as_bytes(image, "GIF"), photo[1][:-20], webp, b"", eps)
    expected = answers[0]["probabilities"]
    assert answers[1]["probabilities"] == expected
    assert answers[2]["probabilities"] == pytest.approx(expected, abs=0.02)  # a GIF has 256 colours
    assert answers[4]["probabilities"] == pytest.approx(expected, abs=0.02)  # a lossy copy of it is used
    for index, text in ((3, "truncated: "), (5, "unreadable: not one of JPEG"), (6, "unreadable: not one of JPEG")):
        assert answers[index]["error"].startswith(text) and answers[index]["class"] is None


def test_the_worker_decodes_the_same_pixels_as_mindspore(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 61, 3), np.uint8)).resize((121, 183))
    wide = image.convert("L").convert("I").point(lambda value: value * 200).convert("I;16")
    files = [as_bytes(image.convert(mode), "PNG") for mode in ("RGB", "RGBA", "LA", "L", "P", "1")]
    files += [as_bytes(image.convert(mode), kind) for mode in ("RGB", "RGBA", "P") for kind in ("TIFF", "BMP")]
    files += [as_bytes(image, "JPEG", subsampling=kind, progressive=kind == 2) for kind in (0, 1, 2)]
    files += [as_bytes(wide, "PNG"), as_bytes(image.convert("L"), "JPEG")]
    for number, content in enumerate(files):
        (tmp_path / f"{number}").write_bytes(content)
        answer = worker.decode(tmp_path / f"{number}")
        expected = vision.Decode()(np.frombuffer(content, np.uint8))
        assert (answer["height"], answer["width"], 3) == expected.shape
        assert Path(answer["copy"]).read_bytes()[-expected.size :] == expected.tobytes()


def refusals(photo: bytes):
    """Yield refused requests: (status, text of the message, request)."""
    post = ("POST", "/predict")
    many = Image.new("1", (limits.PIXELS // 8000 + 1, 8000))
    yield 403, "does not name this server", ("GET", "/", b"", {"Host": "evil.example"})
    yield 403, "does not name this server", ("GET", "/about", b"", {"Host": "127.0.0.1.evil.example:8000"})
    yield 403, "does not name this server", ("GET", "/", b"", {"Host": "["})
    yield 403, "does not name this server", (*post, photo, {"Host": "evil.example", "Origin": "http://evil.example"})
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1"):
        yield 403, "another site", (*post, photo, {"Origin": origin})
    yield 413, "larger than 32 MiB", (*post, bytes(server.BODY + 1), {})
    yield 413, "larger than 32 MiB", (*post, b"", {"Content-Length": str(10**15)})
    yield 413, "larger than 32 MiB", (*post, iter([bytes(1 << 20)] * 33), {})  # in chunks, without a declared length
    yield 413, "contains 17 images", (*post, form(*[photo] * 17), FORM)
    yield 413, "Image 2 of 2 has more than 64,000,000 pixels", (*post, form(photo, as_bytes(many, "PNG")), FORM)
    yield 413, "Image 1 of 1 has more", (*post, as_bytes(Image.new("1", (20_000, 10_000)), "PNG"), {})
    yield 400, "contains no image", (*post, b"", {})
    yield 400, "contains no image", (*post, form(), FORM)
    yield 400, "or a part that is not one", (*post, form(photo, name="picture"), FORM)
    yield 400, "cannot be read", (*post, b"no boundary\r\n", FORM)
    yield 400, "cannot be read", (*post, form(photo), {"Content_Type": "multipart/form-data"})
    yield 404, "No such page", ("GET", "/../mslab/model.py", b"", {})
    yield 404, "No such page", ("GET", "/page.html", b"", {})
    yield 405, "does not allow", ("GET", "/predict", b"", {})
    yield 405, "does not allow", ("DELETE", "/", b"", {})


def test_every_refusal_reports_what_happened_what_was_expected_and_how_to_fix_it(served, photo):
    for status, text, (method, path, body, headers) in refusals(photo[1]):
        response_status, _, answer = served.ask(method, path, body, **headers)
        content = json.loads(answer)
        assert (response_status, set(content)) == (status, {"error", "expected", "fix"}), (text, content)
        assert text in content["error"] and content["expected"] and content["fix"]
    chinese = json.loads(served.ask("GET", "/nowhere", Accept_Language="zh-CN,en;q=0.5")[2])
    assert chinese == {
        "error": "没有这个页面。",
        "expected": "/, /page.css, /page.js, /docs, /openapi.json, /about, /healthz, /predict",
        "fix": "从 / 开始",
    }
    damaged = served.ask("POST", "/predict", b"", Accept_Language="zh")
    assert json.loads(damaged[2])["error"] == "请求中没有图像。" and damaged[0] == 400
    assert served.predict(photo[1])[0]["class"]  # the server continues


def test_other_names_of_this_machine_and_its_own_page_are_accepted(served, photo):
    for host in (f"localhost:{served.port}", "LOCALHOST", "[::1]:80", "127.0.0.1"):
        assert served.ask(Host=host)[0] == 200
    host = f"localhost:{served.port}"
    assert served.ask("POST", "/predict", photo[1], Host=host, Origin=f"http://{host}")[0] == 200


def test_every_answer_has_the_security_headers(served):
    for path in ("/", "/page.js", "/page.css", "/about", "/nowhere"):
        headers = served.ask(path=path)[1]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
        assert not any(name.startswith("access-control") or name == "server" for name in headers)


# --- behind a proxy ---------------------------------------------------------------------------------------------------

PREFIX = "/user/ada/proxy/8000"


def test_behind_a_proxy_the_page_works_under_any_prefix_with_or_without_a_slash(parent, new_page, photo, tmp_path):
    """One server behind a real nginx with another name: in turn the prefix is removed, passed on, or passed as //."""
    (port,) = free_ports(1)
    origin = f"http://lab.localhost:{port}"
    kept, removed, doubled = PREFIX, f"/removed{PREFIX}", f"/doubled{PREFIX}"
    source = parent / "checkpoints" / "best.ckpt"
    with serving(source, tmp_path, "--root-path", f"{PREFIX}/", "--allow-origin", f"{origin}/") as served:
        assert f"; the proxy's visitors use {origin}{PREFIX}/)" in served.log.read_text()
        own = f"http://127.0.0.1:{served.port}"
        rules = {kept: own, f"{removed}/": f"{own}/", doubled: f"{own}/"}
        with nginx(tmp_path, port, rules, "proxy_set_header Host $http_host;"):
            page = new_page()
            page.goto(f"{origin}{PREFIX}")  # its address has no / at the end
            page.set_input_files("#files", photo[0])
            page.locator("article img.heat").wait_for()
            assert page.locator("#unloaded").is_hidden() and page.locator("#about").inner_text().startswith("best.ckpt")
            page.goto(f"{origin}{PREFIX}/docs")
            assert page.evaluate("getComputedStyle(document.querySelector('h1')).marginTop") == "0px"
            assert page.complaints == []
            assert all(url.startswith((f"{origin}{PREFIX}", "data:", "blob:")) for url in page.requested)
            for start in (kept, removed, doubled):
                for path in ("/", "/page.js", "/about", "/healthz/", "/docs"):
                    assert fetched(port, f"{start}{path}", f"lab.localhost:{port}")[0] == 200, (start, path)
            status, _ = fetched(port, f"{kept}/about", "evil.example")
            assert status == 403


def test_without_root_path_a_prefix_that_the_proxy_removes_works_and_other_mistakes_are_explained(
    served, new_page, photo, tmp_path
):
    (port,) = free_ports(1)
    own = f"http://127.0.0.1:{served.port}"
    rules = {"/removed/": f"{own}/", "/bare": f"{own}/", "/small/": f"{own}/"}
    small = f"location = /small/predict {{ client_max_body_size 1; proxy_pass {own}/predict; }}"
    with nginx(tmp_path, port, rules, small):
        page = new_page()
        page.goto(f"http://127.0.0.1:{port}/removed/")
        page.locator("#about", has_text="3 classes").wait_for()
        page.set_input_files("#files", photo[0])  # the browser's Origin is the proxy, nginx's Host the server
        page.locator("article", has_text=f"start it with --allow-origin http://127.0.0.1:{port}").wait_for()
        page.goto(f"http://127.0.0.1:{port}/bare")
        assert "Give its address a / at the end" in page.locator("#unloaded").inner_text()
        page.goto(f"http://127.0.0.1:{port}/bare/")
        page.locator("#about", has_text="3 classes").wait_for()
        page.goto(f"http://127.0.0.1:{port}/small/")
        page.set_input_files("#files", photo[0])
        page.locator("article", has_text="answered, with status 413: a proxy with a limit of its own").wait_for()


def test_the_page_asks_again_while_the_server_has_no_place(served, page, photo):
    refused = []

    def full(route):
        refused.append(route)
        if len(refused) > 2:
            return route.continue_()
        return route.fulfill(status=503, headers={"Retry-After": "0.1"}, json={"error": "Full.", "fix": "again"})

    page.route("**/predict?heat=1", full)
    page.goto(served.url)
    page.set_input_files("#files", photo[0])
    page.locator("article td.number").first.wait_for()
    assert len(refused) == 3 and page.locator("article .error").count() == 0


# --- clients and images that take their time --------------------------------------------------------------------------

UPLOAD = ("POST /predict HTTP/1.1", "Host: 127.0.0.1", "Content-Length: 1000", "")
CHUNKS = ("POST /predict HTTP/1.1", "Host: 127.0.0.1", "Transfer-Encoding: chunked", "")


def test_any_number_of_slow_connections_leaves_the_server_open(served, photo):
    """The server may open 64 files. Its log stays short, and so do its temporary files."""
    size = served.log.stat().st_size
    for lines in ((), ("GET / HTTP/1.1",), UPLOAD, CHUNKS, ("GET /page.js HTTP/1.1", "Host: 127.0.0.1", "") * 50):
        connections = [served.connect(*lines) for _ in range(100)]
        assert served.predict(photo[1])[0]["class"]
        assert len(psutil.Process(served.process.pid).net_connections()) < 64
        for connection in connections:
            connection.close()
    temporary = sum(path.stat().st_size for path in served.temp.rglob("*") if path.is_file())
    assert served.log.stat().st_size - size < 5_000 and temporary < 5_000


def test_slow_uploads_take_nobodys_place_and_may_end(served, photo):
    slow = [served.connect(*UPLOAD[:2], f"Content-Length: {len(photo[1])}", "") for _ in range(10)]
    assert served.predict(photo[1])[0]["class"]
    slow[9].sendall(photo[1])
    assert slow[9].recv(12) == b"HTTP/1.1 200"
    for connection in slow:
        connection.close()


def test_a_slow_image_delays_no_other_request(served, photo, tmp_path):
    many_scans(tmp_path / "slow.jpg", (4000, 4000), 90)  # its decoding takes two seconds
    body = (tmp_path / "slow.jpg").read_bytes()
    with served.connect(*UPLOAD[:2], f"Content-Length: {len(body)}", "", body=body) as connection:
        assert served.predict(photo[1])[0]["class"]
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):  # no answer yet
            connection.recv(1)


def test_a_body_in_tiny_chunks_is_refused_before_it_keeps_the_server_busy(served):
    with served.connect(*CHUNKS, body=b"1\r\nx\r\n" * 2_000) as connection:
        assert connection.recv(12) == b"HTTP/1.1 400"


def test_what_is_not_http_1_is_refused_and_the_server_continues(served):
    for lines in (("PRI * HTTP/2.0", "", "SM", ""), ("\x16\x03\x01\x02", ""), (*CHUNKS, "ZZ", "")):
        with served.connect(*lines) as connection:
            assert connection.recv(12) in (b"HTTP/1.1 400", b"HTTP/1.1 403")
    with served.connect("GET / HTTP/1.1", "X: " + "a" * 100_000) as connection:
        assert connection.recv(12) == b"HTTP/1.1 400"
    upgrade = ("GET / HTTP/1.1", "Host: 127.0.0.1", "Connection: upgrade", "Upgrade: websocket", "")
    with served.connect(*upgrade) as connection:
        assert connection.recv(12) == b"HTTP/1.1 200"


def test_an_image_that_cannot_be_resized_gets_an_error(served, photo):
    narrow, usable = served.predict(as_bytes(Image.new("L", (20_000_000, 1)), "PNG"), photo[1])
    assert narrow["error"].startswith("elongated: 20000000x1 pixels") and usable["class"]


def test_an_image_that_takes_too_long_is_an_error_and_the_next_one_is_decoded(served, photo, tmp_path):
    slow_jpeg(tmp_path / "slow.jpg")
    with Predictor(predicting.open_model(served.source, "cpu", batch=1), tmp_path) as predictor:
        with pytest.raises(NoAnswer, match="timeout: loading it took more than 1 s"):
            predictor.network_input([(tmp_path / "slow.jpg").read_bytes()], 0, 1)
        with pytest.raises(NoAnswer, match="timeout: loading the images of this request took more than 20 s"):
            predictor.network_input([photo[1]], 0, 0)
        assert predictor.network_input([photo[1]], 0, 20).shape == (1, 3, 32, 32)


def test_more_waiting_requests_than_places_get_retry_after(served, photo):
    app = server.App(None, Addresses("127.0.0.1"), "x")
    app.waiting += [""] * limits.PER_ADDRESS + ["192.0.2.7"]
    status, content = call(app, {"type": "http.request", "body": b"a"})
    assert status == 503 and content["error"] == "9 requests are running, 8 of them from your address."
    app.waiting[:] = [str(number) for number in range(limits.WAITING)]
    assert call(app, {"type": "http.request", "body": b"a"})[0] == 503


def test_the_log_has_a_short_line_for_each_kind_of_request_and_no_text_of_the_client(served, photo):
    served.predict(photo[1])
    served.ask("BREW", "/%0Anowhere%1B%5B31m?secret=1")
    lines = served.log.read_text().splitlines()
    assert any(line.startswith("(other) (no such page) 404 ") for line in lines)
    request = r"(GET|HEAD|POST|\(other\)) [\w/.() ]+( \d{3} \d+\.\d\d s|: the client disconnected)"
    connection = r"more than \d+ connections: .*|Invalid HTTP request .*|Unsupported upgrade .*|No supported Web.*"
    pattern = rf"ready: .*|{request}|{connection}|.*: \d+ more in \d+ s"
    assert all(re.fullmatch(pattern, line) for line in lines), lines
    for _ in range(100):  # a request of an earlier test, whose client is gone, may still end
        remaining = [path.name for path in served.temp.rglob("*") if not path.name.endswith(".log")]  # MindSpore's
        if len(remaining) == 1:
            break
        time.sleep(0.05)
    assert len(remaining) == 1 and remaining[0].startswith("mslab-serve-"), remaining


# --- start and stop --------------------------------------------------------------------------------------------------


def test_a_graph_has_no_heat_map_a_public_address_is_noted_and_ctrl_c_leaves_nothing(parent, photo, page, tmp_path):
    """One server for three promises, since its start takes seconds."""
    graph = tmp_path / "best.onnx"
    export.export_run(parent, "onnx", graph)
    with serving(graph, tmp_path, "--host", "0.0.0.0") as served:
        assert "note: --host 0.0.0.0: anyone who can reach this address can use" in served.log.read_text()
        assert served.ask(Host="192.0.2.7")[0] == 200 and served.ask(Host="evil.example")[0] == 403
        page.goto(served.url)
        page.set_input_files("#files", photo[0])
        page.locator("article").wait_for()
        assert page.locator("#no-heat").is_visible() and page.locator("img.heat").count() == 0
        assert_no_complaints(page, served)
        slow = as_bytes(Image.fromarray(np.random.default_rng(0).integers(0, 255, (2000, 1500, 3), np.uint8)), "TIFF")
        connection = socket.create_connection(("127.0.0.1", served.port))  # a running request
        head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {FORM['Content_Type']}\r\n"
        body = form(*[slow] * 3)
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        slow_clients = [served.connect(), served.connect("GET /"), served.connect(*UPLOAD)]
        slow_clients.append(served.connect(*("GET /page.js HTTP/1.1", "Host: 127.0.0.1", "") * 100))
        for _ in range(100):
            if list(served.temp.glob("mslab-serve-*/*/*")):
                break
            time.sleep(0.02)
        workers = psutil.Process(served.process.pid).children(recursive=True)
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(15) == 130 and workers
        connection.close()
        assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in workers)
        assert list(served.temp.iterdir()) == []
        assert "Traceback" not in served.log.read_text() and served.log.read_text().endswith("stopped\n")


def test_ctrl_c_while_mindspore_is_imported_waits_for_the_end_of_that(monkeypatch):
    """An interrupted import aborts the process; tests/slow does it with a real server."""
    import mindspore

    continued = False
    with signals.on_stop(signals.stop_at_once), pytest.raises(KeyboardInterrupt):
        monkeypatch.setattr(mindspore.__spec__, "_initializing", True, raising=False)
        os.kill(os.getpid(), signal.SIGINT)
        continued = True
        monkeypatch.undo()
        while True:  # the signal is sent again, and then raises
            signal.pause()
    assert continued


def test_a_port_in_use_is_one_message_and_exit_1(served):
    done = cli("serve", served.source, "--port", served.port)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith(f"MslabError: Port {served.port} of 127.0.0.1 is in use")
    assert "expected  a free port" in done.stderr and f"--port {served.port + 1}" in done.stderr


def test_an_address_that_is_not_this_machines_is_one_message():
    for host in ("192.0.2.1", "no such host", "x" * 70 + ".example"):
        with pytest.raises(MslabError, match="mslab cannot listen on") as caught:
            server.run("nowhere", Addresses(host), 0, "cpu")
        assert caught.value.expected and caught.value.fix


def test_no_run_or_a_run_without_a_best_checkpoint_is_one_message(tmp_path):
    for source in (tmp_path, tmp_path / "nowhere", tmp_path / "nowhere.onnx"):
        with pytest.raises(
            MslabError, match=r"has no checkpoints/best.ckpt|[Nn]o .*nowhere|nowhere.onnx does not exist"
        ) as caught:
            server.run(str(source), Addresses("127.0.0.1"), 0, "cpu")
        assert caught.value.expected and caught.value.fix


def call(app, *received, expect=()) -> tuple[int, dict]:
    """Status and JSON that the application sends for POST /predict. It receives these messages, then nothing."""
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
        "headers": [(b"host", b"localhost"), *expect],
    }
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], json.loads(sent[1]["body"])


def test_a_request_that_does_not_arrive_in_time_is_refused(monkeypatch):
    monkeypatch.setattr(uploads, "BODY_SECONDS", 0.05)
    waits = [(b"expect", b"100-continue")]  # such a client sends no more: mslab does not wait for the rest
    part = {"type": "http.request", "body": b"a", "more_body": True}
    status, content = call(server.App(None, Addresses("127.0.0.1"), "x"), part, expect=waits)
    assert status == 408 and "was not complete after 0.05 s" in content["error"]


def test_an_unknown_error_is_an_answer_and_its_traceback_is_printed(capsys, monkeypatch):
    status, content = call(
        server.App(None, Addresses("127.0.0.1"), "x"), {"type": "http.request", "body": b"a"}
    )  # no predictor
    assert status == 500 and set(content) == {"error", "expected", "fix"}
