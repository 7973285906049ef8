"""A benchmark in a process: one that runs once and prints its result, or one that works in turns with others."""

import json
import math
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mslab.check import cores
from mslab.errors import MslabError


def last_error(stderr: str) -> str:
    """The reason why a process ended: the last line of standard error that names an error, else the last line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()] or ["no message"]
    return next((line for line in reversed(lines) if "Error" in line), lines[-1])


def read_result(
    command: Sequence[str], environ: Mapping[str, str], name: str, expected: str, fix: str
) -> dict[str, Any]:
    """Run a process; the JSON that it prints after "bench ". Raises MslabError, with these parts, if it prints none."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environ)
    except OSError as error:
        raise MslabError(f"{name} did not finish: {error}", expected=expected, fix=fix) from None
    lines = [line for line in done.stdout.splitlines() if line.startswith("bench ")]
    if not lines:
        raise MslabError(f"{name} did not finish: {last_error(done.stderr)}", expected=expected, fix=fix)
    return json.loads(lines[-1][6:])  # type: ignore[no-any-return]


class Child:
    """A contender's process: runs on request, is stopped in between. Raises MslabError if it ends on its own.

    `command`: prints "bench " and JSON once it is ready, `facts` here, then for each line of its input. `expected` and
    `fix` are of the message.
    """

    def __init__(self, name: str, command: Sequence[str], expected: str, fix: str, **environ: str) -> None:
        self.name, self.expected, self.fix = name, expected, fix
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed with the process
        started = time.perf_counter()
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": str(cores())} | environ,
            )
        except OSError as error:
            raise self.failed(str(error)) from None
        try:
            self.facts = self.answer()
        except BaseException:
            self.__exit__()
            raise
        self.startup = time.perf_counter() - started  # seconds

    def run(self, kind: str, steps: int) -> dict[str, Any]:
        """Run a block: {"seconds" and "values" of each step, "lines": other lines of standard output meanwhile}."""
        self.process.send_signal(signal.SIGCONT)
        with suppress(BrokenPipeError):  # it has ended: answer() raises the reason
            self.process.stdin.write(f"{kind} {steps}\n")  # type: ignore[union-attr]
            self.process.stdin.flush()  # type: ignore[union-attr]
        return self.answer()

    def answer(self) -> dict[str, Any]:
        lines: list[str] = []
        for line in self.process.stdout:  # type: ignore[union-attr]
            if line.startswith("bench "):
                self.process.send_signal(signal.SIGSTOP)  # and wait until all its threads have stopped
                os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
                return json.loads(line[6:]) | {"lines": lines}
            lines.append(line.rstrip())
        code = self.process.wait()
        self.errors.seek(0)
        raise self.failed(last_error(self.errors.read()) + (f" (signal {-code})" if code < 0 else ""))

    def failed(self, reason: str) -> MslabError:
        return MslabError(f"{self.name} did not finish: {reason}", expected=self.expected, fix=self.fix)

    def peak(self) -> float:
        """The peak memory of the process in MiB, or NaN if the system does not report it."""
        try:
            match = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        except OSError:
            match = None
        return int(match[1]) / 1024 if match else math.nan

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.errors):
            with suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]
