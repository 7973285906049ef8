"""Choose the device, set up MindSpore on it, and explain why a device cannot be used.

Importing this module does not import MindSpore.
"""

import operator
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from mslab.errors import DeviceError
from mslab.escaping import pip_install
from mslab.runtime import cuda
from mslab.runtime.console import log
from mslab.runtime.versions import refuse_numpy2, release, version

if TYPE_CHECKING:
    from mslab.config import Settings

TRY_DEVICE = """
import mslab  # lets MindSpore find pip's CUDA libraries
import mindspore as ms
ms.set_device({device!r})
print("works:", float((ms.Tensor([1.0], ms.float32) + 1).asnumpy()[0]))
"""
DRIVERS = {  # files or libraries on a machine with the device; checked first, since trying MindSpore takes seconds
    "gpu": cuda.DRIVER,
    "ascend": ("/dev/davinci_manager", "/dev/davinci0", "/usr/local/Ascend"),
}
NO_DRIVER = "no driver"
NAMES = {"cpu": "CPU", "gpu": "GPU", "ascend": "Ascend"}
# the settings that setup_calls depends on
SETTINGS = ("device", "mode", "seed", "jit_level", "max_device_memory", "amp_level", "deterministic")


def setup_calls(
    device: str,
    mode: str,
    seed: int,
    jit_level: str = "auto",
    max_device_memory: str | None = None,
    amp_level: str = "O0",
    deterministic: bool = False,
    workers: int = 1,
) -> list[tuple[str, dict[str, Any]]]:
    """Return the calls of `mindspore` that set it up, in order, for `start` and for a dry run.

    Raises DeviceError if the device does not support the settings.
    """
    from mslab.config.resolve import precision  # imported here, since pydantic imports slowly

    amp_level = precision(amp_level, device)
    if amp_level != "O0" and device == "cpu":
        raise DeviceError(
            f"amp_level: {amp_level} on a CPU: it has no float16 arithmetic, and training would only become slower.",
            expected="amp_level: O0 on a CPU; O2 or O3 on Ascend or a GPU",
            fix="amp_level=O0",
        )
    calls: list[tuple[str, dict[str, Any]]] = [("set_context", {"mode": 0 if mode == "graph" else 1})]
    calls.append(("set_device", {"device_target": NAMES[device]}))  # each worker of msrun gets its own device
    if max_device_memory:
        calls.append(("runtime.set_memory", {"max_size": max_device_memory}))
    if jit_level != "auto":
        calls.append(("set_context", {"jit_config": {"jit_level": jit_level}}))
    if deterministic and device != "cpu":  # a CPU repeats bit for bit anyway; has to precede communication.init
        calls.append(("set_deterministic", {"deterministic": True}))
    if workers > 1:
        calls.append(("communication.init", {}))
    # every random source that training uses: MindSpore's, NumPy's global one with it, and the dataset pipeline's
    return [*calls, ("set_seed", {"seed": seed}), ("dataset.config.set_seed", {"seed": seed})]


def setup_of(settings: "Settings", device: str) -> dict[str, Any]:
    """Return the arguments of setup_calls from a run's settings, for this device."""
    return {name: getattr(settings, name) for name in SETTINGS} | {"device": device}


def start(device: str, mode: str, seed: int, **more: Any) -> str:
    """Choose a device and start MindSpore on it. `more`: arguments of setup_calls. Returns "cpu", "gpu" or "ascend".

    Raises DeviceError if the device is missing or does not work.
    """
    chosen = choose_device(device)
    start_chosen(chosen, mode, seed, **more)
    return chosen


def start_chosen(device: str, mode: str, seed: int, **more: Any) -> None:
    """Start MindSpore on a device that choose_device has tried."""
    if not version("mindspore"):
        raise DeviceError(
            "MindSpore is not installed.", expected="MindSpore 2.7 to 2.10", fix=pip_install("mindspore==2.8.0")
        )
    refuse_numpy2()
    if release(version("mindspore")) >= (2, 9):
        isa = os.environ.get("ONEDNN_MAX_CPU_ISA", "no limit")
        log.info("note: MindSpore %s (CPU instructions: %s); 2.8.0 was faster on a CPU", version("mindspore"), isa)
    set_up(setup_calls(device, mode, seed, **more))


_deterministic: list[bool] = []  # not empty once set_deterministic was called


def set_up(calls: list[tuple[str, dict[str, Any]]]) -> None:
    """Execute the calls that setup_calls returns."""
    import mindspore as ms
    import mindspore.communication

    for name, arguments in calls:
        if arguments == {"device_target": "CPU"} and ms.get_context("device_target") == "CPU":
            continue  # MindSpore refuses to set the device again after an operator has run on it
        if name == "set_deterministic":
            if _deterministic:
                continue  # MindSpore refuses a second time
            _deterministic.append(True)
        operator.attrgetter(name)(ms)(**arguments)


def choose_device(requested: str) -> str:
    """Return the requested device, or for "auto" the best that works; a child process tries it. Raises DeviceError."""
    if requested == "auto":
        chosen, refused = best_device()
        for device, reason in refused.items():
            if not reason.startswith(NO_DRIVER):  # most machines have none: doctor reports it, training does not
                log.info("device: %s is not used: %s", device, reason)
        return chosen
    refuse(requested, "" if requested == "cpu" else device_problem(requested))
    return requested


def best_device() -> tuple[str, dict[str, str]]:
    """Return (the device for `device: auto`, {each better device: reason why it is not used})."""
    refused = {}
    for device in ("ascend", "gpu"):
        refused[device] = device_problem(device)
        if not refused[device]:
            return device, {name: reason for name, reason in refused.items() if reason}
    return "cpu", refused


def refuse(device: str, reason: str) -> None:
    """Raise DeviceError if there is a reason."""
    if reason:
        raise DeviceError(
            f"device: {device} cannot be used here: {reason}.",
            expected="a driver, its libraries, and a MindSpore built for them",
            fix="set device: cpu, or device: auto for the best that works; mslab doctor shows more",
        )


def missing_driver(device: str) -> str:
    """Return what the device is missing as far as it shows without starting MindSpore, or ""."""
    if device in ("auto", "cpu"):
        return ""
    if device not in DRIVERS:
        return f"mslab supports auto, cpu, {' and '.join(DRIVERS)}"
    if not any(cuda.exists(mark) for mark in DRIVERS[device]):
        return f"{NO_DRIVER} ({', '.join(DRIVERS[device])}: none exists)"
    if device == "gpu" and "CUDA_HOME" not in os.environ:  # MindSpore then does not look for a GPU at all
        return "; ".join(cuda.gpu_problem(cuda.libraries(), "", ""))
    return ""


def device_problem(device: str) -> str:
    """Return why the device cannot be used, or "". A child process tries it: a broken driver may crash the process."""
    if reason := missing_driver(device):
        return reason
    command = [sys.executable, "-c", TRY_DEVICE.format(device=NAMES[device])]
    try:
        tried = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120)
    except subprocess.TimeoutExpired:
        return "a first addition on it took more than 120 s"
    if tried.returncode == 0 and "works: 2.0" in tried.stdout:
        return ""
    if device == "gpu" and any(
        reasons := cuda.gpu_problem(cuda.libraries(), cuda.nvcc_release(), os.environ["CUDA_HOME"])
    ):
        return "; ".join(reasons)
    return error_line(tried.stderr, device) or f"the process that tried it ended with exit code {tried.returncode}"


def error_line(text: str, device: str) -> str:
    """Return the line of MindSpore's output that names the problem: a library it could not load, or its last error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    loading = [line for line in lines if line.startswith(f"Load dynamic library: libmindspore_{device}")]
    errors = [line for line in lines if "Error" in line]
    candidates = [*lines[-1:], *errors[-1:], *loading[-1:]]
    return candidates[-1].removeprefix("RuntimeError: ")[:200].rstrip(".") if candidates else ""


def workers(requested: int) -> int:
    """Return the requested number, at most one per core: MindSpore refuses more."""
    from mslab.check import cores

    return max(1, min(requested, cores()))
