"""mslab serve: more of the page in a real browser, and Ctrl-C at the worst moment."""

import os
import signal
import subprocess
import time

import psutil
import pytest
from PIL import Image
from serving import COMMAND, assert_no_complaints, drop, hostile, percentages

from mslab.inference.serve import server


@pytest.fixture(scope="module")
def served(parent, tmp_path_factory):
    with hostile(parent, tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.fixture(scope="module")
def photo(squares):
    """The file of an image, and its bytes."""
    path = squares / "three" / "test" / "a" / "000.png"
    return path, path.read_bytes()


def test_unusable_files_are_reported_beside_usable_ones(served, page, photo):
    page.goto(served.url)
    drop(page, [("text.png", b"no image"), ("good.png", photo[1])], server.BODY + 1)
    page.locator("article").nth(2).wait_for()
    too_large, valid, text = page.locator("article").all()
    assert "not one of JPEG, PNG" in text.inner_text() and "larger than 32 MiB" in too_large.inner_text()
    assert len(percentages(valid)) == 3
    drop(page, [])
    assert page.locator("[role=status]").inner_text() == "No file received."
    page.get_by_role("button", name="Clear the page").click()
    assert page.locator("article").count() == 0
    assert_no_complaints(page, served)


def test_the_keyboard_is_enough_and_everything_has_a_name(served, page, photo):
    page.goto(served.url)
    page.locator("body").press("Tab")
    page.wait_for_function("document.activeElement.type === 'file'")
    choosers = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    for _ in range(5):  # Chromium sometimes ignores the first key press on a page
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
    assert_no_complaints(page, served)


def test_chinese_by_the_browser_or_by_the_address(served, new_page):
    chinese, english = new_page(locale="zh-CN"), new_page(locale="en-US")
    chinese.goto(served.url)
    assert chinese.get_by_role("heading", name="网络看到了什么？").is_visible()
    assert chinese.locator("html").get_attribute("lang") == "zh-Hans"
    chinese.goto(f"{served.url}?lang=en")
    assert chinese.get_by_role("heading", name="What does the network see?").is_visible()
    english.goto(f"{served.url}?lang=zh")
    english.locator("#about", has_text="3 个类别").wait_for()


def test_a_picture_of_the_camera(served, new_page):
    page = new_page(permissions=["camera"])
    page.goto(served.url)
    page.get_by_role("button", name="Use the camera").click()
    still = page.get_by_role("button", name="Take the picture")
    still.click()
    card = page.locator("article")
    card.wait_for()
    assert card.locator("h2").inner_text() == "camera" and len(percentages(card)) == 3
    page.get_by_role("button", name="Camera off").click()
    assert page.evaluate("document.getElementById('video').srcObject") is None
    assert_no_complaints(page, served)


def test_a_missing_camera_is_reported(served, new_page):
    page = new_page()
    page.add_init_script("delete Navigator.prototype.mediaDevices")  # as on a page that is not from this machine
    page.goto(served.url)
    page.get_by_role("button", name="Use the camera").click()
    page.locator("[role=status]", has_text="cannot be used").wait_for()
    assert_no_complaints(page, served)


def test_ctrl_c_while_mindspore_is_imported_stops_cleanly(served, tmp_path):
    command = [*COMMAND, str(served.source), "--port", "0", "--device", "cpu"]
    process = psutil.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(tmp_path)})
    while not any("_c_expression" in part.path for part in process.memory_maps()):  # its library, early in its import
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[1]
    assert (process.returncode, output, list(tmp_path.iterdir())) == (130, "stopped\n", [])
