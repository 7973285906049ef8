"""Handle Ctrl-C, and the SIGTERM that MindSpore makes of it."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mslab.runtime.console import log

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # while a graph runs, MindSpore turns Ctrl-C into SIGTERM to itself


@contextmanager
def on_stop(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM call `handler` during the block. Does nothing in other threads, which get no signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.signal(number, handler) for number in STOP_SIGNALS]
    try:
        yield
    finally:
        for number, earlier in zip(STOP_SIGNALS, before, strict=True):
            signal.signal(number, earlier)


def stop_at_once(number: int, frame: Any) -> None:
    """Raise KeyboardInterrupt, but not before MindSpore's import ends: interrupting it would abort the process."""
    spec = getattr(sys.modules.get("mindspore"), "__spec__", None)
    if getattr(spec, "_initializing", False):
        again = threading.Timer(0.1, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()
        return
    raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C set a flag, which the loop checks after each step; a second Ctrl-C stops at once."""
    times: list[float] = []

    def raise_flag(number: int, frame: Any) -> None:
        if times and time.monotonic() - times[0] > 0.5:  # one key press may arrive as both signals
            raise KeyboardInterrupt
        if not times:
            times.append(time.monotonic())
            # in a thread, since the signal may interrupt another message
            text = "stopping after this step (Ctrl-C again stops at once)"
            threading.Thread(target=log.info, args=(text,), daemon=True).start()

    with on_stop(raise_flag):
        yield lambda: bool(times)
