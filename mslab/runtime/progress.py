"""What a person sees while it trains: a bar on a terminal, plain lines anywhere else. The loop only calls it."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.file_proxy import FileProxy
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mslab.runtime.devices import say, terminal


class Meter:
    """A bar with text. `total` steps; on a terminal it moves, elsewhere only say.info() lines appear."""

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
        return self

    def __exit__(self, *_: object) -> None:
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

    @contextmanager
    def compiling(self, what: str) -> Iterator[None]:
        """Say that MindSpore compiles, while it does, and how long it took."""
        self.update(f"compiling {what} …", advance=0)
        if not self.bar:
            say.info("compiling %s …", what)
        start = time.perf_counter()
        yield
        say.info("compiled %s in %.1f s", what, time.perf_counter() - start)
