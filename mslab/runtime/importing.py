"""The import of MindSpore: why it fails on a machine, in one message instead of MindSpore's traceback.

watch() is called when mslab is imported, before MindSpore can be. From then on `import mindspore` raises DeviceError if
it fails, wherever it is written, and a signal that would kill the process (an instruction that the CPU does not have)
ends it with the same kind of message.
"""

import ctypes
import functools
import importlib.machinery
import json
import os
import re
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from mslab.errors import DeviceError
from mslab.escaping import quoted
from mslab.runtime import console

PACKAGES = ("mindspore", "mindspore-ascend", "mindspore-gpu", "mindspore-cpu", "mindspore-dev")  # all own mindspore/
INSTALL = "pip install mindspore==2.8.0"
REINSTALL = "pip install --force-reinstall --no-deps mindspore==2.8.0"
SOURCE = "source /usr/local/Ascend/ascend-toolkit/set_env.sh, where CANN is installed there"
CANN = "ge_|ascend|hccl|graph|register|runtime|acl|opapi|aoe|tbe|te_|error_manager|platform|profapi|msprof"
CUDA = "cudnn|cublas|cudart|cufft|curand|cusolver|cusparse|nvrtc|cuda|nccl"
FATAL = (signal.SIGILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE) if hasattr(signal, "SIGBUS") else ()
SECONDS = 120  # for an import in a process of its own

# pattern in the error's text, what happened, expected, fix; {0} is the pattern's group. The first that matches counts.
EXPLANATIONS = (
    (
        r"(GLIBC_[\d.]+)' not found",
        "MindSpore needs {0}, which this system's C library is too old for",
        "a newer Linux",
        "use a newer Linux, or a container with one, such as the image python:3.11-bookworm",
    ),
    (
        r"((?:GLIBCXX|CXXABI)_[\d.]+)' not found",
        "MindSpore needs {0}, which the C++ library libstdc++.so.6 that was loaded does not have",
        "a libstdc++.so.6 of GCC 11 or later; conda may load its own, older one",
        "conda install -c conda-forge 'libstdcxx-ng>=12'; without conda: take older ones out of LD_LIBRARY_PATH",
    ),
    (
        r"(\S+): cannot allocate memory in static TLS block",
        "{0} was loaded too late: the memory that it needs in every thread is used up",
        "{0} loaded before other libraries",
        "LD_PRELOAD={0} mslab …; in a script, import mslab before other packages",
    ),
    (
        r"numpy\.core\.multiarray failed to import|_ARRAY_API not found|compiled using NumPy 1\.x",
        "This MindSpore cannot use the installed NumPy",
        "NumPy 1.x",
        "pip install 'numpy<2'",
    ),
    (
        r"Descriptors cannot (?:not )?be created directly|descriptor pool|google\.protobuf|name 'builder'",
        "MindSpore's protobuf files and the installed protobuf do not work together",
        "protobuf's Python code, which mslab selects",
        "unset PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION; in a script, import mslab before other packages",
    ),
    (
        r"Error (?:loading shared library|relocating) (\S+?):|(ld-linux\S+): cannot open|(ld-musl\S+)",
        "MindSpore is built for Linux with glibc, and this one has musl, as Alpine does ({0})",
        "a Linux with glibc",
        "use another image, such as python:3.11-slim-bookworm",
    ),
    (
        rf"(lib(?:{CANN})\w*\.so\S*): cannot open",
        "{0}, a library of CANN, is not on the loader's path",
        "CANN's variables in this shell",
        SOURCE,
    ),
    (
        r"No module named '(te|tbe|topi|hccl|auto_tune|schedule_search)(?:\.\S*)?'",
        "CANN's Python package {0} is not installed or not found",
        "the packages te and hccl of the installed CANN",
        f"{SOURCE}; else pip install te-*.whl hccl-*.whl from the folder lib64 of ascend-toolkit/latest",
    ),
    (
        rf"(lib(?:{CUDA})\S*\.so\S*): cannot open",
        "{0}, a library of CUDA or of its driver, is not on the loader's path",
        "CUDA 11 with cuDNN 8 and a driver, or a MindSpore that needs none",
        f"pip install 'mslab[gpu]'; on a machine without a GPU: {REINSTALL}",
    ),
    (
        rf"(lib(?:{CUDA})\S*\.so\S*): (?:undefined symbol|version|symbol)|undefined symbol: ((?:{CUDA})\w+)",
        "{0} is of another CUDA than MindSpore's",
        "CUDA 11's libraries first on the loader's path",
        "take the folder of the other CUDA out of LD_LIBRARY_PATH; mslab doctor names it",
    ),
    (
        r"(libpython\d\S*\.so\S*): cannot open",
        "MindSpore's files are another Python's: they need {0}",
        "the wheel for this Python",
        f"pip uninstall -y {' '.join(PACKAGES)}; {INSTALL}",
    ),
    (
        r"(lib\S+\.so\S*): cannot open shared object file",
        "The library {0} is not installed, or not on the loader's path",
        "every library that MindSpore is linked to",
        "install the system's package that contains it: libgomp1 for libgomp.so.1, libnuma1 for libnuma.so.1",
    ),
    (
        r"(\S+): cannot enable executable stack",
        "This system refuses to load {0}, which asks for an executable stack",
        "a file without that mark",
        "patchelf --clear-execstack {0}",
    ),
    (
        r"(invalid ELF header|wrong ELF class|incompatible architecture|Exec format error|file too short|bad magic)",
        "MindSpore's files are for another kind of processor, or not complete ({0})",
        "the wheel for this machine, whole",
        REINSTALL,
    ),
    (
        r"No module named '(mindspore\.\S*)'|(undefined symbol: \S+)|cannot import name '(\w+)' from .*mindspore",
        "MindSpore's files do not belong together: another Python's wheel, or parts of several versions ({0})",
        "one wheel, for this Python",
        f"pip uninstall -y {' '.join(PACKAGES)}; {INSTALL}",
    ),
    (
        r"partially initialized module '(\w+)",
        "Most likely a file of yours, {0}.py, hides the Python package {0}",
        "no file with a package's name in this folder and on PYTHONPATH",
        "rename it; mslab doctor names those of this folder",
    ),
    (
        r"No module named '(?!mindspore)([\w.]+)'",
        "The Python package {0}, which MindSpore imports, is missing",
        "all packages that MindSpore needs",
        "pip install mindspore==2.8.0 installs those that are missing",
    ),
)


def packages() -> dict[str, str]:
    """The installed packages that own the folder mindspore/, with their versions. There should be one."""
    found = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def two_packages(found: dict[str, str]) -> tuple[str, str, str]:
    """What is wrong with several of these packages, expected, fix; empty for one."""
    if len(found) < 2:
        return "", "", ""
    names = " and ".join(f"{name} {version}" for name, version in found.items())
    return (
        f"{names} are installed, and each has put its files into the same folder, mindspore/",
        "one of them",
        f"pip uninstall -y {' '.join(found)}; {INSTALL}",
    )


def other_numpy(text: str) -> tuple[str, str, str]:
    """What is wrong with an extension built for another NumPy, expected, fix, by its error's text or traceback."""
    # NumPy 2's types are larger: "Expected 96 from C header, got 88" is one for NumPy 2 under NumPy 1
    sizes = re.search(
        r"size changed, may indicate binary incompatibility\. Expected (\d+) from C header, got (\d+)", text
    )
    if not sizes:
        return "", "", ""
    frames = re.findall(r"(?:site|dist)-packages/(?!numpy/)(\w+)/|(?m:^[\w.: ]*?)(\w+)(?:/\w+)*\.pyx", text)
    package = next((name for names in reversed(frames) for name in names if name not in ("", "mindspore")), "")
    package = {"sklearn": "scikit-learn"}.get(package, package)
    built = f"{package or 'A package'} is built for {{}} NumPy than the installed one"
    if int(sizes[1]) < int(sizes[2]):
        return built.format("an older"), "NumPy 1.x", "pip install 'numpy<2'"
    fix = f"pip install --force-reinstall --no-cache-dir {package or 'PACKAGE'} 'numpy<2'"
    return (
        built.format("a newer"),
        "packages for NumPy 1.x",
        fix + ("" if package else ", of the traceback's last package"),
    )


def not_mindspore(origin: str) -> DeviceError | None:
    """The error that `import mindspore` finds another file, such as a student's mindspore.py; else None."""
    folder = Path(origin).parent
    installed = []
    for name in packages():
        with suppress(metadata.PackageNotFoundError):
            installed.append(Path(str(metadata.distribution(name).locate_file("mindspore"))).resolve())
    if folder.resolve() in installed or any(folder.glob("_c_expression*")):  # the latter: one that was built here
        return None
    mine = folder if Path(origin).name == "__init__.py" else Path(origin)
    return DeviceError(
        f"{mine} is not MindSpore, but `import mindspore` finds it first.",
        details=[("MindSpore", str(path)) for path in installed],
        expected="no file or folder of the name mindspore in this folder, beside the script and on PYTHONPATH",
        fix=f"rename {quoted(mine)}",
    )


def explain_import(text: str, found: dict[str, str] | None = None, origin: str = "") -> DeviceError:
    """The error that explains why MindSpore's import has ended with this text. `origin`: file of the MindSpore."""
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no message")
    what, expected, fix = two_packages(packages() if found is None else found)
    if not what:
        what, expected, fix = other_numpy(text)
    if not what:
        what, expected, fix = f"It ended with {last[:200]}", "a MindSpore that can be imported", REINSTALL
        for pattern, *answer in EXPLANATIONS:
            if match := re.search(pattern, text):
                group = next((group for group in match.groups() if group), "")
                what, expected, fix = (part.format(group) for part in answer)
                break
    rows = [("error", last[:300])] + [("imported", origin)] * bool(origin)
    return DeviceError(f"MindSpore cannot be imported. {what}.", details=rows, expected=expected, fix=fix)


def explain_death(name: str) -> DeviceError:
    """The error that explains why a signal has ended MindSpore's import."""
    cpu = (
        "this CPU lacks an instruction that MindSpore uses, most likely AVX" if name == "SIGILL" else "its code crashes"
    )
    return DeviceError(
        f"MindSpore cannot be imported. Its import was ended by {name}: {cpu}.",
        expected="a CPU with AVX (flags in /proc/cpuinfo), and a MindSpore built for it",
        fix="use a machine, or a virtual machine's CPU type, with AVX" if name == "SIGILL" else REINSTALL,
    )


class Watch:
    """A finder that lets the others find MindSpore, and watches over its import."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name != "mindspore":
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next((spec for finder in others if (spec := finder.find_spec(name, path, target))), None)
        if spec and not spec.origin:  # a folder mindspore/ without Python files of its own
            return None
        if spec and spec.loader and spec.origin:
            # on the object: the loader stays what it is for others
            spec.loader.exec_module = functools.partial(execute, spec.loader.exec_module, spec.origin)  # type: ignore[method-assign]
        return spec


def watch() -> None:
    """Watch over the import of MindSpore in this process."""
    if not any(isinstance(finder, Watch) for finder in sys.meta_path):
        sys.meta_path.insert(0, Watch())


def execute(run: Callable[[ModuleType], None], origin: str, module: ModuleType) -> None:
    """Import MindSpore. Raises DeviceError if that fails."""
    if problem := not_mindspore(origin):
        raise problem
    try:
        with deadly_signals_explained():
            run(module)
    except (Exception, SystemExit) as error:
        frames = "".join(traceback.format_tb(error.__traceback__)) if "size changed" in str(error) else ""
        raise explain_import(f"{frames}{type(error).__name__}: {error}", origin=origin) from error


@contextmanager
def deadly_signals_explained() -> Iterator[None]:
    """During the block, let a signal that would kill this process write a message and end it with exit code 1.

    Python's own handlers run between two of its instructions, and there is none after a fault in C++ code. This one is
    called by the system inside that code, in a thread that holds Python's lock, since it is importing.
    """

    def end(number: int) -> None:
        error = explain_death(signal.Signals(number).name)
        console.abandon()
        print(f"{type(error).__name__}: {error}", file=console.terminal.stream, flush=True)
        os._exit(1)

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(end)
    libc = ctypes.CDLL(None)
    libc.signal.restype, libc.signal.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)
    before = {number: libc.signal(number, ctypes.cast(handler, ctypes.c_void_p)) for number in FATAL}
    try:
        yield
    finally:
        for number, earlier in before.items():
            libc.signal(number, earlier)


TRY = """
import json, sys
import mslab
from mslab.errors import MslabError
try:
    for name in sys.argv[1:]:
        __import__(name)
    print("imported", json.dumps(None))
except MslabError as error:
    print("imported", json.dumps([error.what, error.expected, error.fix]))
"""


def import_problem(names: Sequence[str] = ("mindspore", "sklearn.linear_model")) -> tuple[str, str, str]:
    """Why these cannot be imported one after the other, expected, fix; empty if they can. A child process tries."""
    command = [sys.executable, "-c", TRY, *names]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return (
            f"importing {' and '.join(names)} takes more than {SECONDS} s",
            "seconds",
            "try again; a slow disk needs time",
        )
    lines = [line for line in done.stdout.splitlines() if line.startswith("imported ")]
    if lines:
        what, expected, fix = json.loads(lines[-1][9:]) or ("", "", "")
        return what, expected, fix
    if done.returncode < 0:
        error: DeviceError = explain_death(signal.Signals(-done.returncode).name)
    elif found := re.search(r"DeviceError: (.*)\n  expected +(.*)\n  fix +(.*)", done.stderr):
        return found[1], found[2], found[3]
    elif (other := other_numpy(done.stderr))[0]:
        return other
    else:
        last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no message")
        text = f"{' after '.join(reversed(names))} cannot be imported: {last[:200]}"
        return text, "packages that work together", "pip install 'scikit-learn>=1.3' 'scipy<1.18' 'numpy<2'"
    return error.what, error.expected, error.fix
