"""Worker processes that load images, seen from this side: a file that kills or hangs its worker is one answer."""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mslab.check import worker
from mslab.errors import DeviceError

SECONDS = 30.0  # longest that one file may take
MEMORY = 2 << 30  # bytes of address space of a worker; the largest image below Pillow's limit needs a sixth of it
BATCH = 16  # files that a worker is sent at once
STARTS = 5  # times that a worker is started where a signal ends it before it is ready: somebody else killed it


def usable_cores() -> list[int]:
    """The numbers of the CPU cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def cores() -> int:
    """How many CPU cores this process may use."""
    return len(usable_cores())


class Worker:
    """One process. Not multiprocessing: a student's script needs no main guard for it."""

    def __init__(self) -> None:
        command = [sys.executable, worker.__file__, str(MEMORY)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.deadline, self.late = float("inf"), False
        for _ in range(STARTS):
            # a session of its own, so that Ctrl-C reaches this process only, which then ends the worker
            self.process = subprocess.Popen(command, text=True, start_new_session=True, **pipes)
            if self._line().strip() == worker.READY:
                return
            self.process.communicate()
            if self.process.returncode >= 0:  # it ended by itself, and would again
                break
        raise DeviceError(
            f"The process that loads images does not start (exit code {self.process.returncode}).",
            expected="a Python that can import Pillow",
            fix=f"see what it says: {sys.executable} -c 'import PIL.Image, PIL.ImageCms'",
        )

    def ask(self, request: str, paths: Sequence[str]) -> list[dict[str, Any]] | None:
        """The answers, or None where it died or was killed for being late."""
        assert self.process.stdin
        self.deadline = time.monotonic() + SECONDS
        try:
            self.process.stdin.write(json.dumps([request, list(paths)]) + "\n")
            self.process.stdin.flush()
            line = self._line()
        except OSError:
            line = ""
        self.deadline = float("inf")
        return json.loads(line) if line.endswith("\n") else None

    def _line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline()

    def why(self) -> dict[str, Any]:
        """What to say of the file at which it ended."""
        code = self.process.wait()
        if self.late:
            return {"code": "timeout", "problem": f"loading it took more than {SECONDS:g} s"}
        return {"code": "crash", "problem": f"the process that loaded it died with exit code {code}"}

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


class Pool:
    """Sends one request about many files to a worker a core, and yields the answers as they come."""

    def __init__(self, request: str, paths: Sequence[str]) -> None:
        self.request, self.paths = request, paths
        self.workers: set[Worker] = set()
        self.lock, self.stopped = threading.Lock(), threading.Event()
        self.results: queue.SimpleQueue[list[tuple[int, dict[str, Any]]] | BaseException] = queue.SimpleQueue()
        self.starts = iter(range(0, len(paths), BATCH))
        self.count = max(1, min(cores(), len(paths) // 8))
        self.room = threading.Semaphore(8 * self.count)  # batches that may wait: memory stays bounded

    def answers(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """(index of the path, answer), each once, in no order. Ends the workers, on Ctrl-C too."""
        threads = [threading.Thread(target=self._watch, daemon=True)]
        threads += [threading.Thread(target=self._feed, daemon=True) for _ in range(self.count)]
        for thread in threads:
            thread.start()
        try:
            left = len(self.paths)
            while left:
                batch = self.results.get()
                if isinstance(batch, BaseException):
                    raise batch
                left -= len(batch)
                self.room.release()
                yield from batch
        finally:
            self.stopped.set()
            with self.lock:
                workers = list(self.workers)
            for each in workers:
                each.process.kill()  # its thread, which may be reading from it, cleans up
            for _ in threads:
                self.room.release()
            for thread in threads:
                thread.join()

    def _feed(self) -> None:
        """One worker's thread: a batch at a time. The files of a batch that was its end are asked for one by one."""
        current = None
        try:
            while True:
                self.room.acquire()
                with self.lock:
                    start = next(self.starts, None)
                if start is None or self.stopped.is_set():
                    break
                indices = range(start, min(start + BATCH, len(self.paths)))
                found: list[tuple[int, dict[str, Any]]] = []
                for group in (indices, *([index] for index in indices)):
                    current = current or self._start()
                    if self.stopped.is_set():  # it may have come too late to be killed with the others
                        return
                    answers = current.ask(self.request, [self.paths[index] for index in group])
                    if self.stopped.is_set():
                        return
                    if answers is None and len(group) == 1:
                        answers = [current.why()]
                    if current.process.poll() is not None or answers is None:
                        self._end(current)
                        current = None
                    found += zip(group, answers or [], strict=False)
                    if len(found) == len(indices):
                        break
                self.results.put(found)
        except BaseException as error:  # the other side raises it
            self.results.put(error)
        finally:
            if current:
                self._end(current)

    def _start(self) -> Worker:
        started = Worker()
        with self.lock:
            self.workers.add(started)
        return started

    def _end(self, ended: Worker) -> None:
        with self.lock:
            self.workers.discard(ended)
        ended.stop()

    def _watch(self) -> None:
        """Kills the worker whose file takes too long."""
        while not self.stopped.wait(0.1):
            with self.lock:
                late = [each for each in self.workers if time.monotonic() > each.deadline]
            for each in late:
                each.late = True
                each.process.kill()


def ask(request: str, paths: Sequence[str | Path]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Answers of the worker's function `request` on files: (index, answer), in no order."""
    return Pool(request, [str(path) for path in paths]).answers() if paths else iter(())
