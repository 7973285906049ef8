"""Output to the terminal: mslab's messages, a progress bar, and a capture of MindSpore's own output."""

import logging
import os
import re
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from mslab import files
from mslab.escaping import escape_control
from mslab.runtime import jupyter, progress, streams, tables

log = logging.getLogger("mslab")


class TerminalHandler(logging.StreamHandler):
    """Sends messages to a stream. If it cannot be written to, nothing happens: logging would print a traceback.

    A message with the `row` of an epoch goes to the table of a notebook, if one is shown; it is one line of a terminal.
    """

    def emit(self, record: logging.LogRecord) -> None:
        view = _meters[-1].view if _meters else None
        if view and hasattr(record, "row"):
            view.add(record.row, self.format(record))
        else:
            super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        screen = self.stream.stream if isinstance(self.stream, BottomLine) else self.stream
        if hasattr(record, "row") and isinstance(self.stream, BottomLine):
            return progress.shortened(text, width_of(screen))
        if getattr(record, "prose", False) and screen.isatty():
            width = width_of(screen)
            return "\n".join(tables.fold_around_commands(line, width=width) for line in text.split("\n"))
        return text

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


terminal = TerminalHandler(sys.stderr)
ONCE = {
    "once": True
}  # log.info(text, extra=ONCE): the runs of one command, such as repeat, say it on the terminal once
PROSE = {"prose": True}  # log.info(text, extra=PROSE): a terminal breaks it between words; train.log has whole lines


@contextmanager
def each_note_once() -> Iterator[None]:
    """Show a message that several runs log with ONCE a single time on the terminal; each train.log has it."""
    seen: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        known = getattr(record, "once", False) and text in seen
        seen.add(text)
        return not known

    terminal.addFilter(is_new)
    try:
        yield
    finally:
        terminal.removeFilter(is_new)


def log_to_terminal() -> None:
    """Send mslab's messages to standard error as plain text, in scripts too; in a notebook to the cell's output."""
    if jupyter.in_notebook():
        terminal.setStream(jupyter.Cell())
    terminal.setFormatter(EscapedFormatter("%(message)s"))
    log.addHandler(terminal)
    log.setLevel(logging.INFO)
    log.propagate = False


class EscapedFormatter(logging.Formatter):
    """Escape control characters in messages, which may contain names of files and classes."""

    def format(self, record: logging.LogRecord) -> str:
        return escape_control(super().format(record))


class StderrCapture:
    """Capture of file descriptor 2 during a command: MindSpore's C++ and Python log goes to a file, with a summary.

    `screen` is the standard error that the user sees. `move_to(path)` saves the file; without it, it is deleted.
    """

    MARK = re.compile(r"^\[(WARNING|ERROR|CRITICAL)\]")
    # from MindSpore's own calls, and from workers that connect: a student cannot act on these
    KNOWN_WARNINGS = re.compile(r"^\[WARNING\].*(deprecated|cluster/|[Cc]ollective|[Cc]ommunication group)")

    def __init__(self, file: Path, screen: IO[str]) -> None:
        self.file, self.screen, self.saved = file, screen, False
        self.stopped = False  # by Ctrl-C, of which MindSpore complains as well

    def move_to(self, path: Path) -> None:
        """Write the log to `path` from now on, beginning with its earlier content if this is the first call."""
        with files.open_regular(path, "ab") as file:
            if not self.saved:
                file.write(self.file.read_bytes())
            os.dup2(file.fileno(), 2)
        if not self.saved:
            self.file.unlink()
        self.file, self.saved = path, True

    def problems(self) -> list[str]:
        """Return MindSpore's warnings and errors except KNOWN_WARNINGS, the first line of each."""
        text = self.file.read_text(errors="replace")
        lines = [line for line in text.splitlines() if self.MARK.match(line) and not self.KNOWN_WARNINGS.search(line)]
        return [line.rpartition("] ")[2][:120] for line in lines]

    def summary(self) -> str:
        """Return one line, or "" without problems."""
        problems = self.problems()
        if not problems:
            return ""
        count = "1 runtime warning" if len(problems) == 1 else f"{len(problems)} runtime warnings, the last"
        return f"{count}: {problems[-1]}" + f" — {self.file}" * self.saved


_captures: list[StderrCapture] = []  # active ones, innermost last


def abandon() -> None:
    """Remove the progress bars, and delete what was captured and is not saved, before this process ends at once."""
    for meter in reversed(_meters):
        if meter.line:
            meter.line.stop()
    for capture in _captures:
        if not capture.saved:
            capture.file.unlink(missing_ok=True)


def redirect_stderr(path: Path) -> None:
    """Send MindSpore's output to this file from now on, if it is captured at all."""
    for capture in _captures[-1:]:
        capture.move_to(path)


@contextmanager
def capture_stderr() -> Iterator[StderrCapture]:
    """Hide MindSpore's output from the terminal during the block; mslab's own messages still reach it."""
    sys.stderr.flush()
    saved = os.dup(2)
    screen = streams.text_output(os.dup(saved), sys.stderr.encoding, close=True)
    handle, name = tempfile.mkstemp(prefix="mslab-", suffix=".log")
    os.dup2(handle, 2)
    os.close(handle)
    capture = StderrCapture(Path(name), screen)
    before = terminal.setStream(screen)
    _captures.append(capture)
    try:
        yield capture
    finally:
        _captures.pop()
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)
        terminal.setStream(before or sys.stderr)
        if not capture.stopped and (line := capture.summary()):
            print(escape_control(line), file=screen)
        if not capture.saved:
            capture.file.unlink(missing_ok=True)
        screen.close()


class BottomLine:
    """The last line of a terminal, drawn again and again; messages that are written to it appear above.

    The cursor waits in the first column: a terminal that becomes narrower wraps the line and keeps the cursor in its
    place, so that the next drawing clears all of it.
    """

    CLEAR = "\x1b[J"  # from the cursor to the end of the screen

    def __init__(self, stream: IO[str], text: Callable[[int], str]) -> None:
        self.stream, self.text, self.shown = stream, text, ""
        self.lock, self.stopped = threading.RLock(), threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)

    def start(self) -> None:
        self.draw()
        self.thread.start()

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join()
        self.write("")

    def write(self, message: str) -> None:
        with self.lock:
            self.stream.write(self.CLEAR + message)
            self.shown = ""
            if not self.stopped.is_set():
                self.draw()
            self.stream.flush()

    def flush(self) -> None:
        self.stream.flush()

    def draw(self) -> None:
        """Draw the line if it has changed. Its last column stays free: some terminals begin a new line after it."""
        wider = 1 if streams.takes_unicode(self.stream) else 2  # an ellipsis, as some terminals and encodings have it
        with self.lock:
            line = self.text(width_of(self.stream) - 1 - wider)
            if line != self.shown:
                self.stream.write(f"{line}{self.CLEAR}\r")
                self.stream.flush()
                self.shown = line

    def _follow(self) -> None:
        with suppress(OSError, ValueError):  # the terminal is closed
            while not self.stopped.wait(0.2):
                self.draw()


def can_redraw(stream: Any) -> bool:
    """Whether a line of this stream can be drawn again: it is a terminal, and so is standard output."""
    if not all(hasattr(output, "isatty") and output.isatty() for output in (stream, sys.stdout)):
        return False
    # xterm-color: a notebook's !COMMAND, whose whole output it keeps; CI: a log, though it may look like a terminal
    kind = os.environ.get("TERM", "" if os.name == "posix" else "windows")
    return kind not in ("", "dumb", "unknown", "xterm-color") and os.environ.get("CI", "") in ("", "0", "false")


def width_of(stream: Any) -> int:
    """The columns of a terminal: its own, or fewer if COLUMNS says so."""
    try:
        own = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError, AttributeError):
        own = 0
    wanted = os.environ.get("COLUMNS", "")
    return min(filter(None, (own, int(wanted) if wanted.isdecimal() else 0)), default=80)


class Meter:
    """A progress bar of `total` steps with text; without a terminal, only log.info() lines appear.

    `total` 0: a text and the seconds that have passed. `window`: the last steps from which the time left is estimated.
    """

    STALLED = 10.0  # seconds without a step, if a step takes far less, after which there is no time left to tell

    def __init__(self, total: int, start: int = 0, window: int = 100) -> None:
        self.total, self.done = total, start
        self.words: progress.Words = ()
        self.more: Sequence[str] = ()
        self.window = window
        self.times: deque[tuple[float, int]] = deque(maxlen=window + 1)  # (time, done) after the last steps
        self.began = self.alive = time.monotonic()  # of the work that the text names; the last call of update()
        self.waits = not total  # for something whose end is not known
        self.line: BottomLine | None = None
        self.view: jupyter.LiveView | None = None
        self.stream: Any = terminal.stream
        screen = self.stream.stream if isinstance(self.stream, BottomLine) else self.stream  # a bar around this one
        if jupyter.in_notebook():
            self.view = jupyter.LiveView()
        elif can_redraw(screen):
            self.line = BottomLine(screen, self.text)

    def __enter__(self) -> "Meter":
        _meters.append(self)
        if self.line:
            terminal.setStream(self.line)  # type: ignore[arg-type]
            self.line.start()
        return self

    def __exit__(self, *_: object) -> None:
        _meters.remove(self)
        if self.line:
            self.line.stop()
            terminal.setStream(self.stream)
        if self.view:
            self.view.close()

    def update(self, text: "str | progress.Words", advance: int = 1, more: Sequence[str] = ()) -> None:
        """Show this text; `more`: what a wide terminal shows besides."""
        self.words = [[text]] if isinstance(text, str) else text
        self.more, self.alive = more, time.monotonic()
        if advance:
            self.times.append((self.alive, self.done + advance))
            self.done += advance
        if self.view:
            self.view.show(self.text(100, bar=False), self.done / self.total if self.total else None)

    def callback(self, text: str) -> Callable[[int, int], None]:
        """Return a callback of (done, total) that moves the bar."""

        def show(done: int, total: int) -> None:
            self.total = total
            self.update(f"{text} {done}/{total}", advance=done - self.done)

        return show

    @contextmanager
    def wait(self, text: str) -> Iterator[None]:
        """Show this text and the seconds that pass during the block, then what was shown before."""
        before, self.waits, self.began = self.words, True, time.monotonic()
        self.update(text, 0)
        try:
            yield
        finally:
            self.waits = False
            self.update(before, 0)
            self.times = deque(maxlen=self.window + 1)  # this time says nothing about the steps that follow

    def text(self, width: int, bar: bool = True) -> str:
        """The line as it is now, in at most `width` columns; a notebook draws its own bar."""
        if _meters[-1:] != [self] or not self.words:
            return ""  # another bar is drawn inside of this one
        fraction = self.done / self.total if bar and self.total > 1 else None
        words = [[escape_control(text, "") for text in word] for word in [*self.words, *self.time()]]
        return progress.fitted_line(words, fraction, width, self.more)

    def time(self) -> progress.Words:
        """What there is to say about the time: at most one word."""
        now = time.monotonic()
        if self.waits:
            return [[f"{now - self.began:.0f} s"]]
        times = self.times
        if len(times) < 2 or self.done >= self.total:
            return []
        (first, before), (last, done) = times[0], times[-1]
        step = (last - first) / max(1, done - before)
        if now - self.alive > max(self.STALLED, 20 * step):
            return [[f"{word} {progress.duration(now - self.alive)}" for word in ("no step for", "idle")]]
        left = progress.duration(max(0.0, step * (self.total - done) - (now - last)))
        return [[f"{left} left", f"{left} left", left]]


_meters: list[Meter] = []  # active ones, innermost last


@contextmanager
def working(text: str) -> Iterator[None]:
    """Show on a terminal what is being done during the block, and for how many seconds."""
    with Meter(0) as meter:
        meter.update(text, 0)
        yield


@contextmanager
def compiling(subject: str) -> Iterator[None]:
    """Log that MindSpore compiles during the block, and the time it needed."""
    start = time.perf_counter()
    if _meters and (_meters[-1].line or _meters[-1].view):
        with _meters[-1].wait(f"compiling {subject} …"):
            yield
    else:
        log.info("compiling %s …", subject)
        yield
    log.info("compiled %s in %.1f s", subject, time.perf_counter() - start)
