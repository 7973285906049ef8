"""Ctrl-C, and the SIGTERM that MindSpore makes of it."""

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
    """Have Ctrl-C and SIGTERM call `handler` meanwhile; does nothing outside the main thread, where none arrives."""
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
    """Raise KeyboardInterrupt; while MindSpore is imported, after that: a broken-off import ends in an abort."""
    spec = getattr(sys.modules.get("mindspore"), "__spec__", None)
    if getattr(spec, "_initializing", False):
        again = threading.Timer(0.1, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()
        return
    raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C only raises a flag, which the loop asks for after each step; a second one stops at once."""
    asked: list[float] = []

    def raise_flag(number: int, frame: Any) -> None:
        if asked and time.monotonic() - asked[0] > 0.5:  # one key press may arrive as both signals
            raise KeyboardInterrupt
        if not asked:
            asked.append(time.monotonic())
            # in a thread, since the signal may have come in the middle of another message
            text = "stopping after this step (Ctrl-C again stops at once)"
            threading.Thread(target=log.info, args=(text,), daemon=True).start()

    with on_stop(raise_flag):
        yield lambda: bool(asked)
