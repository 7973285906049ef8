"""MindSpore's GPU plugin and pip's CUDA libraries: MSLAB_GPU_PYTHON names a Python that has mslab[gpu] installed."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers import PROJECT

from mslab.runtime import cuda

DRIVERS_CALLS = "cuDeviceGetAttribute cuGetErrorName cuLaunchKernel cuModuleGetFunction cuModuleLoadDataEx "
DRIVERS_CALLS += "cuModuleUnload cuStreamSynchronize"  # functions of libcuda.so.1 that the plugin itself calls
ON_A_GPU = """
import mslab
import mindspore as ms
print([line.split()[-1] for line in open("/proc/self/maps") if "r-xp" in line])
ms.set_device("GPU")
print("device set")
(ms.Tensor([1.0]) + 1).asnumpy()
"""


@pytest.fixture(scope="module")
def gpu_python() -> str:
    python = os.environ.get("MSLAB_GPU_PYTHON")
    if not python:
        pytest.skip("MSLAB_GPU_PYTHON does not name a Python with mslab[gpu]")
    return python


def test_the_plugin_finds_all_but_the_driver_in_the_wheels(gpu_python):
    script = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([gpu_python, "-c", script], capture_output=True, text=True).stdout.strip())
    plugin = site / "mindspore" / "lib" / "plugin" / "libmindspore_gpu.so.11.6"
    folders = ":".join(str(folder) for folder in sorted((site / "nvidia").glob("*/lib")))

    def missing(environ):
        output = subprocess.run(["ldd", str(plugin)], env=os.environ | environ, capture_output=True, text=True).stdout
        return set(re.findall(r"(\S+) => not found", output))

    assert missing({"LD_LIBRARY_PATH": folders}) <= {"libcuda.so.1"}
    needed = set(cuda.LIBRARIES) - {"libcublasLt.so.11"}  # libcublas.so.11 loads it
    assert missing({}) - {"libcuda.so.1"} == needed


def test_mindspore_loads_the_plugin_and_only_misses_a_gpu(gpu_python, tmp_path):
    """The test builds its own driver library, in which every call fails, and so MindSpore's first operator fails."""
    if not shutil.which("gcc") or cuda.has_driver():
        pytest.skip("needs gcc, and a machine without an NVIDIA driver")
    calls = "".join(f"int {name}(void) {{ return 100; }}\n" for name in DRIVERS_CALLS.split())
    (tmp_path / "driver.c").write_text(calls)
    library = ["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", "libcuda.so.1", "driver.c"]
    subprocess.run(["gcc", *library], cwd=tmp_path, check=True)
    environ = {name: value for name, value in os.environ.items() if name != "CUDA_HOME"}
    environ |= {"LD_LIBRARY_PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(PROJECT)}
    done = subprocess.run([gpu_python, "-c", ON_A_GPU], env=environ, capture_output=True, text=True, timeout=300)
    for soname in ["libmindspore_gpu.so.11.6", *cuda.LIBRARIES]:
        assert f"/{soname}'" in done.stdout, f"{soname} is not loaded"
    assert "device set" in done.stdout and done.stderr.startswith("Traceback"), "nothing was printed before"
    assert "CUDA driver version is insufficient" in done.stderr
