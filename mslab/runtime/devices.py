"""Device, version guards, seeds, worker counts, and what becomes of MindSpore's own output.

Importing this module does not import MindSpore.
"""

import logging
import operator
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from mslab.errors import DeviceError
from mslab.runtime import cuda

say = logging.getLogger("mslab")  # progress and notes: standard error, and train.log during a run
terminal = logging.StreamHandler(sys.stderr)

TRY_DEVICE = """
import mslab  # lets MindSpore find pip's CUDA libraries
import mindspore as ms
ms.set_device({device!r})
print("works:", float((ms.Tensor([1.0], ms.float32) + 1).asnumpy()[0]))
"""
DRIVERS = {  # what a machine with the device has; looked for first, since asking MindSpore takes seconds
    "gpu": cuda.DRIVER,
    "ascend": ("/dev/davinci_manager", "/dev/davinci0", "/usr/local/Ascend"),
}
NO_DRIVER = "no driver"
NAMES = {"cpu": "CPU", "gpu": "GPU", "ascend": "Ascend"}


def talk_to_terminal() -> None:
    """Let the kit's messages appear on standard error, plain, in scripts and notebooks too."""
    terminal.setFormatter(Harmless("%(message)s"))
    say.addHandler(terminal)
    say.setLevel(logging.INFO)
    say.propagate = False


class Harmless(logging.Formatter):
    """Messages as a terminal may show them, whatever names of files and classes are in them."""

    def format(self, record: logging.LogRecord) -> str:
        return harmless(super().format(record))


def harmless(text: str, kept: str = "\n\t") -> str:
    """The text with control and direction characters written out: none moves the cursor or turns a line around."""
    # harmless("a\x1b[2Jb") -> "a\\x1b[2Jb"
    if text.isprintable():
        return text
    return "".join(
        c if c in kept or c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


# --- before MindSpore starts -----------------------------------------------------------------------------------------


def version(package: str) -> str:
    """The installed version, or "" where it is not installed. Imports nothing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def release(text: str) -> tuple[int, ...]:
    """release("2.10.0rc1") -> (2, 10, 0)"""
    return tuple(int(part) for part in re.match(r"[\d.]*", text)[0].strip(".").split(".") if part)  # type: ignore[index]


def set_environment(environ: MutableMapping[str, str] = os.environ, mindspore: str = "", cpu_flags: str = "") -> None:
    """Variables that have to be set before MindSpore's first operator; what the user has set stays."""
    mindspore = mindspore or version("mindspore")
    # oneDNN 3 runs every k x k convolution on its scalar reference kernel where the CPU has AVX-512: 100 times slower
    if release(mindspore) >= (2, 9) and "avx512" in (cpu_flags or _cpu_flags()):
        environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
    # MindSpore's compile cache runs the graph of another setting without a word
    if environ.get("MS_COMPILER_CACHE_ENABLE", "0") not in ("", "0"):
        say.warning("note: MS_COMPILER_CACHE_ENABLE is set; mslab turns it off, the cache runs outdated graphs")
    environ["MS_COMPILER_CACHE_ENABLE"] = "0"
    # MindSpore cannot be imported after tensorboardX or onnx where these have taken protobuf's fast code
    environ["ORT_DISABLE_TELEMETRY"] = "1"  # onnxruntime 1.32 would tell its maker what it runs; nothing leaves here
    environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
    cuda.prepare(environ)


def refuse_numpy2(numpy: str = "", mindspore: str = "") -> None:
    """DeviceError where the first addition would die of NumPy 2."""
    numpy, mindspore = numpy or version("numpy"), mindspore or version("mindspore")
    if release(numpy) >= (2,):
        raise DeviceError(
            f"NumPy {numpy} is installed; MindSpore {mindspore} allows it and then dies in its first addition.",
            expected="NumPy 1.x",
            fix="pip install 'numpy<2'",
        )


def read(file: Path) -> str:
    """What the system tells in a file, or "" where it has none."""
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def found(pattern: str, text: str) -> str:
    """The pattern's group, or ""."""
    match = re.search(pattern, text)
    return match[1].strip() if match else ""


def _cpu_flags() -> str:
    try:
        return next(line for line in Path("/proc/cpuinfo").open() if line.startswith("flags"))
    except (OSError, StopIteration):
        return ""


# --- starting --------------------------------------------------------------------------------------------------------


# what a plan depends on
SETTINGS = ("device", "mode", "seed", "jit_level", "max_device_memory", "amp_level", "deterministic")


def plan(
    device: str,
    mode: str,
    seed: int,
    jit_level: str = "auto",
    max_device_memory: str | None = None,
    amp_level: str = "O0",
    deterministic: bool = False,
    workers: int = 1,
) -> list[tuple[str, dict[str, Any]]]:
    """The calls of `mindspore` that set it up, in their order: what `start` makes, and what a dry run prints.

    Raises DeviceError where the device cannot do what is asked.
    """
    amp_level = precision(amp_level, device)
    if amp_level != "O0" and device == "cpu":
        raise DeviceError(
            f"amp_level: {amp_level} on a CPU: it has no float16 arithmetic, and training would only get slower.",
            expected="amp_level: O0 on a CPU; O2 or O3 on Ascend or a GPU",
            fix="amp_level=O0",
        )
    calls: list[tuple[str, dict[str, Any]]] = [("set_context", {"mode": 0 if mode == "graph" else 1})]
    calls.append(("set_device", {"device_target": NAMES[device]}))  # msrun's workers get a device each of it
    if max_device_memory:
        calls.append(("runtime.set_memory", {"max_size": max_device_memory}))
    if jit_level != "auto":
        calls.append(("set_context", {"jit_config": {"jit_level": jit_level}}))
    if deterministic and device != "cpu":  # a CPU repeats bit for bit as it is; before the workers find each other
        calls.append(("set_deterministic", {"deterministic": True}))
    if workers > 1:
        calls.append(("communication.init", {}))
    # every random source that training touches: MindSpore's, NumPy's global one with it, and the dataset pipeline's
    return [*calls, ("set_seed", {"seed": seed}), ("dataset.config.set_seed", {"seed": seed})]


def precision(amp_level: str, device: str) -> str:
    """The level itself; for "auto" O2, but O0 on a CPU, where float16 only costs time."""
    return amp_level if amp_level != "auto" else "O0" if device == "cpu" else "O2"


def start(device: str, mode: str, seed: int, **more: Any) -> str:
    """Set MindSpore up by `plan`, whose arguments follow. Returns the device taken: "cpu", "gpu" or "ascend".

    Raises DeviceError where the device is not there or does not work.
    """
    if not version("mindspore"):
        raise DeviceError(
            "MindSpore is not installed.", expected="MindSpore 2.7 to 2.10", fix="pip install mindspore==2.8.0"
        )
    refuse_numpy2()
    if release(version("mindspore")) >= (2, 9):
        isa = os.environ.get("ONEDNN_MAX_CPU_ISA", "as it is")
        say.info("note: MindSpore %s (CPU instructions: %s); 2.8.0 was faster on a CPU", version("mindspore"), isa)
    chosen = choose_device(device)
    set_up(plan(chosen, mode, seed, **more))
    return chosen


_deterministic: list[bool] = []  # holds one where set_deterministic was called


def set_up(calls: list[tuple[str, dict[str, Any]]]) -> None:
    """Make the calls of a plan."""
    import mindspore as ms
    import mindspore.communication

    for name, arguments in calls:
        if arguments == {"device_target": "CPU"} and ms.get_context("device_target") == "CPU":
            continue  # it is set, and may not be set again once something has run on it
        if name == "set_deterministic":
            if _deterministic:
                continue  # MindSpore refuses a second time
            _deterministic.append(True)
        operator.attrgetter(name)(ms)(**arguments)


def choose_device(wanted: str) -> str:
    """`wanted`, or for "auto" the best that works, tried in a child process. Raises DeviceError where it does not."""
    if wanted == "auto":
        taken, refused = best_device()
        for device, reason in refused.items():
            if not reason.startswith(NO_DRIVER):  # most machines have none: doctor tells, training need not
                say.info("device: %s not taken: %s", device, reason)
        return taken
    refuse(wanted, "" if wanted == "cpu" else why_not(wanted))
    return wanted


def best_device() -> tuple[str, dict[str, str]]:
    """(what `device: auto` takes, {each better device: why it is not taken})."""
    refused = {}
    for device in ("ascend", "gpu"):
        refused[device] = why_not(device)
        if not refused[device]:
            return device, {name: reason for name, reason in refused.items() if reason}
    return "cpu", refused


def refuse(device: str, reason: str) -> None:
    """DeviceError where there is a reason."""
    if reason:
        raise DeviceError(
            f"device: {device} cannot be used here: {reason}.",
            expected="a driver, its libraries, and a MindSpore built for them",
            fix="device: cpu, or device: auto to take what works; mslab doctor tells more",
        )


def lacking(device: str) -> str:
    """What the device lacks that can be seen at once, without starting MindSpore, or ""."""
    if device in ("auto", "cpu"):
        return ""
    if device not in DRIVERS:
        return f"mslab knows auto, cpu, {' and '.join(DRIVERS)}"
    if not any(cuda.there(mark) for mark in DRIVERS[device]):
        return f"{NO_DRIVER} ({', '.join(DRIVERS[device])}: none is there)"
    if device == "gpu" and "CUDA_HOME" not in os.environ:  # MindSpore then does not look for a GPU at all
        return "; ".join(cuda.lacking(cuda.libraries(), "", ""))
    return ""


def why_not(device: str) -> str:
    """Why the device cannot be used, in one line, or "". A child process tries it: a broken driver must not end us."""
    if reason := lacking(device):
        return reason
    command = [sys.executable, "-c", TRY_DEVICE.format(device=NAMES[device])]
    try:
        tried = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        return "a first addition on it took more than 120 s"
    if tried.returncode == 0 and "works: 2.0" in tried.stdout:
        return ""
    if device == "gpu" and any(reasons := cuda.lacking(cuda.libraries(), cuda.nvcc_release(), os.environ["CUDA_HOME"])):
        return "; ".join(reasons)
    return complaint(tried.stderr, device) or f"the process that tried it ended with exit code {tried.returncode}"


def complaint(text: str, device: str) -> str:
    """The line of MindSpore's pages that tells what is wrong: the library it could not load, or its last error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    loading = [line for line in lines if line.startswith(f"Load dynamic library: libmindspore_{device}")]
    errors = [line for line in lines if "Error" in line]
    told = [*lines[-1:], *errors[-1:], *loading[-1:]]
    return told[-1].removeprefix("RuntimeError: ")[:200].rstrip(".") if told else ""


def workers(wanted: int) -> int:
    """`wanted`, at most one a core: MindSpore refuses more."""
    from mslab.check import cores

    return max(1, min(wanted, cores()))


def versions() -> dict[str, str]:
    """What the manifest notes of the installation."""
    packages = ("mslab", "mindspore", "numpy", "pillow", "scikit-learn", "pydantic")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # while a graph runs, MindSpore turns Ctrl-C into SIGTERM to itself


@contextmanager
def on_stop(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Have Ctrl-C and SIGTERM call `handler` meanwhile; does nothing outside the main thread, where none arrives."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.signal(number, handler) for number in STOP_SIGNALS]
    try:
        yield
    finally:
        for number, earlier in zip(STOP_SIGNALS, before, strict=True):
            signal.signal(number, earlier)


def stop_at_once(number: int, frame: Any) -> None:
    """Raise KeyboardInterrupt; while MindSpore is imported, after that: a broken-off import ends in an abort."""
    spec = getattr(sys.modules.get("mindspore"), "__spec__", None)
    if getattr(spec, "_initializing", False):
        again = threading.Timer(0.1, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()
        return
    raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C only raises a flag, which the loop asks for after each step; a second one stops at once."""
    asked: list[float] = []

    def raise_flag(number: int, frame: Any) -> None:
        if asked and time.monotonic() - asked[0] > 0.5:  # one key press may arrive as both signals
            raise KeyboardInterrupt
        if not asked:
            asked.append(time.monotonic())
            # in a thread, since the signal may have come in the middle of another message
            text = "stopping after this step (Ctrl-C again stops at once)"
            threading.Thread(target=say.info, args=(text,), daemon=True).start()

    with on_stop(raise_flag):
        yield lambda: bool(asked)


# --- MindSpore's own output ------------------------------------------------------------------------------------------


class Noise:
    """File descriptor 2 during a command: MindSpore's C++ and Python log, kept in a file, counted, shown as one line.

    `screen` is the standard error the user sees. `move_to(path)` names the file to keep; without it, it is deleted.
    """

    MARK = re.compile(r"^\[(WARNING|ERROR|CRITICAL)\]")
    # MindSpore's own calls, and how workers find each other: nothing a student can act on
    HARMLESS = re.compile(r"^\[WARNING\].*(deprecated|cluster/|[Cc]ollective|[Cc]ommunication group)")

    def __init__(self, file: Path, screen: IO[str]) -> None:
        self.file, self.screen, self.kept = file, screen, False

    def move_to(self, path: Path) -> None:
        """Keep the log at `path` from now on, with what it holds of the time before the first run."""
        with path.open("ab") as log:
            if not self.kept:
                log.write(self.file.read_bytes())
            os.dup2(log.fileno(), 2)
        if not self.kept:
            self.file.unlink()
        self.file, self.kept = path, True

    def problems(self) -> list[str]:
        """Warnings and errors of MindSpore that are not known to be harmless, each as its first line's message."""
        text = self.file.read_text(errors="replace")
        lines = [line for line in text.splitlines() if self.MARK.match(line) and not self.HARMLESS.search(line)]
        return [line.rpartition("] ")[2][:120] for line in lines]

    def summary(self) -> str:
        """One line, or "" where MindSpore said nothing of weight."""
        found = self.problems()
        if not found:
            return ""
        count = "1 runtime warning" if len(found) == 1 else f"{len(found)} runtime warnings, the last"
        return f"{count}: {found[-1]} — {self.file if self.kept else 'train.log of the run'}"


_noise: list[Noise] = []  # the one in force, innermost last


def keep_noise(path: Path) -> None:
    """Let MindSpore's output go into this file from now on, where it is kept away from the terminal at all."""
    for noise in _noise[-1:]:
        noise.move_to(path)


@contextmanager
def quiet() -> Iterator[Noise]:
    """Keep MindSpore's output away from the terminal; the kit's own messages go on to it."""
    sys.stderr.flush()
    saved = os.dup(2)
    screen = os.fdopen(os.dup(saved), "w", buffering=1)
    handle, name = tempfile.mkstemp(prefix="mslab-", suffix=".log")
    os.dup2(handle, 2)
    os.close(handle)
    noise = Noise(Path(name), screen)
    before = terminal.setStream(screen)
    _noise.append(noise)
    try:
        yield noise
    finally:
        _noise.pop()
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)
        terminal.setStream(before or sys.stderr)
        if line := noise.summary():
            print(line, file=screen)
        if not noise.kept:
            noise.file.unlink(missing_ok=True)
        screen.close()
