"""pip's CUDA libraries: MindSpore's GPU plugin finds them, and nothing changes if they are of no use."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import PROJECT, without_roots_rights
from PIL import _imagingmath

from mslab.runtime import cuda

PREPARED = """
import os, sys
from mslab.runtime import cuda
cuda.DRIVER, sys.path = (sys.argv[1],), sys.argv[2:]
environ = {name: value for name, value in os.environ.items() if name in ("CUDA_HOME", "XDG_CACHE_HOME")}
cuda.prepare(environ)
print(environ.get("CUDA_HOME"), environ.get("LD_LIBRARY_PATH"), cuda.nvcc_release(environ))
"""


@pytest.fixture
def wheels(tmp_path):
    """A folder for PYTHONPATH with every library where pip installs it; each is some shared library."""
    for soname, package in cuda.LIBRARIES.items():
        folder = tmp_path / "site" / "nvidia" / package.removeprefix("nvidia-").removesuffix("-cu11") / "lib"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(_imagingmath.__file__, folder / soname)
    return tmp_path / "site"


def prepared(cache: Path, driver: str, path: Path | str = "", rights: bool = True, **environ: str) -> list[str]:
    """Return [CUDA_HOME, LD_LIBRARY_PATH, release] after prepare() in a separate process."""
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_HOME"} | environ
    environment |= {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", PREPARED, driver, str(path)]
    drop = None if rights else without_roots_rights
    done = subprocess.run(command, env=environment, capture_output=True, text=True, preexec_fn=drop)
    assert done.returncode == 0 and done.stderr == ""
    return done.stdout.rstrip("\n").split(" ")


def test_the_extra_pins_exactly_the_packages_that_contain_the_libraries():
    text = (PROJECT / "pyproject.toml").read_text()
    extra = re.findall(r'"(.*)"', re.search(r"^gpu = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE)[1])
    assert {pin.split("==")[0] for pin in extra} == set(cuda.LIBRARIES.values())
    assert all(re.fullmatch(r"[a-z0-9-]+==[\d.]+", pin) for pin in extra)


def test_nothing_changes_without_the_wheels_or_without_a_driver(tmp_path, wheels):
    assert prepared(tmp_path / "cache", driver="/") == ["None", "None", ""]
    assert prepared(tmp_path / "cache", driver="/nowhere", path=wheels) == ["None", "None", ""]
    (wheels / "nvidia" / "cudnn" / "lib" / "libcudnn.so.8").unlink()
    assert prepared(tmp_path / "cache", driver="/", path=wheels) == ["None", "None", ""]
    assert not (tmp_path / "cache").exists()


def test_with_both_a_cuda_home_is_created_that_mindspore_accepts(tmp_path, wheels):
    home = tmp_path / "cache" / "mslab" / "cuda-11.6"
    for _ in range(2):  # the second time it exists already
        assert prepared(tmp_path / "cache", driver="/", path=wheels) == [str(home), f"{home}/lib64", "11.6"]
    assert {file.name for file in (home / "lib64").iterdir()} == {*cuda.LIBRARIES, cuda.RUNTIME}
    assert all(file.resolve().is_relative_to(wheels) for file in (home / "lib64").iterdir())
    moved = wheels.rename(tmp_path / "elsewhere")  # another environment's wheels, the same cache
    prepared(tmp_path / "cache", driver="/", path=moved)
    assert all(file.resolve().is_relative_to(moved) for file in (home / "lib64").iterdir())


def test_a_process_started_by_mslab_uses_the_same_home_and_the_users_own_stays(tmp_path, wheels):
    home = str(tmp_path / "cache" / "mslab" / "cuda-11.6")
    assert prepared(tmp_path / "cache", driver="/", path=wheels, CUDA_HOME=home)[0] == home
    assert prepared(tmp_path / "other", driver="/", path=wheels, CUDA_HOME="/opt/cuda") == ["/opt/cuda", "None", ""]
    assert not (tmp_path / "other").exists()


def test_a_cache_that_cannot_be_written_is_not_an_error(tmp_path, wheels):
    (tmp_path / "cache").mkdir(mode=0o555)
    assert prepared(tmp_path / "cache", driver="/", path=wheels, rights=False) == ["None", "None", ""]


def test_each_library_is_listed_with_its_location_or_its_package(wheels):
    folders = sorted((wheels / "nvidia").glob("*/lib"))
    (wheels / "nvidia" / "cudnn" / "lib" / "libcudnn.so.8").unlink()
    rows = {library.soname: library for library in cuda.libraries(folders)}
    assert set(rows) == {*cuda.LIBRARIES, *cuda.SYSTEM}
    assert rows["libcufft.so.10"].location == str(wheels / "nvidia" / "cufft" / "lib")
    assert rows["libcudnn.so.8"] == cuda.Library("libcudnn.so.8", "nvidia-cudnn-cu11", "")


@pytest.mark.parametrize(
    "missing,release,home,expected",
    [
        (["libcudnn.so.8"], "", "", "(1, such as libcudnn.so.8) pip install 'mslab[gpu]'"),
        (["libcuda.so.1"], "11.6", "/c", "libcuda.so.1 cannot be loaded install the NVIDIA driver"),
        (["libz.so.1"], "11.6", "/c", "libz.so.1 is missing, which cuDNN loads apt install zlib1g"),
        ([], "", "", "CUDA_HOME is not set"),
        ([], "12.4", "/usr/local/cuda", "CUDA_HOME=/usr/local/cuda has CUDA 12.4; MindSpore accepts 11.1 to 11.8"),
        ([], "", "/c", "CUDA_HOME=/c has no bin/nvcc that prints its release"),
        ([], "11.8", "/c", " "),
    ],
)
def test_a_gpu_problem_comes_with_its_fix(missing, release, home, expected):
    packages = cuda.LIBRARIES | cuda.SYSTEM
    rows = [cuda.Library(name, package, "" if name in missing else "/l") for name, package in packages.items()]
    assert expected in " ".join(cuda.gpu_problem(rows, release, home))


# --- with the wheels: MSLAB_GPU_PYTHON names a Python that has mslab[gpu] installed -----------------------------------
