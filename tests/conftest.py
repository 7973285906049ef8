"""Fixtures that are created once for all tests, the tiers and what each may import, and a browser."""

import asyncio
import fcntl
import gc
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

os.environ["MSLAB_LANG"] = "en"  # whatever the locale of who runs the tests; tests of languages choose their own
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="mslab-tests-")  # a separate cache for the tests
os.environ["MSLAB_WEIGHTS_MIRROR"] = "http://127.0.0.1:9"  # nobody answers there: no test asks for published weights
os.environ["no_proxy"] = "127.0.0.1,localhost"

import mslab  # sets the environment before MindSpore is imported anywhere

TESTS = Path(__file__).resolve().parent
pytest.register_assert_rewrite(*(path.stem for path in (TESTS / "support").glob("*.py")))


def pytest_configure(config):
    """Give each process of pytest one core: MindSpore's spinning threads would slow the other processes.

    A shell's background jobs ignore Ctrl-C, but tests press it, so the default handler is restored.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    worker, cores = os.environ.get("PYTEST_XDIST_WORKER"), sorted(os.sched_getaffinity(0))
    if worker:
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


# --- tiers -----------------------------------------------------------------------------------------------------------


def tier(path: Path) -> str:
    """Return the folder under tests/ that contains a test file: unit, training, cli or slow."""
    return path.relative_to(TESTS).parts[0]


def pytest_collectstart(collector):
    collector.config.stash[LOADED] = "mindspore" in sys.modules


def pytest_collection_finish():
    """Let no later garbage collection visit what is imported now, above all MindSpore: each would take 0.1 s."""
    gc.collect()
    gc.freeze()


def pytest_itemcollected(item):
    """Mark tests/slow as slow; raise an error for a unit test file that imports MindSpore, and for other slow tests."""
    folder = tier(item.path)
    if folder == "slow":
        item.add_marker(pytest.mark.slow)
    elif item.get_closest_marker("slow"):
        raise pytest.UsageError(f"{item.nodeid} is marked slow: move it to tests/slow")
    if folder == "unit" and "mindspore" in sys.modules and not item.config.stash[LOADED]:
        raise pytest.UsageError(f"{item.path} imports MindSpore, which tests/unit may not: move it to tests/training")


LOADED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Escape what is not UTF-8 in a test's captured output: pytest's processes cannot send it to each other."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Let PYNATIVE run each operator in the calling thread: on one core, another thread costs 3 ms per operator."""
    if tier(item.path) != "unit":
        import mindspore as ms

        ms.runtime.launch_blocking()


@pytest.fixture(autouse=True)
def imports_of_the_tier(request):
    """Make the import of MindSpore fail in tests/unit, even if other tests have imported it before."""
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
    """once("name", make) -> a folder that make(folder) has filled, once for all processes of pytest. Do not change it.

    The first process calls make with that folder as the current one; the others wait.
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
    """finished(config, backbone=None) -> the result of mslab.train or mslab.transfer, trained once for all tests.

    `run` is the folder's absolute path. Do not change the folder; use `trained` for that.
    """

    def finished(config: dict, backbone: Path | None = None) -> EasyDict:
        key = json.dumps([config, str(backbone)], sort_keys=True)

        def make(folder):
            result = mslab.transfer(config, backbone=backbone) if backbone else mslab.train(config)
            (folder / "result.json").write_text(json.dumps(result))

        folder = once(f"run-{hashlib.sha256(key.encode()).hexdigest()[:16]}", make)
        result = EasyDict(json.loads((folder / "result.json").read_text()))
        return EasyDict(result | {"run": folder / result.run})

    return finished


@pytest.fixture
def trained(finished) -> Callable[..., EasyDict]:
    """Like `finished`, with a copy of the folder under runs/ of the current folder, which the test may change."""

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
    """A finished run on three classes, to transfer from. Do not change it."""
    return finished(settings(squares / "three", 3, epochs=1)).run


@pytest.fixture
def three(squares):
    """Settings of a quick nine-class-like run."""
    return settings(squares / "three", 3)


@pytest.fixture
def two(squares):
    """Settings of a quick two-class-like run."""
    return settings(squares / "two", 2)


# --- for one test ----------------------------------------------------------------------------------------------------


@pytest.fixture
def inside(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def hangup():
    """Let SIGHUP reach the test, though nohup ignores it for all tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def all_cores():
    """Let a test with several processes use all cores."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count()))
    yield
    os.sched_setaffinity(0, own)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real images that MSLAB_TEST_DATA names; skips the test without it."""
    folder = os.environ.get("MSLAB_TEST_DATA")
    if not folder:
        pytest.skip("MSLAB_TEST_DATA does not name the folder of real images")
    return Path(folder)


@pytest.fixture
def cases(test_data) -> Path:
    """The folder of small files on which mslab once fell short, beside MSLAB_TEST_DATA; skips the test without it."""
    folder = test_data.parent / "cases"
    if not folder.is_dir():
        pytest.skip("cases/ is not beside MSLAB_TEST_DATA")
    return folder


# --- pages in a real browser -----------------------------------------------------------------------------------------

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_FLAGS = """
    --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update --disable-sync
    --use-fake-device-for-media-stream --use-fake-ui-for-media-stream
"""  # the last two: a camera with a test picture, and the permission to use it


@contextmanager
def marked_as_running(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Mark Playwright's event loop as running in this thread during the block; other tests may run their own loop."""
    asyncio._set_running_loop(loop)
    try:
        yield
    finally:
        asyncio._set_running_loop(None)


@pytest.fixture(scope="session")
def browser():
    """Chromium, driven by Playwright, once for all tests. Use `page` or `new_page` instead of this."""
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
    """new_page(locale="zh-CN", color_scheme="dark", …) -> a separate page; options: Playwright's new_context.

    `page.complaints` records errors and warnings of the console and exceptions, `page.requested` every requested URL,
    so that a test can compare both with what it expects.
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
