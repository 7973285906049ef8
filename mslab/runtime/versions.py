"""Installed versions, and environment variables that have to be set before MindSpore starts. Imports no MindSpore."""

import os
import platform
import re
import subprocess
from collections.abc import MutableMapping
from importlib import metadata
from pathlib import Path
from typing import Any

from mslab.errors import DeviceError
from mslab.escaping import pip_install
from mslab.runtime import cuda, importing
from mslab.runtime.console import log


def version(package: str) -> str:
    """Return the installed version, or "" if the package is not installed. Imports nothing."""
    if package == "mindspore":  # some images have it under another name, such as mindspore-ascend
        return next(iter(importing.packages().values()), "")
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def release(text: str) -> tuple[int, ...]:
    """release("2.10.0rc1") -> (2, 10, 0)"""
    return tuple(int(part) for part in re.match(r"[\d.]*", text)[0].strip(".").split(".") if part)  # type: ignore[index]


def set_environment(environ: MutableMapping[str, str] = os.environ, mindspore: str = "", cpu_flags: str = "") -> None:
    """Set variables that MindSpore needs before its first operator; the user's own values stay."""
    mindspore = mindspore or version("mindspore")
    # on a CPU with AVX-512, oneDNN 3 runs k x k convolutions on its scalar reference kernel: 100 times slower
    if release(mindspore) >= (2, 9) and "avx512" in (cpu_flags or read_text(Path("/proc/cpuinfo"))):
        environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
    # MindSpore's compile cache silently runs graphs of other settings
    if environ.get("MS_COMPILER_CACHE_ENABLE", "0") not in ("", "0"):
        log.warning("note: MS_COMPILER_CACHE_ENABLE is set; mslab turns it off, because the cache runs outdated graphs")
    environ["MS_COMPILER_CACHE_ENABLE"] = "0"
    # MindSpore cannot be imported after tensorboardX or onnx if these have loaded protobuf's fast code
    environ["ORT_DISABLE_TELEMETRY"] = "1"  # onnxruntime 1.32 would send usage data to its maker
    environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
    cuda.prepare(environ)


def refuse_numpy2(numpy: str = "", mindspore: str = "") -> None:
    """Raise DeviceError if NumPy 2 is installed, with which MindSpore's first addition crashes."""
    numpy, mindspore = numpy or version("numpy"), mindspore or version("mindspore")
    if release(numpy) >= (2,):
        raise DeviceError(
            f"NumPy {numpy} is installed; MindSpore {mindspore} accepts it, but crashes in its first addition.",
            expected="NumPy 1.x",
            fix=pip_install("numpy<2"),
        )


def read_text(file: Path) -> str:
    """Return the text of a system file, or "" if it cannot be read."""
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def first_group(pattern: str, text: str) -> str:
    """Return the first match's group, or ""."""
    match = re.search(pattern, text)
    return match[1].strip() if match else ""


def versions() -> dict[str, str]:
    """Return the versions that the manifest records."""
    packages = ("mslab", "mindspore", "numpy", "pillow", "scikit-learn", "pydantic")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def git_state() -> dict[str, Any] | None:
    """Return commit and uncommitted changes of the running mslab; None if it is not a git checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parents[1]), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # an installed mslab may lie inside some other repository
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--", "."))}
    except (OSError, subprocess.SubprocessError):
        return None
