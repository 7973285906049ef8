"""`mslab reproduce --install`: the recorded packages in a virtual environment that is thrown away afterwards."""

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
from mslab.reproduce.reproducing import Wish
from mslab.runs.folder import RunFolder
from mslab.runtime import console

log = logging.getLogger("mslab")
START = "import sys; sys.argv[0] = 'mslab'; from mslab.cli import app; app()"


def run_in_own(path: str | Path, wish: Wish, json_file: str | None = None, no_report: bool = False) -> int:
    """`mslab reproduce` with the packages that the run was made with. Returns its exit code.

    Raises RunError where they are not recorded, DeviceError where the Python is not here or pip cannot install them.
    """
    run = RunFolder.read(path)
    if not run.manifest["environment"]:
        raise RunError(
            f"{run.path} is older: it did not note its packages, so they cannot be installed.",
            expected="a run with `environment` in its manifest.json",
            fix="leave --install out: the checks name what versions are known to differ",
        )
    lock = archiving.requirements(run.manifest)
    python = find_python(run.manifest["environment"]["python"])
    with tempfile.TemporaryDirectory(prefix="mslab-install-") as folder:
        place = Path(folder)
        own = install(python, lock, place)
        environment = os.environ | {"PYTHONPATH": str(linked(place / "source"))}
        environment.pop("PYTHONHOME", None)
        return child([str(own), "-c", START, *command_line(path, wish, json_file, no_report)], environment)


def command_line(path: str | Path, wish: Wish, json_file: str | None, no_report: bool) -> list[str]:
    """The words after `mslab` that ask for the same, without --install."""
    # command_line("runs/x", Wish(["seed=2"], dry_run=True), None, False)
    #   -> ["reproduce", "runs/x", "seed=2", "--tolerance", "0.02", "--dry-run"]
    options = {"--backbone": wish.backbone, "--tolerance": wish.tolerance, "--json": json_file}
    named = [str(part) for name, value in options.items() if value is not None for part in (name, value)]
    flags = [flag for flag, asked in (("--dry-run", wish.dry_run), ("--no-report", no_report)) if asked]
    return ["reproduce", str(path), *wish.overrides, *named, *flags]


def find_python(version: str) -> str:
    """A Python of the same minor version: the running one, or pythonX.Y on PATH. Raises DeviceError."""
    minor = ".".join(version.split(".")[:2])
    if minor == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    if all(part.isdigit() for part in minor.split(".")) and (there := shutil.which(f"python{minor}")):
        return there
    raise DeviceError(
        f"The run was made with Python {version}; there is no python{minor} on PATH.",
        expected=f"Python {minor}, which its packages were built for",
        fix=f"install python{minor}, or leave --install out",
    )


def install(python: str, lock: str, place: Path) -> Path:
    """The new environment's Python, with the packages of `lock` in it. Raises DeviceError with pip's last words."""
    packages = sum(not line.startswith("#") for line in lock.splitlines())
    log.info("installing %d packages into %s, which is removed afterwards …", packages, place)
    (place / archiving.ENVIRONMENT).write_text(lock, encoding="utf-8")
    tried = subprocess.run([python, "-m", "venv", str(place / "venv")], capture_output=True, text=True)
    if tried.returncode:
        raise failed(f"{python} cannot make a virtual environment", tried.stdout + tried.stderr)
    own = place / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    command = [str(own), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    tried = subprocess.run([*command, "-r", str(place / archiving.ENVIRONMENT)], capture_output=True, text=True)
    if tried.returncode:
        raise failed("pip could not install what the run was made with", tried.stdout + tried.stderr)
    return own


def failed(what: str, output: str) -> DeviceError:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines
    return DeviceError(
        f"{what}.",
        details=[("pip" if "pip" in what else "said", line[:300]) for line in errors[-3:]],
        expected="the recorded versions in the package index that pip is set up with",
        fix="the package index within reach, 3 GB of disk; or leave --install out",
    )


def linked(folder: Path) -> Path:
    """A folder with this very mslab in it and nothing else: beside an installed one lie all other packages."""
    package = Path(mslab.__file__).resolve().parent
    folder.mkdir()
    for source in (package, *package.parent.glob("mslab*.egg-info"), *package.parent.glob("mslab-*.dist-info")):
        (folder / source.name).symlink_to(source)
    return folder


def child(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run it on this terminal; Ctrl-C reaches it too, and it is waited for."""
    stream: Any = console.terminal.stream  # the terminal: file descriptor 2 keeps MindSpore's output
    with subprocess.Popen(command, env=dict(environment), stderr=stream) as process:
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            raise
