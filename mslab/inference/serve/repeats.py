"""Log lines that repeat appear once, and then their number: requests must not fill a disk."""

import logging
import time

from mslab.runtime.console import log, terminal

SECONDS = 10.0  # a line may appear once in this time
LIBRARIES = [logging.getLogger(name) for name in ("uvicorn.error", "asyncio")]


class Repeats(logging.Filter):
    """Hides a line that has appeared within SECONDS. Lines are equal if their attribute `kind` is, or their first line.

    Use it as a context manager; it also sends the libraries' lines where mslab's own go.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}  # how often each line was hidden since `start`
        self.start = time.monotonic()
        self.stopping = False  # then the libraries' lines, about requests that they cancel, do not appear

    def __enter__(self) -> "Repeats":
        log.addFilter(self)
        for library in LIBRARIES:
            library.addFilter(self)
            library.addHandler(terminal)
            library.propagate = False  # to where MindSpore's lines go
        return self

    def __exit__(self, *error: object) -> None:
        self.report(at_once=True)
        log.removeFilter(self)
        for library in LIBRARIES:
            library.removeFilter(self)
            library.removeHandler(terminal)
            library.propagate = True

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name != log.name and (self.stopping or record.levelno < logging.WARNING):
            return False
        kind = getattr(record, "kind", None) or record.getMessage().partition("\n")[0]
        self.counts[kind] = self.counts.get(kind, -1) + 1
        return self.counts[kind] == 0

    def report(self, at_once: bool = False) -> None:
        """Log how often each line was hidden, if SECONDS are over."""
        now = time.monotonic()
        if at_once or now - self.start > SECONDS:
            hidden, self.counts = self.counts, {}
            for kind, count in hidden.items():
                if count:
                    log.info("%s: %d more in %.0f s", kind, count, now - self.start)
            self.counts, self.start = {}, now
