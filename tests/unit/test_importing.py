"""MindSpore's import fails in many ways: each ends in one message, in training and in doctor, none in a traceback."""

import os
import re
import subprocess
import sys

import pytest
from helpers import PROGRAM

from mslab.errors import explain
from mslab.runtime import importing, versions

LIB = "/env/lib/python3.11/site-packages/mindspore/lib/libmindspore_core.so"
NO_FILE = "cannot open shared object file: No such file or directory"
TEXTS = {  # an error's text -> what has to be in the message, and in its fix
    f"ImportError: /lib64/libc.so.6: version `GLIBC_2.34' not found (required by {LIB})": ("GLIBC_2.34", "newer Linux"),
    f"ImportError: /lib/libm.so.6: version `GLIBC_2.29' not found (required by {LIB})": ("GLIBC_2.29", "newer Linux"),
    f"ImportError: /c/bin/../lib/libstdc++.so.6: version `GLIBCXX_3.4.29' not found (required by {LIB})": (
        "GLIBCXX_3.4.29",
        "libstdcxx-ng",
    ),
    f"ImportError: /c/lib/libstdc++.so.6: version `CXXABI_1.3.13' not found (required by {LIB})": ("CXXABI", "conda"),
    f"ImportError: libcudnn.so.8: {NO_FILE}": ("libcudnn.so.8", "mslab[gpu]"),
    f"ImportError: libcuda.so.1: {NO_FILE}": ("libcuda.so.1", "mslab[gpu]"),
    "OSError: libnvrtc.so.12: undefined symbol: nvrtcGetCUBIN": ("another CUDA", "LD_LIBRARY_PATH"),
    f"ImportError: {LIB}: undefined symbol: cudnnSetTensor": ("another CUDA", "LD_LIBRARY_PATH"),
    "ImportError: /env/libgomp-d22c30c5.so.1.0.0: cannot allocate memory in static TLS block": (
        "/env/libgomp-d22c30c5.so.1.0.0 was loaded too late",
        "LD_PRELOAD=/env/libgomp-d22c30c5.so.1.0.0",
    ),
    "ImportError: numpy.core.multiarray failed to import": ("NumPy", "pip install 'numpy<2'"),
    "TypeError: Descriptors cannot be created directly.\nIf this call came from a _pb2.py file": ("protobuf", "unset "),
    "ImportError: cannot import name 'builder' from 'google.protobuf.internal'": ("protobuf", "unset "),
    f"ImportError: Error loading shared library ld-linux-x86-64.so.2: {NO_FILE}": ("Alpine", "slim-bookworm"),
    f"ImportError: Error relocating {LIB}: __memcpy_chk: symbol not found": ("Alpine", "slim-bookworm"),
    f"ImportError: {LIB}: invalid ELF header": ("another kind of processor", "--force-reinstall"),
    f"ImportError: {LIB}: file too short": ("not complete", "--force-reinstall"),
    "ModuleNotFoundError: No module named 'mindspore._c_expression'": ("do not belong together", "pip uninstall"),
    f"ImportError: {LIB}: undefined symbol: _ZN9mindspore4core": ("do not belong together", "pip uninstall"),
    "ImportError: cannot import name 'Tensor' from partially initialized module 'mindspore'": ("belong", "uninstall"),
    "ModuleNotFoundError: No module named 'te'": ("package te", "set_env.sh"),
    "ModuleNotFoundError: No module named 'hccl.manage'": ("package hccl", "set_env.sh"),
    f"ImportError: libge_runner.so: {NO_FILE}": ("libge_runner.so, a library of CANN", "set_env.sh"),
    f"ImportError: libascendcl.so: {NO_FILE}": ("a library of CANN", "set_env.sh"),
    f"ImportError: libgomp.so.1: {NO_FILE}": ("library libgomp.so.1 is not", "libgomp1"),
    "ModuleNotFoundError: No module named 'asttokens'": ("package asttokens", "pip install mindspore==2.8.0"),
    f"ImportError: {LIB}: cannot enable executable stack as shared object requires": ("executable stack", "patchelf"),
    "ImportError: libpython3.9.so.1.0: cannot open shared object file": ("another Python's", "pip uninstall"),
    "AttributeError: partially initialized module 'random' has no attribute 'x'": ("random.py, hides", "rename it"),
    'File "/e/site-packages/scipy/__init__.py", line 1\nValueError: numpy.dtype size changed, may indicate binary '
    "incompatibility. Expected 96 from C header, got 88 from PyObject": (
        "scipy is built for a newer NumPy",
        "pip install --force-reinstall --no-cache-dir scipy 'numpy<2'",
    ),
    "  init sklearn/_lib.pyx\nValueError: numpy.ndarray size changed, may indicate binary incompatibility. "
    "Expected 96 from C header, got 88 from PyObject": ("scikit-learn is built for a newer", "scikit-learn 'numpy<2'"),
    "ValueError: numpy.dtype size changed, may indicate binary incompatibility. Expected 88 from C header, "
    "got 96 from PyObject": ("built for an older NumPy", "pip install 'numpy<2'"),
    "ValueError: nobody has seen this": ("It ended with ValueError: nobody has seen this", "--force-reinstall"),
}


@pytest.mark.parametrize("text", TEXTS)
def test_every_known_failure_has_its_cause_and_its_fix(text):
    what, fix = TEXTS[text]
    error = importing.explain_import(text, {"mindspore": "2.8.0"}, "/env/mindspore/__init__.py")
    assert what in error.what and fix in error.fix and error.expected, str(error)
    assert error.what.startswith("MindSpore cannot be imported. ") and "{" not in str(error)
    assert "  error     " in str(error) and "  imported  /env/mindspore/__init__.py" in str(error)


def test_two_packages_in_one_folder_are_the_cause():
    found = {"mindspore": "2.8.0", "mindspore-gpu": "2.2.14"}
    error = importing.explain_import("ImportError: x: undefined symbol: y", found)
    assert "mindspore 2.8.0 and mindspore-gpu 2.2.14 are installed" in error.what
    assert error.fix == "pip uninstall -y mindspore mindspore-gpu; pip install mindspore==2.8.0"


def test_a_mindspore_of_another_name_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert versions.version("mindspore") == ""
    for name in ("mindspore_ascend-2.7.1", "mindspore_dev-2.9.0"):
        (tmp_path / f"{name}.dist-info").mkdir()
        project, version = name.replace("_", "-").rsplit("-", 1)
        (tmp_path / f"{name}.dist-info/METADATA").write_text(f"Name: {project}\nVersion: {version}\n")
    assert importing.packages() == {"mindspore-ascend": "2.7.1", "mindspore-dev": "2.9.0"}
    assert versions.version("mindspore") == "2.7.1"


# runs an instruction that no x86 or Arm CPU has, as one without AVX meets it
NO_INSTRUCTION = """
import ctypes, mmap, platform
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(b"\\x0f\\x0b" if platform.machine() == "x86_64" else bytes(4))
ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
"""
# real failing modules: what a package's __init__.py does -> the beginning of the message
FAILING = {
    f'raise ImportError("libcudnn.so.8: {NO_FILE}")': "libcudnn.so.8, a library of CUDA or of its driver, is not",
    "import ctypes; ctypes.CDLL(__file__)": "MindSpore's files are for another kind of processor, or not complete",
    "import te": "CANN's Python package te is not installed or not found",
    "from mindspore import nn": "MindSpore's files do not belong together",
    NO_INSTRUCTION: "Its import was ended by SIGILL: this CPU lacks an instruction that MindSpore uses",
    "import os; os.kill(os.getpid(), 11)": "Its import was ended by SIGSEGV: its code crashes",
}


@pytest.mark.parametrize("code", FAILING)
def test_a_command_that_needs_mindspore_says_why_it_cannot_be_imported(code, tmp_path):
    (tmp_path / "mindspore").mkdir()
    (tmp_path / "mindspore/__init__.py").write_text(code)
    (tmp_path / "mindspore/_c_expression.so").touch()  # as in every MindSpore
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]), "TMPDIR": str(tmp_path)}
    done = subprocess.run([*PROGRAM, "show"], capture_output=True, text=True, env=environ)
    assert (done.returncode, done.stdout) == (1, ""), done
    assert done.stderr.startswith("DeviceError: MindSpore cannot be imported. " + FAILING[code]), done.stderr
    assert re.search(r"\n  expected  .+\n  fix       .+\n", done.stderr) and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("mslab-*.log"))  # nothing of the captured output stays


@pytest.mark.parametrize("name", ["mindspore.py", "mindspore/__init__.py"])
def test_a_students_own_mindspore_is_named_by_commands_and_doctor(name, tmp_path, monkeypatch):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("import mindspore as ms\nprint(ms.Tensor(1))\n")
    mine = (tmp_path / name).parent if "/" in name else tmp_path / name
    problem = importing.not_mindspore(str(tmp_path / name))
    assert str(problem).startswith(f"{mine} is not MindSpore, but `import mindspore` finds it first.\n")
    assert problem.fix == f"rename {mine}"
    monkeypatch.chdir(tmp_path)
    if name == "mindspore.py":
        what, _, fix = importing.import_problem(["mindspore"])
        assert what == problem.what and fix == problem.fix


def test_a_missing_mindspore_is_named():
    error = explain(ModuleNotFoundError("No module named 'mindspore'", name="mindspore"))
    assert str(error).startswith(
        "MindSpore is not installed.\n  expected  MindSpore 2.7 to 2.10\n  fix       pip install"
    )
    assert explain(ModuleNotFoundError("No module named 'x'", name="x")) is None


def test_doctor_survives_an_import_that_kills(tmp_path, monkeypatch):
    (tmp_path / "mindspore").mkdir()
    (tmp_path / "mindspore/_c_expression.so").touch()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # a file of the same size and second would count as the same
    (tmp_path / "mindspore/__init__.py").write_text("import os; os.kill(os.getpid(), 4)")
    what, expected, fix = importing.import_problem()
    assert "ended by SIGILL" in what and expected and "with AVX" in fix
    (tmp_path / "mindspore/__init__.py").write_text("import os; os.kill(os.getpid(), 9)")
    assert "ended by SIGKILL" in importing.import_problem()[0]
    (tmp_path / "mindspore/__init__.py").write_text("")
    (tmp_path / "sklearn").mkdir()
    (tmp_path / "sklearn/__init__.py").write_text("raise ImportError('libgomp: cannot allocate memory')")
    what, expected, fix = importing.import_problem()
    assert (
        what == "sklearn.linear_model after mindspore cannot be imported: ImportError: libgomp: cannot allocate memory"
    )
