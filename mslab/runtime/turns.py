"""One training, measurement or report at a time in a process: MindSpore's compiler belongs to the whole process.

Two threads that compile mix up their graphs: "name 'conv1.weight' already exists", "Illegal AnfNode for evaluating".
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mslab.errors import MslabError

_lock = threading.RLock()  # whoever has it may call what takes it: a comparison trains
_running: list[str] = []


@contextmanager
def alone(what: str) -> Iterator[None]:
    """Let the block, or the decorated function, run only while no other thread runs such a one. Raises MslabError."""
    if not _lock.acquire(blocking=False):
        other = (_running or ["another"])[0]
        raise MslabError(
            f"{what} cannot run beside {other}, which another thread of this process runs.",
            expected="one at a time: MindSpore compiles networks for the whole process",
            fix="call one after the other, or start a process for each: mslab train CONFIG",
        )
    _running.append(what)
    try:
        yield
    finally:
        _running.pop()
        _lock.release()
