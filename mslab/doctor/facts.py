"""Facts about this machine, gathered in one place. Nothing is judged here, and MindSpore is not imported."""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mslab import weights
from mslab.check import cores
from mslab.check.limits import available_memory as memory
from mslab.runtime import compiling, cuda, devices, importing, packages, versions
from mslab.runtime.versions import first_group, read_text

PACKAGES = "PIL easydict jinja2 matplotlib numpy onnx onnxruntime openvino optuna psutil pydantic rich scipy sklearn "
PACKAGES += "torch typer yaml"
VARIABLES = ("CUDA_HOME", "ONEDNN_MAX_CPU_ISA", "ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME")


@dataclass
class MachineFacts:
    """All that the rules read. Sizes in bytes, times in seconds."""

    python: str
    mindspore: str  # "" if it is not installed
    numpy: str
    device: str  # that `device: auto` chooses
    refused: dict[str, str]  # better device -> why it is not chosen
    environ: dict[str, str]  # those of VARIABLES that are set
    gpu_driver: bool
    gpus: list[dict[str, str]]  # name, capability, driver of each, from nvidia-smi
    cuda_release: str  # that CUDA_HOME's nvcc reports
    libraries: list[cuda.Library]
    ascend_driver: str  # its version, "?" if it reports none, "" if there is no driver
    cann: str  # "8.5"; "" if none is found
    cann_accepted: list[str]  # by this MindSpore
    cpu: str
    flags: str  # the CPU's instruction sets, as /proc/cpuinfo lists them
    cores: int
    memory: int  # that a process can still use, within the limit of its container; 0 if unknown
    here: str  # the folder for runs
    cache: str
    free: dict[str, int]  # free disk space of these two
    unwritable: dict[str, str]  # those of the two that cannot be written to -> why
    weights: str = ""  # the folder of published weights, if it is there or MSLAB_WEIGHTS names it
    weights_here: tuple[int, int] = (0, 0)  # published files in it, and their bytes
    weights_problem: str = ""  # why there is nothing at MSLAB_WEIGHTS
    speed: dict[str, float] = field(default_factory=dict)  # from timing.time_training()
    trouble: str = ""  # why the speed could not be measured
    not_compiled: tuple[str, str] = ("", "")  # why BatchNorm cannot be compiled, fix
    engines: dict[str, str] = field(default_factory=dict)  # onnx, onnxruntime, openvino -> version, "" if missing
    packages: dict[str, str] = field(default_factory=dict)  # that own mindspore/ -> version; more than one is wrong
    import_problem: tuple[str, str, str] = (
        "",
        "",
        "",
    )  # why MindSpore and scikit-learn cannot be imported, expected, fix
    foreign_cuda: list[str] = field(default_factory=list)  # libnvrtc of other releases on LD_LIBRARY_PATH
    hiding: list[str] = field(default_factory=list)  # files of this folder with the name of a Python module


def gather(environ: Mapping[str, str] = os.environ, here: Path | None = None, root: Path = Path("/")) -> MachineFacts:
    """Gather everything but the speed. `root` is the parent of proc, sys, dev and usr."""
    device, refused = devices.best_device()
    info = read_text(root / "proc/cpuinfo")
    folders = {"here": here or Path.cwd(), "cache": cuda.cache_folder(environ)}
    return MachineFacts(
        python=platform.python_version(),
        mindspore=versions.version("mindspore"),
        numpy=versions.version("numpy"),
        device=device,
        refused=refused,
        environ={name: environ[name] for name in VARIABLES if name in environ},
        gpu_driver=cuda.has_driver(),
        gpus=gpus(),
        cuda_release=cuda.nvcc_release(environ),
        libraries=cuda.libraries(),
        ascend_driver=ascend_driver(root),
        cann=cann(environ, root),
        cann_accepted=cann_accepted(),
        cpu=first_group(r"model name\s*: (.*)", info) or platform.machine(),
        flags=first_group(r"flags\s*: (.*)", info),
        cores=cores(root),
        memory=memory(root),
        here=str(folders["here"]),
        cache=str(folders["cache"]),
        packages=importing.packages(),
        not_compiled=compiling.library()[1:],
        engines={name: versions.version(name) for name in packages.PACKAGES},
        foreign_cuda=foreign_cuda(environ),
        hiding=hiding(folders["here"]),
        **published(),
        free={str(folder): free_space(folder) for folder in folders.values()},
        unwritable={str(folder): reason for folder in folders.values() if (reason := write_problem(folder))},
    )


def published() -> dict[str, Any]:
    """The folder of published weights, and what is in it; {} for the usual folder that was never used."""
    folder = weights.folder()
    if not folder.is_dir():
        named = weights.FOLDER in os.environ
        return {"weights": str(folder), "weights_problem": "there is no such folder"} if named else {}
    return {"weights": str(folder), "weights_here": weights.here()}


def foreign_cuda(environ: Mapping[str, str]) -> list[str]:
    """Files of another CUDA's run-time compiler in folders that the loader searches before all others."""
    folders = [Path(path) for path in environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if path]
    files = (file for folder in folders for file in sorted(folder.glob("libnvrtc.so.*")))
    return [str(file) for file in files if not file.name.startswith("libnvrtc.so.11")]


def hiding(folder: Path) -> list[str]:
    """Files of a folder that Python takes for modules of their names, as in a notebook and with python -c."""
    names = {*sys.stdlib_module_names, *PACKAGES.split()}
    return sorted(str(file) for file in folder.glob("*.py") if file.stem in names)


def gpus() -> list[dict[str, str]]:
    command = ["nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in output.splitlines()]
    return [dict(zip(("name", "capability", "driver"), row, strict=True)) for row in rows if len(row) == 3]


def ascend_driver(root: Path) -> str:
    version = first_group(r"(?m)^Version=(.*)", read_text(root / "usr/local/Ascend/driver/version.info"))
    return version or ("?" if (root / "dev/davinci_manager").exists() or (root / "dev/davinci0").exists() else "")


def cann(environ: Mapping[str, str], root: Path) -> str:
    """CANN's version from the file that MindSpore reads, in the folder set by set_env.sh or the usual one."""
    homes = [environ[name] for name in ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME") if environ.get(name)]
    homes.append(str(root / "usr/local/Ascend/ascend-toolkit/latest"))
    texts = (read_text(Path(home) / "compiler" / "version.info") for home in homes)
    return next((version for text in texts if (version := first_group(r"(?m)^Version=(\d+\.\d+)", text))), "")


def cann_accepted() -> list[str]:
    """The versions listed in the installed MindSpore's own check, which only warns about others."""
    spec = importlib.util.find_spec("mindspore")  # located, not imported
    file = Path(str(spec.origin)).parent / "run_check" / "_check_version.py" if spec else Path("/nowhere")
    return re.findall(r"\d+\.\d+", first_group(r"class Ascend[\s\S]*?self\.version = \[(.*?)\]", read_text(file)))


def free_space(folder: Path) -> int:
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def write_problem(folder: Path) -> str:
    """Try to write to the folder. Returns why that fails, or ""."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"mslab")
    except OSError as error:
        return error.strerror or str(error)
    return ""
