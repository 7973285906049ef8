"""Small real image folders, a small stage table, the command line as a student calls it, and a browser."""

import asyncio
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="mslab-tests-")  # a cache of the tests' own

import mslab  # sets the environment before MindSpore is imported anywhere

PROJECT = Path(__file__).resolve().parent.parent
STAGES = [[1, 8, 1], [1, 8, 2]]


def pytest_configure(config):
    """Several processes of pytest share the cores, one each: MindSpore's threads, which spin, would slow the others."""
    worker, cores = os.environ.get("PYTEST_XDIST_WORKER"), sorted(os.sched_getaffinity(0))
    if worker:
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


@pytest.fixture
def all_cores():
    """For a test whose processes share the work."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count()))
    yield
    os.sched_setaffinity(0, own)


def draw(folder: Path, classes: list[str], count: int, seed: int = 0, size: int = 40) -> Path:
    """Class folders of noisy squares whose place and colour tell the class."""
    rng = np.random.default_rng(seed)
    for index, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = rng.integers(0, 90, (size, size, 3))
            row, column = divmod(index % 4, 2)
            pixels[row * 20 : row * 20 + 20, column * 20 : column * 20 + 20, index % 3] += 160
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number:03}.png")
    return folder


@pytest.fixture
def inside(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def squares(tmp_path_factory):
    """three/{train,val,test} with classes a, b, c and two/{train,val} with left, right."""
    root = tmp_path_factory.mktemp("squares")
    for seed, (split, count) in enumerate([("train", 16), ("val", 7), ("test", 5)]):
        draw(root / "three" / split, ["a", "b", "c"], count, seed)
        draw(root / "two" / split, ["left", "right"], count, seed + 10)
    return root


@pytest.fixture(scope="session")
def parent(squares, tmp_path_factory):
    """A finished run on three classes, to transfer from. Not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("parent"))
        return Path(mslab.train(settings(squares / "three", 3, epochs=1)).run).resolve()


@pytest.fixture
def three(squares):
    """Settings of a quick nine-class-like run."""
    return settings(squares / "three", 3)


@pytest.fixture
def two(squares):
    """Settings of a quick two-class-like run."""
    return settings(squares / "two", 2)


def settings(root: Path, class_num: int, **more) -> dict:
    return {
        "train_data": str(root / "train"),
        "val_data": str(root / "val"),
        "class_num": class_num,
        "image_size": 32,
        "batch_size": 8,
        "epochs": 2,
        "warmup_epochs": 1,
        "lr_init": 0.01,
        "lr_max": 0.05,
        "data_workers": 1,
        "stages": STAGES,
        "device": "cpu",
    } | more


def cli(*arguments, cwd=None, env=None, timeout=300) -> subprocess.CompletedProcess:
    """`mslab …` in a process of its own."""
    command = [str(Path(sys.executable).with_name("mslab")), *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "120"} | (env or {})
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout)


def overrides(config: dict) -> list[str]:
    """The settings as key=value arguments."""
    return [f"{key}={value}" for key, value in config.items()]


def without_roots_rights():
    """For preexec_fn: let root, too, be refused what a file's mode forbids (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH)."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (1, 2):
        libc.prctl(24, capability, 0, 0, 0)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Real images, where MSLAB_TEST_DATA names their folder."""
    folder = os.environ.get("MSLAB_TEST_DATA")
    if not folder:
        pytest.skip("MSLAB_TEST_DATA does not name the folder of real images")
    return Path(folder)


# --- pages in a real browser -----------------------------------------------------------------------------------------

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_FLAGS = """
    --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update --disable-sync
    --use-fake-device-for-media-stream --use-fake-ui-for-media-stream
"""  # the last two: a camera that shows a test picture, and a yes to the question whether a page may use it


@contextmanager
def marked_as_running(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Playwright's event loop counts as running in this thread meanwhile; other tests may run one of their own."""
    asyncio._set_running_loop(loop)
    try:
        yield
    finally:
        asyncio._set_running_loop(None)


@pytest.fixture(scope="session")
def browser():
    """Chromium, driven by Playwright, once for all tests. Take `page` or `new_page`, not this."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed; on Debian: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=BROWSER_FLAGS.split())
        browser.loop = asyncio.get_running_loop()
        asyncio._set_running_loop(None)
        yield browser
        asyncio._set_running_loop(browser.loop)
        browser.close()


@pytest.fixture
def new_page(browser) -> Iterator[Callable]:
    """new_page(locale="zh-CN", color_scheme="dark", …) -> a page of its own; options: Playwright's new_context.

    It notes what went wrong in `page.complaints` (errors and warnings of the console, exceptions), and in
    `page.requested` every URL that it asked for, so that a test can hold both against what it expects.
    """
    contexts = []

    def new(**options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.complaints, page.requested = [], []
        context.on("console", lambda m: page.complaints.append(m.text) if m.type in ("error", "warning") else None)
        context.on("weberror", lambda error: page.complaints.append(str(error.error)))
        context.on("request", lambda request: page.requested.append(request.url))
        return page

    with marked_as_running(browser.loop):
        yield new
        for context in contexts:
            context.close()


@pytest.fixture
def page(new_page):
    """A page in a browser, as `new_page` makes it."""
    return new_page()
