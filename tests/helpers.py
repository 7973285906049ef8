"""What tests share: small real image folders, quick settings, the command line in this process and in one of its own,
and what a run has left."""

import csv
import ctypes
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

PROJECT = Path(__file__).resolve().parent.parent
STAGES = [[1, 8, 1], [1, 8, 2]]
TIMING = ("images_per_s", "seconds")  # columns of history.csv that no two runs have in common


# --- images and settings ---------------------------------------------------------------------------------------------


def draw(folder: Path, classes: list[str], count: int, seed: int = 0, size: int = 40) -> Path:
    """Class folders of noisy squares whose place and colour tell the class."""
    rng = np.random.default_rng(seed)
    for index, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = rng.integers(0, 90, (size, size, 3))
            row, column = divmod(index % 4, 2)
            pixels[row * 20 : row * 20 + 20, column * 20 : column * 20 + 20, index % 3] += 160
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number:03}.png")
    return folder


def settings(root: Path, class_num: int, **more) -> dict:
    """Settings of a run of a second or two. Nothing is compiled; `mode="graph"` where the graph is the subject."""
    return {
        "train_data": str(root / "train"),
        "val_data": str(root / "val"),
        "class_num": class_num,
        "image_size": 32,
        "batch_size": 8,
        "epochs": 2,
        "warmup_epochs": 1,
        "lr_init": 0.01,
        "lr_max": 0.05,
        "data_workers": 1,
        "stages": STAGES,
        "device": "cpu",
        "mode": "pynative",
    } | more


def overrides(config: dict) -> list[str]:
    """The settings as key=value arguments."""
    return [f"{key}={value}" for key, value in config.items()]


# --- the command line ------------------------------------------------------------------------------------------------


def cli(*arguments, cwd=None, env=None) -> subprocess.CompletedProcess:
    """`mslab …` in this process: its exit code, and what standard output and standard error would have got."""
    from mslab.cli import app

    return _called(app, "mslab", arguments, cwd, env)


def bench(*arguments, cwd=None, env=None) -> subprocess.CompletedProcess:
    """`./run.sh bench …` likewise."""
    from benchmarks.__main__ import app

    return _called(app, "./run.sh bench", arguments, cwd, env)


def _called(app, program: str, arguments, cwd, env) -> subprocess.CompletedProcess:
    words = [str(argument) for argument in arguments]
    with ExitStack() as stack:
        here = Path.cwd()
        stack.callback(os.chdir, here)
        os.chdir(cwd or here)
        stack.enter_context(mock.patch.dict(os.environ, {"COLUMNS": "120"} | (env or {})))
        stack.enter_context(mock.patch.object(sys, "argv", [*program.split(), *words]))
        output = stack.enter_context(_captured("stdout"))
        errors = stack.enter_context(_captured("stderr"))
        try:
            app(words, prog_name=program)
            code = 0
        except SystemExit as leaving:
            code = leaving.code
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        output.seek(0), errors.seek(0)
        return subprocess.CompletedProcess([program, *words], code, output.read(), errors.read())


@contextmanager
def _captured(name: str) -> Iterator:
    """A file that gets what is written to the stream meanwhile, by Python and by MindSpore's own code."""
    number = {"stdout": 1, "stderr": 2}[name]
    getattr(sys, name).flush()
    saved = os.dup(number)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogateescape") as file:
        os.dup2(file.fileno(), number)
        stream = os.fdopen(os.dup(number), "w", buffering=1, encoding="utf-8", errors="surrogateescape")
        try:
            with mock.patch.object(sys, name, stream):
                yield file
        finally:
            os.dup2(saved, number)
            os.close(saved)
            stream.close()


def process(*arguments, cwd=None, env=None, timeout=300) -> subprocess.CompletedProcess:
    """`mslab …` in a process of its own, for what only one shows: signals, what it imports, what a kill leaves."""
    environment = os.environ | {"COLUMNS": "120"} | (env or {})
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout
    )


PROGRAM = [str(Path(sys.executable).with_name("mslab"))]  # for Popen


def without_roots_rights():
    """For preexec_fn: let root, too, be refused what a file's mode forbids (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH)."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (1, 2):
        libc.prctl(24, capability, 0, 0, 0)


# --- runs ------------------------------------------------------------------------------------------------------------


def history(run: str | Path) -> list[dict[str, str]]:
    """The rows of history.csv as they are written."""
    with (Path(run) / "history.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def figures(run: str | Path) -> list[dict[str, str]]:
    """The rows of history.csv without what the clock says: equal for equal runs."""
    return [{key: value for key, value in row.items() if key not in TIMING} for row in history(run)]


def manifest(run: str | Path) -> dict:
    """manifest.json as it is written."""
    return json.loads((Path(run) / "manifest.json").read_text(encoding="utf-8"))


def log(run: str | Path) -> str:
    """train.log."""
    return (Path(run) / "train.log").read_text(encoding="utf-8")


def weights(run: str | Path, name: str = "best.ckpt") -> bytes:
    """A checkpoint's bytes: equal for equal runs."""
    return (Path(run) / "checkpoints" / name).read_bytes()


def newest(pattern: str = "*") -> Path:
    """The run folder under runs/ that was begun last."""
    return max(Path("runs").glob(pattern), key=lambda path: path.stat().st_ctime_ns)


@contextmanager
def stopped_after(epochs: int = 1) -> Iterator[None]:
    """Ctrl-C comes after so many epochs of any run in this block, and is expected to end it."""
    from mslab.runs.folder import RunFolder

    end_epoch = RunFolder.commit

    def ending(self, *rest):
        end_epoch(self, *rest)
        if self.epoch == epochs:
            raise KeyboardInterrupt

    with mock.patch.object(RunFolder, "end_epoch", ending), pytest.raises(KeyboardInterrupt):
        yield
