"""`mslab reproduce --install`: repeat a run in a temporary virtual environment with the recorded packages."""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mslab
from mslab.errors import DeviceError, RunError
from mslab.reproduce import archiving
from mslab.reproduce.reproducing import ReproduceOptions
from mslab.runs.folder import RunFolder
from mslab.runtime import console

log = logging.getLogger("mslab")
START = "import sys; sys.argv[0] = 'mslab'; from mslab.cli import app; app()"


def run_in_environment(
    path: str | Path, options: ReproduceOptions, json_file: str | None = None, no_report: bool = False
) -> int:
    """Run `mslab reproduce` with the run's recorded packages. Returns its exit code.

    Raises RunError if they are not recorded, DeviceError if that Python is missing or pip cannot install them.
    """
    run = RunFolder.read(path)
    if not run.manifest["environment"]:
        raise RunError(
            f"{run.path} is older and does not record its packages, so they cannot be installed.",
            expected="a run with `environment` in its manifest.json",
            fix="leave --install out: the checks list the versions that differ, as far as they are recorded",
        )
    lock = archiving.requirements(run.manifest)
    python = find_python(run.manifest["environment"]["python"])
    with tempfile.TemporaryDirectory(prefix="mslab-install-") as folder:
        root = Path(folder)
        own_python = install(python, lock, root)
        environment = os.environ | {"PYTHONPATH": str(link_package(root / "source"))}
        environment.pop("PYTHONHOME", None)
        return run_child(
            [str(own_python), "-c", START, *command_line(path, options, json_file, no_report)], environment
        )


def command_line(path: str | Path, options: ReproduceOptions, json_file: str | None, no_report: bool) -> list[str]:
    """Arguments of `mslab` for the same repetition without --install."""
    # command_line("runs/x", ReproduceOptions(["seed=2"], dry_run=True), None, False)
    #   -> ["reproduce", "runs/x", "seed=2", "--tolerance", "0.02", "--dry-run"]
    values = {"--backbone": options.backbone, "--tolerance": options.tolerance, "--json": json_file}
    pairs = [str(part) for name, value in values.items() if value is not None for part in (name, value)]
    flags = [flag for flag, on in (("--dry-run", options.dry_run), ("--no-report", no_report)) if on]
    return ["reproduce", str(path), *options.overrides, *pairs, *flags]


def find_python(version: str) -> str:
    """Find a Python of the same minor version: this one, or pythonX.Y on PATH. Raises DeviceError."""
    minor = ".".join(version.split(".")[:2])
    if minor == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    if all(part.isdigit() for part in minor.split(".")) and (program := shutil.which(f"python{minor}")):
        return program
    raise DeviceError(
        f"The run was made with Python {version}; there is no python{minor} on PATH.",
        expected=f"Python {minor}, for which its packages were built",
        fix=f"install python{minor}, or leave --install out",
    )


def install(python: str, lock: str, folder: Path) -> Path:
    """Install the packages of `lock` in a new environment. Returns its Python. Raises DeviceError."""
    packages = sum(not line.startswith("#") for line in lock.splitlines())
    log.info("installing %d packages into %s, which is removed afterwards …", packages, folder)
    (folder / archiving.ENVIRONMENT).write_text(lock, encoding="utf-8")
    done = subprocess.run([python, "-m", "venv", str(folder / "venv")], capture_output=True, text=True)
    if done.returncode:
        raise install_error(f"{python} cannot create a virtual environment", done.stdout + done.stderr)
    own_python = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    command = [str(own_python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    done = subprocess.run([*command, "-r", str(folder / archiving.ENVIRONMENT)], capture_output=True, text=True)
    if done.returncode:
        raise install_error("pip could not install the run's packages", done.stdout + done.stderr)
    return own_python


def install_error(what: str, output: str) -> DeviceError:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines
    return DeviceError(
        f"{what}.",
        details=[("pip" if "pip" in what else "output", line[:300]) for line in errors[-3:]],
        expected="the recorded versions in the package index that pip is configured for",
        fix="check that pip can reach its package index and that 3 GB of disk are free; or leave --install out",
    )


def link_package(folder: Path) -> Path:
    """Make a folder that contains this mslab and nothing else: an installed one is beside all other packages."""
    package = Path(mslab.__file__).resolve().parent
    folder.mkdir()
    for source in (package, *package.parent.glob("mslab*.egg-info"), *package.parent.glob("mslab-*.dist-info")):
        (folder / source.name).symlink_to(source)
    return folder


def run_child(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command on this terminal and wait for it, also after Ctrl-C, which reaches it too."""
    stream: Any = console.terminal.stream  # the terminal: file descriptor 2 captures MindSpore's output
    with subprocess.Popen(command, env=dict(environment), stderr=stream) as process:
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            raise
