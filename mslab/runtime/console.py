"""What reaches the terminal: the kit's messages, a progress bar, and what becomes of MindSpore's own output."""

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

log = logging.getLogger("mslab")

terminal = logging.StreamHandler(sys.stderr)


def talk_to_terminal() -> None:
    """Let the kit's messages appear on standard error, plain, in scripts and notebooks too."""
    terminal.setFormatter(EscapedFormatter("%(message)s"))
    log.addHandler(terminal)
    log.setLevel(logging.INFO)
    log.propagate = False


class EscapedFormatter(logging.Formatter):
    """Messages as a terminal may show them, whatever names of files and classes are in them."""

    def format(self, record: logging.LogRecord) -> str:
        return escape_control(super().format(record))


def escape_control(text: str, kept: str = "\n\t") -> str:
    """The text with control and direction characters written out: none moves the cursor or turns a line around."""
    # escape_control("a\x1b[2Jb") -> "a\\x1b[2Jb"
    if text.isprintable():
        return text
    return "".join(
        c if c in kept or c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


class StderrCapture:
    """File descriptor 2 during a command: MindSpore's C++ and Python log, kept in a file, counted, shown as one line.

    `screen` is the standard error the user sees. `move_to(path)` names the file to keep; without it, it is deleted.
    """

    MARK = re.compile(r"^\[(WARNING|ERROR|CRITICAL)\]")
    # MindSpore's own calls, and how workers find each other: nothing a student can act on
    HARMLESS = re.compile(r"^\[WARNING\].*(deprecated|cluster/|[Cc]ollective|[Cc]ommunication group)")

    def __init__(self, file: Path, screen: IO[str]) -> None:
        self.file, self.screen, self.kept = file, screen, False

    def move_to(self, path: Path) -> None:
        """Keep the log at `path` from now on, with what it holds of the time before the first run."""
        with path.open("ab") as file:
            if not self.kept:
                file.write(self.file.read_bytes())
            os.dup2(file.fileno(), 2)
        if not self.kept:
            self.file.unlink()
        self.file, self.kept = path, True

    def problems(self) -> list[str]:
        """Warnings and errors of MindSpore that are not known to be harmless, each as its first line's message."""
        text = self.file.read_text(errors="replace")
        lines = [line for line in text.splitlines() if self.MARK.match(line) and not self.HARMLESS.search(line)]
        return [line.rpartition("] ")[2][:120] for line in lines]

    def summary(self) -> str:
        """One line, or "" where MindSpore said nothing of weight."""
        found = self.problems()
        if not found:
            return ""
        count = "1 runtime warning" if len(found) == 1 else f"{len(found)} runtime warnings, the last"
        return f"{count}: {found[-1]} — {self.file if self.kept else 'train.log of the run'}"


_captures: list[StderrCapture] = []  # the one in force, innermost last


def keep_stderr(path: Path) -> None:
    """Let MindSpore's output go into this file from now on, where it is kept away from the terminal at all."""
    for noise in _captures[-1:]:
        noise.move_to(path)


@contextmanager
def capture_stderr() -> Iterator[StderrCapture]:
    """Keep MindSpore's output away from the terminal; the kit's own messages go on to it."""
    sys.stderr.flush()
    saved = os.dup(2)
    screen = os.fdopen(os.dup(saved), "w", buffering=1)
    handle, name = tempfile.mkstemp(prefix="mslab-", suffix=".log")
    os.dup2(handle, 2)
    os.close(handle)
    noise = StderrCapture(Path(name), screen)
    before = terminal.setStream(screen)
    _captures.append(noise)
    try:
        yield noise
    finally:
        _captures.pop()
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)
        terminal.setStream(before or sys.stderr)
        if line := noise.summary():
            print(line, file=screen)
        if not noise.kept:
            noise.file.unlink(missing_ok=True)
        screen.close()


class Meter:
    """A bar with text. `total` steps; on a terminal it moves, elsewhere only log.info() lines appear."""

    def __init__(self, total: int, start: int = 0) -> None:
        self.stream: Any = terminal.stream
        self.bar: Progress | None = None
        if self.stream.isatty() and sys.stdout.isatty():
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

    def counted(self, text: str) -> Callable[[int, int], None]:
        """A callback of (done, total) that moves the bar."""

        def show(done: int, total: int) -> None:
            if self.bar:
                self.bar.update(self.task, description=f"{text} {done}/{total}", completed=done, total=total)

        return show


_meters: list[Meter] = []  # those in force, innermost last


@contextmanager
def compiling(what: str) -> Iterator[None]:
    """Say that MindSpore compiles, while it does, and how long it took."""
    if _meters and _meters[-1].bar:
        _meters[-1].update(f"compiling {what} …", advance=0)
    else:
        log.info("compiling %s …", what)
    start = time.perf_counter()
    yield
    log.info("compiled %s in %.1f s", what, time.perf_counter() - start)
