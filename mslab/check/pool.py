"""Start worker processes that load images. A file that kills or hangs its worker yields an answer, too."""

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mslab.check import worker
from mslab.check.limits import cores
from mslab.errors import DeviceError
from mslab.escaping import quoted

SECONDS = 30.0  # time limit for one file
MEMORY = 2 << 30  # bytes of address space of a worker; the largest image below Pillow's limit needs a sixth of it
BATCH = 16  # files sent to a worker at once
STARTS = 5  # attempts to start a worker that a signal kills before it is ready: the cause is outside mslab


class Worker:
    """One worker process. Not multiprocessing, so that a student's script needs no main guard."""

    def __init__(self) -> None:
        command = [sys.executable, worker.__file__, str(MEMORY)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.seconds, self.late = 0.0, False
        for _ in range(STARTS):
            # in its own session: Ctrl-C then reaches only this process, which stops the worker
            self.process = subprocess.Popen(command, text=True, start_new_session=True, **pipes)
            if self._line().strip() == worker.READY:
                return
            self.process.communicate()
            if self.process.returncode >= 0:  # it exited without a signal, and would do so again
                break
        raise DeviceError(
            f"The process that loads images does not start (exit code {self.process.returncode}).",
            expected="a Python that can import Pillow",
            fix=f"read the error of: {quoted(Path(sys.executable))} -c 'import PIL.Image, PIL.ImageCms'",
        )

    def ask(self, request: str, paths: Sequence[str], seconds: float | None = None) -> list[dict[str, Any]] | None:
        """The answers, or None if the process died or was killed after `seconds` (default: SECONDS)."""
        assert self.process.stdin
        self.seconds = SECONDS if seconds is None else seconds
        timer = threading.Timer(self.seconds, self._expire)
        timer.daemon = True
        timer.start()
        try:
            self.process.stdin.write(json.dumps([request, list(paths)]) + "\n")
            self.process.stdin.flush()
            line = self._line()
        except OSError:
            line = ""
        finally:
            timer.cancel()
        return json.loads(line) if line.endswith("\n") and not self.late else None

    def _expire(self) -> None:
        self.late = True
        self.process.kill()

    def _line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline()

    def failure(self) -> dict[str, Any]:
        """The answer for the file at which the process ended."""
        code = self.process.wait()
        if self.late:
            return {"code": "timeout", "problem": f"loading it took more than {self.seconds:g} s"}
        return {"code": "crash", "problem": f"the process that loaded it died with exit code {code}"}

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


class Pool:
    """Sends one request about many files to one worker per core, and yields the answers as they arrive."""

    def __init__(self, request: str, paths: Sequence[str]) -> None:
        self.request, self.paths = request, paths
        self.workers: set[Worker] = set()
        self.lock, self.stopped = threading.Lock(), threading.Event()
        self.results: queue.SimpleQueue[list[tuple[int, dict[str, Any]]] | BaseException] = queue.SimpleQueue()
        self.starts = iter(range(0, len(paths), BATCH))
        self.count = max(1, min(cores(), len(paths) // 8))
        self.slots = threading.Semaphore(8 * self.count)  # batches that may wait, which bounds the memory

    def answers(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """(index of the path, answer), each once, in no order. Stops the workers at the end and on Ctrl-C."""
        threads = [threading.Thread(target=self._feed, daemon=True) for _ in range(self.count)]
        for thread in threads:
            thread.start()
        try:
            left = len(self.paths)
            while left:
                batch = self.results.get()
                if isinstance(batch, BaseException):
                    raise batch
                left -= len(batch)
                self.slots.release()
                yield from batch
        finally:
            self.stopped.set()
            with self.lock:
                workers = list(self.workers)
            for running in workers:
                running.process.kill()  # its thread, which may be reading from it, cleans up
            for _ in threads:
                self.slots.release()
            for thread in threads:
                thread.join()

    def _feed(self) -> None:
        """One worker's thread: send a batch at a time. If a batch kills the worker, send its files one by one."""
        active = None
        try:
            while True:
                self.slots.acquire()
                with self.lock:
                    start = next(self.starts, None)
                if start is None or self.stopped.is_set():
                    break
                indices = range(start, min(start + BATCH, len(self.paths)))
                rows: list[tuple[int, dict[str, Any]]] = []
                for group in (indices, *([index] for index in indices)):
                    active = active or self._start()
                    if self.stopped.is_set():  # it may have started too late to be killed with the others
                        return
                    answers = active.ask(self.request, [self.paths[index] for index in group])
                    if self.stopped.is_set():
                        return
                    if answers is None and len(group) == 1:
                        answers = [active.failure()]
                    if active.process.poll() is not None or answers is None:
                        self._end(active)
                        active = None
                    rows += zip(group, answers or [], strict=False)
                    if len(rows) == len(indices):
                        break
                self.results.put(rows)
        except BaseException as error:  # answers() raises it
            self.results.put(error)
        finally:
            if active:
                self._end(active)

    def _start(self) -> Worker:
        started = Worker()
        with self.lock:
            self.workers.add(started)
        return started

    def _end(self, finished: Worker) -> None:
        with self.lock:
            self.workers.discard(finished)
        finished.stop()


def ask(request: str, paths: Sequence[str | Path]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Answers of the worker's function `request` for these files: (index, answer), in no order."""
    return Pool(request, [str(path) for path in paths]).answers() if paths else iter(())
