"""Call a function on bytes of others in a process of its own with limited memory: at worst, that process dies."""

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mslab import errors
from mslab.check import available_memory, limits

MEMORY = 4 << 30  # bytes of address space; less if the machine or the container has less memory available
PROGRAM = "import sys\nsys.path[:] = sys.argv[1:]\nfrom mslab.runtime.limited import serve\nserve()\n"


def call(function: str, *arguments: Any, progress: Callable[[int, int], None] | None = None) -> Any:
    """Return the result of `function`, "module:name", called with these arguments and progress=…; all of them JSON.

    Raises the MslabError, OSError or MemoryError that it raises, and ChildProcessError if the process dies.
    """
    paths = [path for path in sys.path if path and Path(path).is_absolute()]  # others may contain data
    # in its own session: Ctrl-C then reaches only this process, which stops the other
    with subprocess.Popen(
        [sys.executable, "-I", "-c", PROGRAM, *paths, str(Path(errors.__file__).parents[1])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # each thread of NumPy's takes address space
        start_new_session=True,
    ) as process:
        assert process.stdin and process.stdout
        answer: dict[str, Any] = {}
        try:
            with suppress(BrokenPipeError), process.stdin as request:
                request.write(json.dumps([function, arguments]).encode())
            for line in process.stdout:
                answer = json.loads(line)
                if "done" in answer and progress:
                    progress(*answer["done"])
            process.wait()
        except BaseException:
            process.kill()
            raise
    if "error" in answer:
        kind, what, expected, fix, details = answer["error"]
        raise getattr(errors, kind)(what, expected=expected, fix=fix, details=[tuple(row) for row in details])
    if "refused" in answer:
        raise OSError(*answer["refused"])
    if "memory" in answer:
        raise MemoryError
    if "result" not in answer:
        raise ChildProcessError(f"its process ended with exit code {process.returncode} and no result")
    return answer["result"]


def serve() -> None:
    """Carry out the request on standard input. An unknown error ends the process with a traceback."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing else may become part of the answer
    function, arguments = json.loads(sys.stdin.read())
    module, _, name = function.partition(":")
    called = getattr(importlib.import_module(module), name)
    limit_memory(MEMORY)
    due = 0.0

    def show(done: int, total: int) -> None:
        nonlocal due
        if time.monotonic() >= due:
            send({"done": [done, total]})
            due = time.monotonic() + 0.1

    def send(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=out, flush=True)

    try:
        send({"result": called(*arguments, progress=show)})
    except errors.MslabError as error:
        send({"error": [type(error).__name__, error.what, error.expected, error.fix, error.details]})
    except MemoryError:
        send({"memory": True})
    except OSError as error:
        send({"refused": [error.errno or 0, error.strerror or str(error)]})


def address_space() -> int:
    """Bytes of address space that this process has, much of which takes no memory; 0 if unknown."""
    pages = limits.read(Path("/proc/self/statm")).split()
    return int(pages[0]) * os.sysconf("SC_PAGE_SIZE") if pages else 0


def limit_memory(most: int) -> None:
    """Limit the address space of this process, if the system can."""
    with suppress(ImportError, ValueError, OSError):  # Windows has no such limit
        import resource

        # less in a small container: there the system would kill this process, or others, instead
        most = min(most, address_space() + (available_memory() or most))
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
