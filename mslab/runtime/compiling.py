"""operators.c as a library: this machine's C compiler makes it, once for each version of the file."""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from mslab.runtime.cuda import cache_folder

SOURCE = Path(__file__).with_name("operators.c")
COMPILERS = ("cc", "gcc", "clang")
# without contraction a product and a sum are rounded one after the other, on every CPU
FLAGS = ("-O3", "-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-fPIC", "-shared", "-pthread")
PATIENCE = 60  # seconds; it takes about one
WRITABLE = "XDG_CACHE_HOME=FOLDER, one you can write to"
INSTALL = "install one: apt install gcc, or conda install -c conda-forge gcc"


class CompiledFile(NamedTuple):
    """The compiled file; or why there is none, and what the user can do about it."""

    file: Path | None
    problem: str = ""
    fix: str = ""


@functools.cache
def library(source: Path = SOURCE) -> CompiledFile:
    """The library of this C file: from the cache, or compiled now."""
    if sys.platform != "linux":
        return CompiledFile(None, "MindSpore accepts compiled operators on Linux only")
    identity = (source.read_bytes(), *FLAGS, platform.machine(), *platform.libc_ver())
    try:
        folder = cache_folder() / "compiled"
    except RuntimeError:  # a user without a home, as in containers
        return CompiledFile(None, "this user has no home folder", WRITABLE)
    file = folder / f"{source.stem}-{hashlib.sha256(repr(identity).encode()).hexdigest()[:16]}.so"
    accepted = os.path.realpath(os.environ.get("MS_CUSTOM_AOT_WHITE_LIST") or "/")
    if ":" in os.path.realpath(file) or accepted not in os.path.realpath(file):
        problem = f"MindSpore does not accept a library in {folder}"
        return CompiledFile(
            None, problem, "XDG_CACHE_HOME=FOLDER, one without a colon that MS_CUSTOM_AOT_WHITE_LIST allows"
        )
    if intact(file) and loads(file):
        return CompiledFile(file)
    command = compiler()
    if not command:
        return CompiledFile(None, f"there is no C compiler ({', '.join(COMPILERS)})", INSTALL)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=folder) as scratch:
            output = Path(scratch) / file.name
            if problem := compile_file(command, source, output):
                return CompiledFile(None, f"{command[0]} failed: {problem}", "CC=COMPILER, another one")
            content = output.read_bytes()
            output.write_bytes(content + hashlib.sha256(content).digest())
            if not loads(output):
                problem = f"a library in {folder} cannot be loaded"
                return CompiledFile(None, problem, "XDG_CACHE_HOME=FOLDER, one on a disk from which programs may run")
            output.replace(file)
    except OSError as error:
        return CompiledFile(None, f"{folder}: {error.strerror or error}", WRITABLE)
    return CompiledFile(file)


def intact(file: Path) -> bool:
    """Whether it is there and ends with the hash of the rest: a library that ends too early kills what loads it."""
    try:
        content = file.read_bytes()
    except OSError:
        return False
    return content[-32:] == hashlib.sha256(content[:-32]).digest()


def loads(file: Path) -> bool:
    """Whether it is a library, on a disk from which libraries may be loaded."""
    try:
        ctypes.CDLL(str(file))
    except OSError:
        return False
    return True


def compiler() -> list[str]:
    """The command of the C compiler: $CC, or one on PATH; [] if there is none."""
    names = (os.environ.get("CC") or "", *COMPILERS)
    return next((shlex.split(name) for name in names if name and shutil.which(shlex.split(name)[0])), [])


def compile_file(command: list[str], source: Path, output: Path) -> str:
    """Compile the file. Returns the compiler's error, or "". Raises OSError."""
    job = [*command, *FLAGS, str(source), "-o", str(output), "-lm"]
    try:
        done = subprocess.run(job, capture_output=True, text=True, errors="replace", timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return f"not finished after {PATIENCE} s"
    lines = done.stderr.strip().splitlines()
    worst = [line for line in lines if "error" in line.lower()] or lines or [f"exit code {done.returncode}"]
    return worst[0].strip()[:300] if done.returncode or not output.exists() else ""
