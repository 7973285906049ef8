"""Functions that a limited process calls."""

import os
import signal
import time
from pathlib import Path

from mslab.errors import DatasetError


def answers(first, second, progress):
    progress(1, 2)
    return {"sum": first + second, "processes": os.getpid(), "session": os.getsid(0)}


def takes_memory(size, progress):
    return len(bytearray(size))


def dies(progress):
    os.kill(os.getpid(), signal.SIGSEGV)


def fails(kind, progress):
    if kind == "refused":
        Path("/nowhere/file").read_text()
    if kind == "bug":
        raise KeyError("of ours")
    raise DatasetError("it is \udcff wrong.", expected="right", fix="mend it", details=[("a", "b")])


def waits(progress):
    progress(os.getpid(), 0)
    time.sleep(600)
