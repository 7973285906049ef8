"""Handle Ctrl-C, a terminal that closes, and the SIGTERM that MindSpore makes of it."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mslab.runtime.console import log

# SIGHUP: the terminal was closed
STOP_SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
_received: list[int] = []


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during something that can be continued; `continues` says how."""

    def __init__(self, continues: str) -> None:
        super().__init__(continues)
        self.continues = continues


def cause() -> str:
    """What stopped this process: Ctrl-C, or the name of a signal."""
    number = _received[-1] if _received else signal.SIGINT
    # while a graph runs, MindSpore turns Ctrl-C into SIGTERM to itself
    names: dict[int, str] = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "Ctrl-C or SIGTERM"}
    return names.get(number) or signal.Signals(number).name


@contextmanager
def on_stop(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM call `handler` during the block. Does nothing in other threads, which get no signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ignored = [n for n in STOP_SIGNALS[2:] if signal.getsignal(n) == signal.SIG_IGN]  # nohup
    before = {number: signal.signal(number, handler) for number in STOP_SIGNALS if number not in ignored}
    if getattr(before[signal.SIGINT], "__module__", "") != __name__:  # the outermost block: a command begins
        _received.clear()
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def stop_at_once(number: int, frame: Any) -> None:
    """Raise KeyboardInterrupt, but not before MindSpore's import ends: interrupting it would abort the process."""
    spec = getattr(sys.modules.get("mindspore"), "__spec__", None)
    if getattr(spec, "_initializing", False):
        again = threading.Timer(0.1, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()
        return
    _received.append(number)
    raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C set a flag, which the loop checks after each step; a second Ctrl-C stops at once."""
    times: list[float] = []

    def raise_flag(number: int, frame: Any) -> None:
        if times and time.monotonic() - times[0] > 0.5:  # one key press may arrive as both signals
            raise KeyboardInterrupt
        if not times:
            _received.append(number)
            times.append(time.monotonic())
            # in a thread, since the signal may interrupt another message
            text = "stopping after this step (Ctrl-C again stops at once)"
            threading.Thread(target=log.info, args=(text,), daemon=True).start()

    with on_stop(raise_flag):
        yield lambda: bool(times)
