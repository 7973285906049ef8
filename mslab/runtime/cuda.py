"""Find the CUDA libraries that MindSpore's GPU plugin needs, and make it find those that pip has installed.

MindSpore loads its plugin during its import, and only if `$CUDA_HOME/bin/nvcc --version` prints CUDA 11. pip's
nvidia-*-cu11 wheels bring the libraries, but no nvcc, in folders that the loader does not search. So prepare(), before
MindSpore is imported, creates a CUDA_HOME with an nvcc of two lines and links to the libraries, and loads them.
"""

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mslab.escaping import pip_install
from mslab.files import replace_atomically

DRIVER = ("/dev/nvidiactl", "/dev/nvidia0", "/proc/driver/nvidia/version", "libcuda.so.1")
LIBRARIES = {  # soname -> pip's package; a library follows those it depends on
    "libcudart.so.11.0": "nvidia-cuda-runtime-cu11",
    "libnvrtc.so.11.2": "nvidia-cuda-nvrtc-cu11",
    "libcublasLt.so.11": "nvidia-cublas-cu11",
    "libcublas.so.11": "nvidia-cublas-cu11",
    "libcudnn.so.8": "nvidia-cudnn-cu11",
    "libcufft.so.10": "nvidia-cufft-cu11",
    "libcurand.so.10": "nvidia-curand-cu11",
    "libcusparse.so.11": "nvidia-cusparse-cu11",
    "libcusolver.so.11": "nvidia-cusolver-cu11",
}
SYSTEM = {"libcuda.so.1": "the NVIDIA driver", "libz.so.1": "zlib1g, of the system"}  # cuDNN depends on zlib
INSTALL = "pip install 'mslab[gpu]'"
if pip_install("mslab[gpu]") != INSTALL:  # another pip comes first on PATH
    INSTALL += f" (here: {pip_install('mslab[gpu]')})"
ACCEPTED = "11.1 to 11.8"  # releases of CUDA; the plugin for 12 was never built
NVCC = '#!/bin/sh\necho "Cuda compilation tools, release 11.6, V11.6.124"\n'
RUNTIME = "libcudart.so.11.6.55"  # MindSpore reads the release from the name of such a file


@dataclass(frozen=True)
class Library:
    soname: str
    package: str  # that contains it
    location: str  # its folder, "the loader's path", or "" if it is missing


def exists(mark: str) -> bool:
    """Return whether the file exists or, for a name without a path, whether the loader finds that library."""
    return Path(mark).exists() if mark.startswith("/") else loads(mark)


def loads(library: str) -> bool:
    try:
        ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def has_driver() -> bool:
    return any(exists(mark) for mark in DRIVER)


def wheel_folders() -> list[Path]:
    """Return the lib folders of pip's nvidia packages in all of sys.path."""
    return [folder for path in sys.path if path for folder in sorted(Path(path).glob("nvidia/*/lib"))]


def libraries(folders: Sequence[Path] | None = None) -> list[Library]:
    """Return each library that the plugin needs with its location: in pip's `folders`, or on the loader's path."""
    folders = wheel_folders() if folders is None else folders
    rows = []
    for soname, package in (LIBRARIES | SYSTEM).items():
        folder = next((str(folder) for folder in folders if (folder / soname).exists()), "")
        rows.append(Library(soname, package, folder or ("the loader's path" if loads(soname) else "")))
    return rows


def gpu_problem(rows: Sequence[Library], release: str, home: str) -> tuple[str, str]:
    """Return (what MindSpore's GPU plugin is missing, fix), or ("", ""). `release` is that of CUDA_HOME, `home`."""
    missing = [library for library in rows if not library.location]
    wheels = [library.soname for library in missing if library.soname in LIBRARIES]
    if wheels:
        return f"CUDA libraries that MindSpore loads are missing ({len(wheels)}, such as {wheels[0]})", INSTALL
    if missing and missing[0].soname == "libcuda.so.1":
        text = "the driver's libcuda.so.1 cannot be loaded"
        return text, "install the NVIDIA driver; in a container: start it with --gpus all"
    if missing:
        return f"{missing[0].soname} is missing, which cuDNN loads", "apt install zlib1g"
    if not home:
        return "CUDA_HOME is not set, so MindSpore does not look for a GPU", (
            f"{INSTALL}; if it is installed, make sure that ~/.cache/mslab is writable. "
            "Or set CUDA_HOME to an installed CUDA 11.8 that contains bin/nvcc"
        )
    if not is_accepted(release):
        content = f"CUDA {release}" if release else "no bin/nvcc that prints its release"
        return f"CUDA_HOME={home} has {content}; MindSpore accepts {ACCEPTED}", (
            f"{INSTALL} and unset CUDA_HOME, which mslab then sets; or set it to a CUDA 11.8"
        )
    return "", ""


def is_accepted(release: str) -> bool:
    """is_accepted("11.8") -> True, is_accepted("12.1") -> False"""
    return release.startswith("11.") and release != "11.0"


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder for files that mslab can recreate."""
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mslab"


def prepare(environ: MutableMapping[str, str] = os.environ) -> None:
    """Make MindSpore, which is imported later, find pip's CUDA libraries. Logs nothing.

    Does nothing without a driver, without the wheels, or if the user's own CUDA_HOME selects another CUDA.
    """
    files = wheel_files()
    if len(files) < len(LIBRARIES) or not has_driver():
        return
    with suppress(OSError, RuntimeError):  # without a writable cache the GPU is not used, and doctor reports why
        home = cache_folder(environ) / "cuda-11.6"
        if environ.get("CUDA_HOME", str(home)) != str(home) or not all(loads(str(file)) for file in files):
            return
        make_home(home, files)
        environ["CUDA_HOME"] = str(home)
        paths = [path for path in environ.get("LD_LIBRARY_PATH", "").split(":") if path]
        if str(home / "lib64") not in paths:  # MindSpore checks its libraries with ldd
            environ["LD_LIBRARY_PATH"] = ":".join([str(home / "lib64"), *paths])


def wheel_files() -> list[Path]:
    """Return the files of LIBRARIES that pip has installed, in the order in which they have to be loaded."""
    folders = wheel_folders()
    files = (next((folder / name for folder in folders if (folder / name).exists()), None) for name in LIBRARIES)
    return [file for file in files if file]


def make_home(home: Path, files: Sequence[Path]) -> None:
    """Create bin/nvcc and lib64/ with links to `files`, each atomically: other processes may be using it."""
    nvcc = home / "bin" / "nvcc"
    links = {home / "lib64" / file.name: file for file in files}
    links[home / "lib64" / RUNTIME] = files[0]
    for folder in (nvcc.parent, home / "lib64"):
        folder.mkdir(parents=True, exist_ok=True)
    if not (nvcc.exists() and nvcc.read_text() == NVCC and os.access(nvcc, os.X_OK)):
        replace_atomically(nvcc, write_nvcc)
    for link, file in links.items():
        if not (link.is_symlink() and link.readlink() == file):
            beside = link.with_name(f"{link.name}-{os.getpid()}")
            beside.symlink_to(file)
            beside.replace(link)


def write_nvcc(file: IO[bytes]) -> None:
    file.write(NVCC.encode())
    os.fchmod(file.fileno(), 0o755)


def nvcc_release(environ: Mapping[str, str] = os.environ) -> str:
    """Return the CUDA release that MindSpore would read from $CUDA_HOME/bin/nvcc, or ""."""
    try:
        command = [f"{environ['CUDA_HOME']}/bin/nvcc", "--version"]
        output = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=10).stdout
    except (KeyError, OSError, subprocess.TimeoutExpired):
        return ""
    match = re.search(r"release (\d+\.\d+)", output)
    return match[1] if match else ""
