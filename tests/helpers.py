"""Shared by all tests: small real image folders, quick settings, the command line in this process or a separate one,
and readers of a run's files."""

import csv
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

PROJECT = Path(__file__).resolve().parent.parent
STAGES = [[1, 8, 1], [1, 8, 2]]
OFFLINE = {  # pip reaches no index, whatever its configuration
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_FIND_LINKS": "",
    "PIP_RETRIES": "0",
    "NO_PROXY": "*",
    "no_proxy": "*",
}
TIMING = ("images_per_s", "seconds")  # columns of history.csv that differ between equal runs


@contextmanager
def full_after(size):
    """Let no file grow beyond this number of bytes during the block, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def within(megabytes: int, script: str, *arguments: str, seconds: int = 20) -> subprocess.CompletedProcess[str]:
    """Run a script in a process with so much memory (address space) and computing time."""
    limits = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({megabytes << 20},) * 2)\n"
    limits += f"resource.setrlimit(resource.RLIMIT_CPU, ({seconds},) * 2)\n"
    return subprocess.run([sys.executable, "-c", limits + script, *arguments], capture_output=True, text=True)


# --- images and settings ---------------------------------------------------------------------------------------------


def draw(folder: Path, classes: list[str], count: int, seed: int = 0, size: int = 40) -> Path:
    """Create class folders of noisy squares; position and colour of the square depend on the class."""
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
    """Return settings of a run of a second or two. Nothing is compiled, unless a test of graphs sets `mode="graph"`."""
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


def resolved(**more):
    """Return complete settings of a three-class run, validated and resolved for one CPU, without reading its images."""
    from mslab.config import load_settings
    from mslab.config.resolve import Machine, resolve

    settings = load_settings({"train_data": "a", "val_data": "b", "class_num": 3} | more)
    return resolve(settings, 1_000_000, None, Machine("cpu", 64))[0]


def overrides(config: dict) -> list[str]:
    """Return the settings as key=value arguments."""
    return [f"{key}={value}" for key, value in config.items()]


# --- the command line ------------------------------------------------------------------------------------------------


def cli(*arguments, cwd=None, env=None) -> subprocess.CompletedProcess:
    """Run `mslab …` in this process. Returns its exit code, standard output and standard error."""
    from mslab.cli import app

    return _run_app(app, "mslab", arguments, cwd, env)


def bench(*arguments, cwd=None, env=None) -> subprocess.CompletedProcess:
    """Run `./run.sh bench …` in the same way."""
    from benchmarks.__main__ import app

    return _run_app(app, "./run.sh bench", arguments, cwd, env)


def _run_app(app, program: str, arguments, cwd, env) -> subprocess.CompletedProcess:
    texts = [str(argument) for argument in arguments]
    with ExitStack() as stack:
        folder = Path.cwd()
        stack.callback(os.chdir, folder)
        os.chdir(cwd or folder)
        stack.enter_context(mock.patch.dict(os.environ, {"COLUMNS": "120"} | (env or {})))
        stack.enter_context(mock.patch.object(sys, "argv", [*program.split(), *texts]))
        stack.enter_context(mock.patch("typer.main.get_command", _command_of))
        output = stack.enter_context(_captured("stdout"))
        errors = stack.enter_context(_captured("stderr"))
        try:
            app(texts, prog_name=program)
            code = 0
        except SystemExit as end:
            code = end.code
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        output.seek(0), errors.seek(0)
        return subprocess.CompletedProcess([program, *texts], code, output.read(), errors.read())


@cache
def _command_of(app):
    """Typer's get_command, which builds every command, once for all calls instead of 10 ms for each."""
    return get_command(app)


@contextmanager
def _captured(name: str) -> Iterator:
    """Yield a file that receives the stream during the block, from Python and from MindSpore's own code."""
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
    """Run `mslab …` in a separate process, for tests of signals, imports and kills."""
    environment = os.environ | {"COLUMNS": "120"} | (env or {})
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout
    )


PROGRAM = [str(Path(sys.executable).with_name("mslab"))]  # for Popen


def without_roots_rights():
    """For preexec_fn: make file modes apply to root, too (drops CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH)."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (1, 2):
        libc.prctl(24, capability, 0, 0, 0)


# --- runs ------------------------------------------------------------------------------------------------------------


def history(run: str | Path) -> list[dict[str, str]]:
    """Return the rows of history.csv as text."""
    with (Path(run) / "history.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def figures(run: str | Path) -> list[dict[str, str]]:
    """Return the rows of history.csv without TIMING: equal for equal runs."""
    return [{key: value for key, value in row.items() if key not in TIMING} for row in history(run)]


def manifest(run: str | Path) -> dict:
    """Return the content of manifest.json."""
    return json.loads((Path(run) / "manifest.json").read_text(encoding="utf-8"))


def log(run: str | Path) -> str:
    """Return the text of train.log."""
    return (Path(run) / "train.log").read_text(encoding="utf-8")


def weights(run: str | Path, name: str = "best.ckpt") -> bytes:
    """Return a checkpoint's bytes: equal for equal runs."""
    return (Path(run) / "checkpoints" / name).read_bytes()


def newest(pattern: str = "*") -> Path:
    """Return the newest run folder under runs/."""
    return max(Path("runs").glob(pattern), key=lambda path: path.stat().st_ctime_ns)


@contextmanager
def stopped_after(epochs: int = 1) -> Iterator[None]:
    """Press Ctrl-C after this number of epochs of any run in the block, and expect it to end the run."""
    from mslab.runs.folder import RunFolder

    commit = RunFolder.commit

    def commit_and_stop(self, *rest):
        commit(self, *rest)
        if self.epochs_done == epochs:
            raise KeyboardInterrupt

    with mock.patch.object(RunFolder, "commit", commit_and_stop), pytest.raises(KeyboardInterrupt):
        yield
