"""Output to the terminal: mslab's messages, a progress bar, and a capture of MindSpore's own output."""

import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.file_proxy import FileProxy
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mslab import files
from mslab.escaping import escape_control
from mslab.runtime import streams

log = logging.getLogger("mslab")


class TerminalHandler(logging.StreamHandler):
    """Sends messages to a stream. If it cannot be written to, nothing happens: logging would print a traceback."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


terminal = TerminalHandler(sys.stderr)
ONCE = {
    "once": True
}  # log.info(text, extra=ONCE): the runs of one command, such as repeat, say it on the terminal once


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
    """Send mslab's messages to standard error as plain text, in scripts and notebooks too."""
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
        return f"{count}: {problems[-1]} — {self.file if self.saved else 'train.log of the run'}"


_captures: list[StderrCapture] = []  # active ones, innermost last


def discard_captures() -> None:
    """Delete what was captured and is not saved, before this process ends at once."""
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
        if line := capture.summary():
            print(escape_control(line), file=screen)
        if not capture.saved:
            capture.file.unlink(missing_ok=True)
        screen.close()


class Meter:
    """A progress bar of `total` steps with text; without a terminal, only log.info() lines appear."""

    def __init__(self, total: int, start: int = 0) -> None:
        self.stream: Any = terminal.stream
        self.bar: Progress | None = None
        if self.stream.isatty() and sys.stdout and sys.stdout.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("left"))
            console = Console(file=self.stream)
            self.bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
            self.task = self.bar.add_task("", total=total, completed=start)

    def __enter__(self) -> "Meter":
        if self.bar:
            self.bar.start()
            terminal.setStream(FileProxy(self.bar.console, self.stream))  # messages appear above the bar
        _meters.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _meters.remove(self)
        if self.bar:
            terminal.setStream(self.stream)
            self.bar.stop()

    def update(self, text: str, advance: int = 1) -> None:
        if self.bar:
            self.bar.update(self.task, description=text, advance=advance)

    def callback(self, text: str) -> Callable[[int, int], None]:
        """Return a callback of (done, total) that moves the bar."""

        def show(done: int, total: int) -> None:
            if self.bar:
                self.bar.update(self.task, description=f"{text} {done}/{total}", completed=done, total=total)

        return show


_meters: list[Meter] = []  # active ones, innermost last


@contextmanager
def compiling(subject: str) -> Iterator[None]:
    """Log that MindSpore compiles during the block, and the time it needed."""
    if _meters and _meters[-1].bar:
        _meters[-1].update(f"compiling {subject} …", advance=0)
    else:
        log.info("compiling %s …", subject)
    start = time.perf_counter()
    yield
    log.info("compiled %s in %.1f s", subject, time.perf_counter() - start)
