"""What is installed, and what has to be set before MindSpore starts. Imports no MindSpore."""

import os
import platform
import re
from collections.abc import MutableMapping
from importlib import metadata
from pathlib import Path

from mslab.errors import DeviceError
from mslab.runtime import cuda
from mslab.runtime.console import log


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
    if release(mindspore) >= (2, 9) and "avx512" in (cpu_flags or read(Path("/proc/cpuinfo"))):
        environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
    # MindSpore's compile cache runs the graph of another setting without a word
    if environ.get("MS_COMPILER_CACHE_ENABLE", "0") not in ("", "0"):
        log.warning("note: MS_COMPILER_CACHE_ENABLE is set; mslab turns it off, the cache runs outdated graphs")
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


def versions() -> dict[str, str]:
    """What the manifest notes of the installation."""
    packages = ("mslab", "mindspore", "numpy", "pillow", "scikit-learn", "pydantic")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
