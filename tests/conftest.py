"""What is made once for all tests, the tiers and what each may import, and a browser."""

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from easydict import EasyDict
from helpers import draw, settings

os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="mslab-tests-")  # a cache of the tests' own

import mslab  # sets the environment before MindSpore is imported anywhere

TESTS = Path(__file__).resolve().parent
pytest.register_assert_rewrite(*(path.stem for path in (TESTS / "support").glob("*.py")))


def pytest_configure(config):
    """Several processes of pytest share the cores, one each: MindSpore's threads, which spin, would slow the others.

    A shell lets what it starts in the background ignore Ctrl-C; what tests press it for must hear it all the same.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    worker, cores = os.environ.get("PYTEST_XDIST_WORKER"), sorted(os.sched_getaffinity(0))
    if worker:
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


# --- tiers -----------------------------------------------------------------------------------------------------------


def tier(path: Path) -> str:
    """The folder under tests/ that a test file lies in: unit, training, cli or slow."""
    return path.relative_to(TESTS).parts[0]


def pytest_collectstart(collector):
    collector.config.stash[LOADED] = "mindspore" in sys.modules


def pytest_itemcollected(item):
    """tests/slow is slow; a unit test file that imports MindSpore is an error, as is a slow test elsewhere."""
    folder = tier(item.path)
    if folder == "slow":
        item.add_marker(pytest.mark.slow)
    elif item.get_closest_marker("slow"):
        raise pytest.UsageError(f"{item.nodeid} is marked slow: move it to tests/slow")
    if folder == "unit" and "mindspore" in sys.modules and not item.config.stash[LOADED]:
        raise pytest.UsageError(f"{item.path} imports MindSpore, which tests/unit may not: move it to tests/training")


LOADED = pytest.StashKey[bool]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Let PYNATIVE run each operator in the thread that asks: on one core, handing it over takes 3 ms."""
    if tier(item.path) != "unit":
        import mindspore as ms

        ms.runtime.launch_blocking()


@pytest.fixture(autouse=True)
def imports_of_the_tier(request):
    """In tests/unit importing MindSpore fails, whatever other tests have imported before."""
    if tier(request.path) != "unit":
        yield
        return
    loaded = sys.modules.get("mindspore")
    sys.modules["mindspore"] = None
    yield
    del sys.modules["mindspore"]
    if loaded:
        sys.modules["mindspore"] = loaded


# --- made once -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def once(tmp_path_factory) -> Callable[[str, Callable[[Path], None]], Path]:
    """once("name", make) -> a folder that make(folder) has filled, once for all processes of pytest. Not to be changed.

    Whoever comes first makes it, in that folder as the current one; the others wait.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "once"

    def once(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        shared.mkdir(exist_ok=True)
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                with pytest.MonkeyPatch.context() as patch:
                    patch.chdir(folder)
                    make(folder)
                done.touch()
        return folder

    return once


@pytest.fixture(scope="session")
def squares(once):
    """three/{train,val,test} with classes a, b, c and two/{train,val} with left, right."""

    def make(root):
        for seed, (split, count) in enumerate([("train", 16), ("val", 7), ("test", 5)]):
            draw(root / "three" / split, ["a", "b", "c"], count, seed)
            draw(root / "two" / split, ["left", "right"], count, seed + 10)

    return once("squares", make)


@pytest.fixture(scope="session")
def finished(once) -> Callable[..., EasyDict]:
    """finished(config, backbone=None) -> what mslab.train or mslab.transfer returned, trained once for all tests.

    `run` is the folder's absolute path. Not to be changed; take `trained` for that.
    """

    def finished(config: dict, backbone: Path | None = None) -> EasyDict:
        wish = json.dumps([config, str(backbone)], sort_keys=True)

        def make(folder):
            result = mslab.transfer(config, backbone=backbone) if backbone else mslab.train(config)
            (folder / "result.json").write_text(json.dumps(result))

        folder = once(f"run-{hashlib.sha256(wish.encode()).hexdigest()[:16]}", make)
        result = EasyDict(json.loads((folder / "result.json").read_text()))
        return EasyDict(result | {"run": folder / result.run})

    return finished


@pytest.fixture
def trained(finished) -> Callable[..., EasyDict]:
    """As `finished`, with a copy of the folder under runs/ of the current folder, to do with as one likes."""

    def trained(config: dict, backbone: Path | None = None) -> EasyDict:
        result = finished(config, backbone)
        copy, number = Path("runs") / result.run.name, 1
        while copy.exists():
            number += 1
            copy = copy.with_name(f"{result.run.name}-{number}")
        return EasyDict(result | {"run": Path(shutil.copytree(result.run, copy))})

    return trained


@pytest.fixture(scope="session")
def parent(squares, finished) -> Path:
    """A finished run on three classes, to transfer from. Not to be changed."""
    return finished(settings(squares / "three", 3, epochs=1)).run


@pytest.fixture
def three(squares):
    """Settings of a quick nine-class-like run."""
    return settings(squares / "three", 3)


@pytest.fixture
def two(squares):
    """Settings of a quick two-class-like run."""
    return settings(squares / "two", 2)


# --- one test's own --------------------------------------------------------------------------------------------------


@pytest.fixture
def inside(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def all_cores():
    """For a test whose processes share the work."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count()))
    yield
    os.sched_setaffinity(0, own)


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
