"""ResNet-50 beside PyTorch and mindcv: images/s of training and of inference, start, compilation, memory.

Each contender has its own process from beginning to end. Blocks of steps are interleaved (A B C A B C …), so that a
slow minute of the machine affects all; processes that wait are stopped (SIGSTOP) and use no CPU.
"""

import json
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from benchmarks import contenders
from benchmarks.processes import last_error
from mslab.check import cores
from mslab.errors import MslabError
from mslab.runtime.tables import empty_table, render

CONTENDERS: dict[str, dict[str, Any]] = {
    "mslab, GRAPH": {"maker": "mslab", "mode": "graph"},
    "mslab, PYNATIVE": {"maker": "mslab", "mode": "pynative"},
    "PyTorch, channels_last": {"maker": "pytorch", "format": "channels_last"},
    "PyTorch, contiguous": {"maker": "pytorch", "format": "contiguous_format"},
    "mindcv, GRAPH": {"maker": "mindcv"},
}
FIXES = {  # maker -> expected, fix
    "mslab": ("a training step that works here", "a smaller --batch or --size, if memory ran out"),
    "pytorch": (
        "a Python with torch and torchvision, for --peers",
        "python -m venv peers && peers/bin/pip install torch torchvision, then --peers peers/bin/python",
    ),
    "mindcv": ("mindcv beside mslab", "pip install mindcv==0.3.0"),
}
BLOCK = 5  # steps in a block
WARM = 2  # steps before the first block, after the one that compiles


class Child:
    """A contender's process: runs on request, is stopped in between. Raises MslabError if it ends on its own."""

    def __init__(self, name: str, job: Mapping[str, Any], peers: str | None = None, **environ: str) -> None:
        self.name, self.maker = name, job["maker"]
        command = [sys.executable, "-m", contenders.__name__]
        if self.maker == "pytorch":
            command = [str(peers), "-I", contenders.__file__]  # -I: this folder's modules are not for that Python
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed with the process
        started = time.perf_counter()
        try:
            self.process = subprocess.Popen(
                [*command, json.dumps(dict(job) | {"threads": cores()})],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": str(cores())} | environ,
            )
        except OSError as error:
            raise self.failed(str(error)) from None
        try:
            self.weights = self.answer()["weights"]
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
        expected, fix = FIXES[self.maker]
        return MslabError(f"{self.name} did not finish: {reason}", expected=expected, fix=fix)

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


def bench_train(
    size: int = 64,
    batch: int = 32,
    repeats: int = 7,
    peers: str | None = None,
    stages: Sequence[Sequence[int]] | None = None,
    progress: Callable[[str], Any] = lambda text: None,
) -> list[dict[str, Any]]:
    """Rows of summarise(), first of training, then of inference, on float32 images of `size` pixels.

    `repeats`: blocks of each contender. `peers`: a Python with torch; without it PyTorch is left out. `stages`: another
    table than ResNet-50's; then only mslab runs, since the others' networks have their own.
    """
    left_out = {"pytorch", "mindcv"} if stages else set() if peers else {"pytorch"}
    names = [name for name, job in CONTENDERS.items() if job["maker"] not in left_out]
    job = {"size": size, "batch": batch, "stages": [list(row) for row in stages] if stages else None}
    with ExitStack() as stack:
        children: list[Child] = []
        for name in names:
            children.append(stack.enter_context(Child(name, CONTENDERS[name] | job, peers)))
            progress(f"{name}: {children[-1].weights:,} weights, started in {children[-1].startup:.1f} s")
        check_weights({child.name: child.weights for child in children})
        rows = []
        for kind in ("train", "infer"):
            rows += _measure(kind, children, batch, repeats, progress)
    return [{"size": size, "batch": batch} | row for row in rows]


def _measure(
    kind: str, children: Sequence[Child], batch: int, repeats: int, progress: Callable[[str], Any]
) -> list[dict[str, Any]]:
    """Rows of one kind of step: a first step and warm ones, then the rounds."""
    values: dict[str, list[float]] = {}
    more: dict[str, dict[str, Any]] = {}
    blocks: dict[str, list[float]] = {child.name: [] for child in children}
    for child in children:
        first = child.run(kind, 1 + WARM)
        values[child.name] = first["values"]
        compiling = first["seconds"][0] - statistics.median(first["seconds"][1:])
        more[child.name] = {"weights": child.weights, "startup_s": child.startup, "compile_s": compiling, "turns": []}
        progress(f"{kind}, first step: {child.name} {first['seconds'][0]:.1f} s")
    for turn, child in enumerate([*children] * repeats):
        block = child.run(kind, BLOCK)
        values[child.name] += block["values"]
        blocks[child.name].append(sum(block["seconds"]))
        more[child.name]["turns"].append(turn)
        progress(f"{kind}, turn {turn + 1}: {child.name} {batch * BLOCK / blocks[child.name][-1]:.1f} images/s")
    for child in children:
        check_values(child.name, kind, values[child.name])
        more[child.name] |= {"first": values[child.name][0], "last": values[child.name][-1]}
        if kind == "train":  # later the peak still contains that of training
            more[child.name]["peak_mib"] = child.peak()
    return [row | more[row["contender"]] for row in summarise(kind, blocks, batch * BLOCK)]


def summarise(kind: str, blocks: Mapping[str, Sequence[float]], images: int) -> list[dict[str, Any]]:
    """Rows of {job, contender, ratio, images_per_s, least, most} from the seconds of a contender's blocks of `images`.

    images_per_s is the median, ratio is to the best of PyTorch's rows: None without one.
    """
    speeds = {name: [images / seconds for seconds in times] for name, times in blocks.items()}
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    best = max((speed for name, speed in medians.items() if name.startswith("PyTorch")), default=None)
    return [
        {
            "job": kind,
            "contender": name,
            "ratio": medians[name] / best if best else None,
            "images_per_s": medians[name],
            "least": min(values),
            "most": max(values),
        }
        for name, values in speeds.items()
    ]


def check_weights(weights: Mapping[str, int]) -> None:
    """Raise MslabError if the networks differ in their number of trainable weights."""
    if len(set(weights.values())) > 1:
        raise MslabError(
            "The contenders' networks differ: their speeds cannot be compared.",
            details=[(name, f"{number:,} trainable weights") for name, number in weights.items()],
            expected="the same number of trainable weights in each, 25,557,032 in ResNet-50",
            fix="versions of torchvision and mindcv whose resnet50 is the standard one",
        )


def check_values(name: str, kind: str, values: Sequence[float]) -> None:
    """Raise MslabError if a step gave no finite number, or if training on one batch never lowered its loss."""
    text = ", ".join(f"{value:.4g}" for value in values[:8])
    if not all(map(math.isfinite, values)) or (kind == "train" and min(values) >= values[0]):
        raise MslabError(
            f"{name} did no real work: the {'losses' if kind == 'train' else 'mean logits'} were {text} …",
            expected="finite numbers" + (", and a loss that falls on one repeated batch" if kind == "train" else ""),
            fix="another --size or --batch; if that does not help, this installation computes wrong results",
        )


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Training above inference; ratios first."""
    compared = any(row["ratio"] for row in rows)
    size, batch = rows[0]["size"], rows[0]["batch"]
    title = f"{rows[0]['weights']:,} weights, batch {batch} at {size}x{size}, float32, {cores()} cores"
    grid = empty_table(title, ("", "ratio", "images/s", "min–max", "start", "compile", "MiB"))
    for kind, heading in (("train", "training"), ("infer", "inference")):
        grid.add_section()
        grid.add_row(heading)
        for row in (row for row in rows if row["job"] == kind):
            grid.add_row(
                row["contender"],
                f"{row['ratio']:.2f}x" if row["ratio"] else "",
                f"{row['images_per_s']:.1f}",
                f"{row['least']:.1f}–{row['most']:.1f}",
                f"{row['startup_s']:.1f}",
                f"{row['compile_s']:.1f}",
                f"{row['peak_mib']:.0f}" if "peak_mib" in row else "",
            )
    note = "ratio: to PyTorch's better row; start and compile: seconds; MiB: peak of the process in training"
    if not compared:
        note += "\nPyTorch left out: --peers names a Python with torch and torchvision"
    return f"{render(grid)}\n{note}"
