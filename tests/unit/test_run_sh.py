"""run.sh's installation, with stand-ins for Python and uv that note what they are called with and install nothing."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers import PROJECT

TOOLS = ["sh", "dirname", "cksum", "cat", "sed", "grep", "rm", "cp", "mkdir", "chmod", "date"]
ENVIRONMENT = """
environment() { # an environment of stand-ins in $1
    mkdir -p "$1/bin" && cp "$SUPPORT/inner" "$1/bin/python" && printf '#!/bin/sh\\necho "mslab $*"\\n' >"$1/bin/mslab"
    chmod +x "$1/bin/python" "$1/bin/mslab"
}
"""
INNER = """#!/bin/sh
echo "inner $*" >>"$NOTES"
case "$*" in
*" list "*) printf 'one==1\\ntwo==2\\n' ;;
*" install "*) exit ${PIP_FAILS:-0} ;;
esac
"""
PYTHON = (
    """#!/bin/sh
echo "python $*" >>"$NOTES"
for last; do :; done
case "$*" in
--version) echo "Python 3.11.9" ;;
*sys.executable*) echo "$0" ;;
*metadata*) echo "2.7.1 1.26.0" ;;
*venv*) environment "$last" ;;
esac
""",
    ENVIRONMENT,
)
UV = (
    """#!/bin/sh
echo "uv $*" >>"$NOTES"
for last; do :; done
case "$1" in
venv) [ -z "${UV_OFFLINE:-}" ] || { echo "error: dns error" >&2; exit 2; }; environment "$last" ;;
pip) exit ${UV_PIP_FAILS:-0} ;;
esac
""",
    ENVIRONMENT,
)
NEWER = '#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.13.5" && exit\nexit 1\n'


def script(file: Path, text: str | tuple[str, str]) -> None:
    if not isinstance(text, str):  # the function has to come before its use
        first, rest = text[0].split("\n", 1)
        text = first + text[1] + rest
    file.write_text(text)
    file.chmod(0o755)


class Machine:
    """A checkout's copy in a folder with a space, and a PATH with nothing but some tools and the stand-ins."""

    def __init__(self, root: Path):
        self.root, self.bin, self.project = root, root / "bin", root / "the project"
        for folder in (self.bin, self.project / "mslab", root / "home"):
            folder.mkdir(parents=True)
        for name in TOOLS:
            (self.bin / name).symlink_to(str(shutil.which(name)))
        for name in ("run.sh", "constraints.txt", "pyproject.toml", "mslab/__init__.py"):
            shutil.copy(PROJECT / name, self.project / name)
        script(root / "inner", INNER)

    def put(self, name: str, text: str | tuple[str, str], folder: Path | None = None) -> None:
        (folder or self.bin).mkdir(parents=True, exist_ok=True)
        script((folder or self.bin) / name, text)

    def run(self, *arguments: str, stderr: int = subprocess.PIPE, **variables: str) -> subprocess.CompletedProcess:
        (self.root / "notes").unlink(missing_ok=True)
        environment = {"PATH": str(self.bin), "HOME": str(self.root / "home"), "NOTES": str(self.root / "notes")}
        environment |= {"SUPPORT": str(self.root)} | variables
        command = ["./run.sh", *(arguments or ["--version"])]
        streams = {"stdout": subprocess.PIPE, "stderr": stderr, "text": True}
        return subprocess.run(command, cwd=self.project, env=environment, **streams)

    @property
    def notes(self) -> list[str]:
        """What the stand-ins were called with, but for looks at their versions."""
        file = self.root / "notes"
        lines = file.read_text().splitlines() if file.exists() else []
        looks = ("--version", "version_info", "sys.executable", " list ", "metadata")
        return [line.replace(str(self.project), "HERE") for line in lines if not any(look in line for look in looks)]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


WAYS = [
    "curl -LsSf https://astral.sh/uv/install.sh | sh",
    "sudo apt install python3.11 python3.11-venv",
    "sudo apt install python3.12 python3.12-venv",
    "conda create -n mslab python=3.11 && conda activate mslab",
    "MSLAB_PYTHON=/path/to/python3.11 ./run.sh",
]
PIP = "-m pip install --disable-pip-version-check --quiet -c HERE/.venv/constraints.txt -e HERE[dev]"
UV_PIP = "uv pip install --quiet --compile-bytecode --python HERE/.venv/bin/python"


def test_without_a_python_and_uv_the_message_names_a_line_to_type_for_each_way(machine):
    machine.put("python3", NEWER)
    done = machine.run()
    first, expected, fix, *ways = done.stderr.splitlines()
    assert done.returncode == 1 and not done.stdout
    assert first.startswith("run.sh: no Python 3.10, 3.11 or 3.12 here (python3 is Python 3.13.5), and no uv")
    assert expected == "  expected  a Python that MindSpore has wheels for"
    assert fix.startswith("  fix       one of these, then ./run.sh again:") and all(
        line.startswith(" ") for line in ways
    )
    assert all(way in done.stderr for way in WAYS)
    assert not (machine.project / ".venv").exists()


def test_uv_brings_a_python_where_there_is_none(machine):
    machine.put("uv", UV)
    done = machine.run("train", "x y.yaml")
    assert done.returncode == 0 and done.stdout == "mslab train x y.yaml\n", done.stderr
    assert machine.notes == [
        "uv venv --quiet --seed --python 3.11 HERE/.venv",
        f"{UV_PIP} -c HERE/.venv/constraints.txt -e HERE[dev]",
    ]
    assert "making " in done.stderr and "with uv and Python 3.11; downloads" in done.stderr
    assert "installed 2 packages" in done.stderr
    again = machine.run()
    assert again.stdout == "mslab --version\n" and not again.stderr and machine.notes == []


def test_uv_is_found_where_its_installer_puts_it(machine):
    machine.put("uv", UV, machine.root / "home" / ".local" / "bin")
    assert machine.run().returncode == 0 and "venv --quiet --seed --python 3.11" in machine.notes[0]


def test_uv_makes_the_environment_with_the_python_that_fits(machine):
    machine.put("uv", UV)
    machine.put("python3.11", PYTHON)
    done = machine.run()
    assert done.returncode == 0 and "with Python 3.11.9; downloads" in done.stderr, done.stderr
    assert machine.notes[0] == f"uv venv --quiet --seed --python {machine.bin}/python3.11 HERE/.venv"
    assert machine.notes[1].startswith(UV_PIP) and len(machine.notes) == 2


def test_without_uv_python_and_pip_do_it(machine):
    machine.put("python3.11", PYTHON)
    assert machine.run().returncode == 0
    assert machine.notes == ["python -m venv HERE/.venv", f"inner {PIP}"]


def test_where_uv_cannot_install_pip_is_tried_and_its_failure_is_the_end(machine):
    machine.put("uv", UV)
    done = machine.run(UV_PIP_FAILS="2")
    assert done.returncode == 0 and "uv could not install the packages" in done.stderr
    assert machine.notes[-1] == f"inner {PIP}"
    shutil.rmtree(machine.project / ".venv")
    done = machine.run(UV_PIP_FAILS="2", PIP_FAILS="1")
    assert done.returncode == 1 and "the installation did not finish" in done.stderr and not done.stdout
    assert not (machine.project / ".venv" / "installed").exists()


def test_where_uv_can_fetch_no_python_the_other_ways_are_named(machine):
    machine.put("uv", UV)
    done = machine.run(UV_OFFLINE="1")
    assert done.returncode == 1 and "run.sh: uv could not make an environment with Python 3.11" in done.stderr
    assert "error: dns error" in done.stderr and all(way in done.stderr for way in WAYS[1:])
    machine.put("python3.12", PYTHON)
    done = machine.run(UV_OFFLINE="1")  # with a Python that fits, its own venv module makes it
    assert done.returncode == 0 and "python -m venv HERE/.venv" in machine.notes


def test_the_machines_own_mindspore_is_left_to_pip(machine):
    machine.put("uv", UV)
    machine.put("python3", PYTHON)
    done = machine.run(MSLAB_SYSTEM="1")
    assert done.returncode == 0 and "MindSpore 2.7.1 and NumPy 1.26.0" in done.stderr
    pip = PIP.replace(".venv", ".venv-system")
    assert machine.notes == ["python -m venv --system-site-packages HERE/.venv-system", f"inner {pip}"]
    pins = (machine.project / ".venv-system" / "constraints.txt").read_text().splitlines()
    assert {"mindspore==2.7.1", "numpy==1.26.0"} <= set(pins) and "mindspore==2.8.0" not in pins
    (machine.bin / "python3").unlink()
    done = machine.run(MSLAB_SYSTEM="1", MSLAB_MINDSPORE="")
    assert done.returncode == 0  # it is installed
    shutil.rmtree(machine.project / ".venv-system")
    done = machine.run(MSLAB_SYSTEM="1")
    assert done.returncode == 1 and "MSLAB_SYSTEM uses the MindSpore of this machine's Python" in done.stderr
    assert machine.notes == []


def test_another_mindspore_goes_to_a_folder_of_its_own(machine):
    machine.put("uv", UV)
    assert machine.run(MSLAB_MINDSPORE="2.10.0").returncode == 0
    assert machine.notes[0].endswith("HERE/.venv-2.10.0")
    pins = (machine.project / ".venv-2.10.0" / "constraints.txt").read_text()
    assert "\nmindspore==2.10.0\n" in pins and "mindspore==2.8.0" not in pins


def test_a_python_that_was_named_is_used_or_refused(machine):
    machine.put("uv", UV)
    machine.put("my python", PYTHON)
    machine.put("newer", NEWER)
    done = machine.run(MSLAB_PYTHON="newer")
    assert done.returncode == 1 and "run.sh: MSLAB_PYTHON=newer is not a Python 3.10, 3.11 or 3.12\n" in done.stderr
    assert "  expected  " in done.stderr and "  fix       name another" in done.stderr and machine.notes == []
    assert machine.run(MSLAB_PYTHON=f"{machine.bin}/my python").returncode == 0
    assert machine.notes[0] == f"uv venv --quiet --seed --python {machine.bin}/my python HERE/.venv"


def test_uv_takes_the_index_that_pip_is_set_up_with(machine):
    machine.put("uv", UV)
    (machine.root / "home" / ".config" / "pip").mkdir(parents=True)
    (machine.root / "home" / ".config" / "pip" / "pip.conf").write_text("[global]\nindex-url = https://b/simple\n")
    for variables, index in (
        ({"PIP_INDEX_URL": "https://a/simple"}, "https://a/simple"),
        ({}, "https://b/simple"),
        ({"UV_DEFAULT_INDEX": "https://c/simple"}, None),  # uv reads that
    ):
        shutil.rmtree(machine.project / ".venv", ignore_errors=True)
        assert machine.run(**variables).returncode == 0
        option = f"--default-index {index} " if index else ""
        assert machine.notes == [
            f"uv venv --quiet --seed --python 3.11 {option}HERE/.venv",
            f"{UV_PIP} {option}-c HERE/.venv/constraints.txt -e HERE[dev]",
        ]


def test_a_new_version_is_installed_anew(machine):
    machine.put("uv", UV)
    assert machine.run().returncode == 0
    file = machine.project / "mslab" / "__init__.py"
    file.write_text(file.read_text().replace('__version__ = "', '__version__ = "9.'))
    assert machine.run().returncode == 0 and len(machine.notes) == 2


def test_a_terminal_sees_what_is_downloaded_and_a_pipe_one_line_at_the_beginning_and_one_at_the_end(machine):
    machine.put("uv", UV)
    first, last = machine.run().stderr.splitlines()
    assert first.endswith(
        "with uv and Python 3.11; downloads about 1 GB, once (MindSpore is 770 MB of it): one to ten minutes"
    )
    assert re.fullmatch(r"run.sh: installed 2 packages in \d+ s", last)
    shutil.rmtree(machine.project / ".venv")
    terminal, slave = os.openpty()
    assert machine.run(stderr=slave, UV_PIP_FAILS="2").returncode == 0
    _, uv, pip = machine.notes
    assert uv.startswith("uv pip install --compile-bytecode") and "--disable-pip-version-check -c" in pip
    os.close(slave), os.close(terminal)


def test_commands_get_memory_in_huge_pages_unless_the_user_has_set_it_otherwise(machine):
    machine.put("python3.11", PYTHON)
    assert machine.run().returncode == 0
    script(machine.project / ".venv" / "bin" / "mslab", '#!/bin/sh\necho "$GLIBC_TUNABLES"\n')
    assert machine.run().stdout == "glibc.malloc.hugetlb=1\n"
    assert machine.run(GLIBC_TUNABLES="glibc.malloc.arena_max=2").stdout == "glibc.malloc.arena_max=2\n"


def test_run_sh_is_posix():
    for shell in ("sh", "dash", "bash"):
        if shutil.which(shell):
            assert subprocess.run([shell, "-n", PROJECT / "run.sh"], env=os.environ).returncode == 0
