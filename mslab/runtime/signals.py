"""Stop a command, a training or a server: Ctrl-C, a terminal that closes, SIGTERM, and the SIGTERM that MindSpore makes
of Ctrl-C.

The first signal stops what runs, by KeyboardInterrupt or after the current step. While it cleans up, the next one is
answered with a message, and only the one after it interrupts the cleaning. What is said at the end: cli/endings.py.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mslab.runtime import console
from mslab.runtime.console import log

# SIGHUP: the terminal was closed
STOP_SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
SAME = 0.5  # seconds within which two signals are one press: Ctrl-C and MindSpore's SIGTERM; a terminal's two SIGHUPs
_received: list[tuple[float, int]] = []  # when, and which signal: those that count
_stopping: list[bool] = []  # not empty once KeyboardInterrupt was raised
_goodbye: list[Callable[[], str]] = []  # of the command: what is said if it ends at once


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during something that leaves more than nothing: `continues` says what, and the command that goes on.

    `run`: the folder of the run that was stopped.
    """

    def __init__(self, continues: str, run: Path | None = None) -> None:
        super().__init__(continues)
        self.continues, self.run = continues, run


def cause() -> str:
    """What stopped this process: Ctrl-C, or the name of a signal."""
    number = _received[-1][1] if _received else signal.SIGINT
    # while a graph runs, MindSpore turns Ctrl-C into SIGTERM to itself
    names: dict[int, str] = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "Ctrl-C or SIGTERM"}
    return names.get(number) or signal.Signals(number).name


def stopping() -> bool:
    """Whether a signal has stopped what runs. C++ code may turn the KeyboardInterrupt into another error."""
    return bool(_stopping)


@contextmanager
def on_stop(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM call `handler` during the block. Does nothing in other threads, which get no signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ignored = [n for n in STOP_SIGNALS[2:] if signal.getsignal(n) == signal.SIG_IGN]  # nohup
    before = {number: signal.signal(number, handler) for number in STOP_SIGNALS if number not in ignored}
    if getattr(before[signal.SIGINT], "__module__", "") != __name__:  # the outermost block
        _received.clear()
        _stopping.clear()
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def command(goodbye: Callable[[], str]) -> Iterator[None]:
    """The block is a command, which Ctrl-C stops. `goodbye` gives the message if it has to end at once."""
    hook, module = sys.unraisablehook, getattr(signal.getsignal(signal.SIGINT), "__module__", "")

    def raise_again(problem: Any) -> None:
        """Where Python drops a KeyboardInterrupt, in a destructor or a callback, send the signal again."""
        if issubclass(problem.exc_type, KeyboardInterrupt) and _received:
            number = _received.pop()[1]
            _stopping.clear()
            threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
        else:
            hook(problem)

    sys.unraisablehook = raise_again
    _goodbye.append(goodbye)
    try:
        with on_stop(stop_at_once):
            yield
    finally:
        _goodbye.pop()
        sys.unraisablehook = hook
        if module == "mslab":  # a process of its own: its work is over, and its exit code is right
            for number in STOP_SIGNALS[:2]:  # MindSpore may still make a SIGTERM of Ctrl-C
                signal.signal(number, signal.SIG_IGN)


def stop_at_once(number: int, frame: Any) -> None:
    """Raise KeyboardInterrupt. During MindSpore's import, which that would abort, end a command; others wait for it."""
    if not getattr(getattr(sys.modules.get("mindspore"), "__spec__", None), "_initializing", False):
        _press(number)
    elif _goodbye:
        _received.append((time.monotonic(), number))
        text = _goodbye[-1]()
        console.abandon()
        print(text, file=console.terminal.stream, flush=True)
        os._exit(130)
    else:
        again = threading.Timer(0.1, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()


def _press(number: int) -> None:
    """Raise KeyboardInterrupt, unless this signal belongs to the one before, or is the first during the cleaning up."""
    if _received and time.monotonic() - _received[-1][0] < SAME:
        return
    first = not _stopping
    _received.append((time.monotonic(), number))
    _stopping.append(True)
    if len(_stopping) == 2:
        say("cleaning up (Ctrl-C again ends that, and may leave temporary files)")
    elif first or len(_stopping) > 2:
        raise KeyboardInterrupt


def say(text: str) -> None:
    """Log from a handler: in a thread, since the signal may interrupt another message."""
    threading.Thread(target=log.info, args=(text,), daemon=True).start()


def ignore() -> None:
    """What is left is to say how it ended: no further signal disturbs that. on_stop() restores the handlers."""
    if threading.current_thread() is threading.main_thread():
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def held() -> Iterator[None]:
    """Let a signal wait until the block, which has to be complete, has ended; then it is delivered."""
    waiting: list[tuple[float, int]] = []

    def wait(number: int, frame: Any) -> None:
        if waiting and time.monotonic() - waiting[-1][0] < SAME:
            return
        waiting.append((time.monotonic(), number))
        if len(waiting) == 2:
            say("stopping once the files are written (Ctrl-C again leaves them half written)")
        elif len(waiting) > 2:
            raise KeyboardInterrupt

    with on_stop(wait):
        yield
    if waiting:
        signal.raise_signal(waiting[0][1])


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C set a flag, which the loop checks after each step; a second Ctrl-C stops at once."""
    times: list[float] = []

    def raise_flag(number: int, frame: Any) -> None:
        if times:
            _press(number)
        else:
            now = time.monotonic()
            times.append(now)
            _received.append((now, number))
            say("stopping after this step (Ctrl-C again stops at once)")

    with on_stop(raise_flag):
        try:
            yield lambda: bool(times)
        except KeyboardInterrupt:
            _stopping.append(True)
            raise
