"""Which device trains, what MindSpore is told at its start, and why a device cannot be used.

Importing this module does not import MindSpore.
"""

import operator
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from mslab.errors import DeviceError
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
DRIVERS = {  # what a machine with the device has; looked for first, since asking MindSpore takes seconds
    "gpu": cuda.DRIVER,
    "ascend": ("/dev/davinci_manager", "/dev/davinci0", "/usr/local/Ascend"),
}
NO_DRIVER = "no driver"
NAMES = {"cpu": "CPU", "gpu": "GPU", "ascend": "Ascend"}
# what a setup_calls depends on
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
    """The calls of `mindspore` that set it up, in their order: what `start` makes, and what a dry run prints.

    Raises DeviceError where the device cannot do what is asked.
    """
    from mslab.config.resolve import precision  # only here: pydantic takes its time

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


def setup_of(settings: "Settings", device: str) -> dict[str, Any]:
    """What setup_calls takes of a run's settings, on this device."""
    return {name: getattr(settings, name) for name in SETTINGS} | {"device": device}


def start(device: str, mode: str, seed: int, **more: Any) -> str:
    """Choose a device and start MindSpore on it; setup_calls' arguments. Returns "cpu", "gpu" or "ascend".

    Raises DeviceError where the device is not there or does not work.
    """
    chosen = choose_device(device)
    start_chosen(chosen, mode, seed, **more)
    return chosen


def start_chosen(device: str, mode: str, seed: int, **more: Any) -> None:
    """Start MindSpore on a device that choose_device has found to work."""
    if not version("mindspore"):
        raise DeviceError(
            "MindSpore is not installed.", expected="MindSpore 2.7 to 2.10", fix="pip install mindspore==2.8.0"
        )
    refuse_numpy2()
    if release(version("mindspore")) >= (2, 9):
        isa = os.environ.get("ONEDNN_MAX_CPU_ISA", "as it is")
        log.info("note: MindSpore %s (CPU instructions: %s); 2.8.0 was faster on a CPU", version("mindspore"), isa)
    set_up(setup_calls(device, mode, seed, **more))


_deterministic: list[bool] = []  # holds one where set_deterministic was called


def set_up(calls: list[tuple[str, dict[str, Any]]]) -> None:
    """Make the calls of a setup_calls."""
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
                log.info("device: %s not taken: %s", device, reason)
        return taken
    refuse(wanted, "" if wanted == "cpu" else device_problem(wanted))
    return wanted


def best_device() -> tuple[str, dict[str, str]]:
    """(what `device: auto` takes, {each better device: why it is not taken})."""
    refused = {}
    for device in ("ascend", "gpu"):
        refused[device] = device_problem(device)
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


def missing_driver(device: str) -> str:
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


def device_problem(device: str) -> str:
    """Why the device cannot be used, in one line, or "". A child process tries it: a broken driver must not end us."""
    if reason := missing_driver(device):
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
