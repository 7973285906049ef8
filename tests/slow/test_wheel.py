"""The wheel in an environment of its own, used from an empty folder: nothing of the repository is within its reach.

It is built from a copy of what git knows, once from there and once from a source archive. pip installs it with the
pinned versions, about 1 GB; where the package index is not reached the tests are skipped with pip's reason.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

import pytest
from helpers import PROJECT

import mslab

TEST_ONLY = {
    "pytest",
    "pytest-xdist",
    "hypothesis",
    "playwright",
    "mypy",
    "ruff",
    "nbclient",
    "ipykernel",
    "jsonschema",
}
TEST_ONLY |= {"mindcv", "openvino", "openvino-telemetry", "mkdocs", "mkdocs-material"}
SMALL = ["stages=[[1,8,1],[1,8,2]]", "image_size=32", "epochs=1", "device=cpu"]
FEWER = ["train_data=datasets/mushrooms9/val", "val_data=datasets/mushrooms9/test"]


def call(*command, cwd=None, env=None, timeout=1800) -> subprocess.CompletedProcess:
    arguments = [str(part) for part in command]
    env = env or {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(arguments, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout)


def must(*command, **options) -> str:
    done = call(*command, **options)
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout


def environment_at(folder: Path) -> Path:
    """A fresh virtual environment's Python."""
    must(sys.executable, "-m", "venv", folder)
    return folder / "bin" / "python"


def tracked() -> list[str]:
    return must("git", "ls-files", cwd=PROJECT).splitlines()


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the files that git knows. Skips where the package index is not reached."""
    root = tmp_path_factory.mktemp("source") / "the project"
    probe = call(
        sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--retries", 1, "easydict", "-d", root / "x"
    )
    shutil.rmtree(root, ignore_errors=True)
    if probe.returncode:
        pytest.skip(
            f"the package index is not reached: {(probe.stderr.strip().splitlines() or ['pip printed nothing'])[-1]}"
        )
    for name in tracked():
        if (PROJECT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, root / name)
    return root


@pytest.fixture(scope="module")
def wheel(source) -> Path:
    """The wheel, as `pip wheel .` makes it: nothing in it is deprecated, and no file is left of an earlier build."""
    stale = source / "build" / "lib" / "mslab" / "stale.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    done = call(sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "-w", "wheels", ".", cwd=source)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "deprecat" not in (done.stdout + done.stderr).lower()
    (file,) = (source / "wheels").iterdir()
    return file


@pytest.fixture(scope="module")
def python(source, wheel, tmp_path_factory) -> Path:
    """The Python of a fresh environment with the wheel in it."""
    python = environment_at(tmp_path_factory.mktemp("environment"))
    must(python, "-m", "pip", "install", "-q", "-c", source / "constraints.txt", wheel)
    return python


@pytest.fixture
def mslab_at(python, tmp_path):
    """mslab_at(folder, argument, …) -> the installed command's result, with nothing of this environment around it."""

    def run(folder: Path, *arguments) -> subprocess.CompletedProcess:
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "COLUMNS": "120", "GLOG_v": "3"}
        return call(python.with_name("mslab"), *arguments, cwd=folder, env=environment)

    return run


@pytest.fixture
def empty(tmp_path) -> Path:
    folder = tmp_path / "an empty folder"
    folder.mkdir()
    return folder


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def expected_names() -> set[str]:
    """mslab/ as git knows it, and configs/ and docs/labs/ in mslab/lab/."""
    moved = [("configs/", "mslab/lab/configs/"), ("docs/labs/", "mslab/lab/notebooks/")]
    carried = {new + name.removeprefix(old) for old, new in moved for name in tracked() if name.startswith(old)}
    return carried | {name for name in tracked() if name.startswith("mslab/")}


def test_the_wheel_has_the_files_that_git_knows_and_no_other(wheel):
    assert names_in(wheel) == expected_names()
    assert wheel.name == f"mslab-{mslab.__version__}-py3-none-any.whl"


def test_a_source_archive_gives_the_same_wheel_and_an_editable_installation_finds_its_files(source, tmp_path):
    """In one small environment: of others, mslab.experiments.lab imports rich only."""
    builder = environment_at(tmp_path / "builder")
    must(builder, "-m", "pip", "install", "-q", "setuptools>=77.0.3", "rich")
    copy = Path(
        shutil.copytree(source, tmp_path / "copy", ignore=shutil.ignore_patterns("build", "wheels", "*.egg-info"))
    )
    must(builder, "-c", "import setuptools.build_meta as b; b.build_sdist('dist')", cwd=copy)
    (archive,) = (copy / "dist").iterdir()
    must(builder, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path / "wheels", archive)
    (again,) = (tmp_path / "wheels").iterdir()
    assert names_in(again) == expected_names()
    must(builder, "-m", "pip", "install", "-q", "--no-deps", "-e", copy)
    script = (
        "import mslab; from mslab.experiments import lab; print(mslab.__file__, lab.IN_WHEEL, len(lab.lab_texts()))"
    )
    assert must(builder, "-c", script, cwd=tmp_path).split(".py ") == [f"{copy}/mslab/__init__", "False 9\n"]


def test_the_environment_is_consistent_and_has_nothing_that_only_tests_need(python, wheel):
    assert "No broken requirements found" in must(python, "-m", "pip", "check")
    listed = json.loads(must(python, "-m", "pip", "list", "--format=json"))
    assert not {package["name"].lower() for package in listed} & TEST_ONLY
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        data = message_from_string(archive.read(name).decode())
    assert data["License-Expression"] == "Apache-2.0" and data["License-File"] == "LICENSE"
    assert set(data.get_all("Provides-Extra")) == {"dev", "docs", "gpu", "heic", "openvino"}
    assert data["Version"] == mslab.__version__ and data["Description-Content-Type"] == "text/markdown"


def test_from_an_empty_folder_each_command_works_or_says_what_to_do(mslab_at, empty):
    assert mslab_at(empty, "--version").stdout == f"mslab {mslab.__version__}\n"
    listed = re.findall(r"^  ([a-z][a-z-]+)  ", mslab_at(empty, "--help").stdout, re.MULTILINE)
    assert {"new", "demo", "check", "train", "report", "grade", "data"} <= set(listed)
    for command in listed:
        done = mslab_at(empty, command, "--help")
        assert done.returncode == 0 and done.stdout.startswith(f"Usage: mslab {command} "), (command, done.stderr)
    for arguments, code, text in (
        (["train", "configs/mushrooms9.yaml"], 1, "mslab new FOLDER writes some"),
        (["show", "configs/mushrooms9.yaml"], 1, "mslab new FOLDER writes some"),
        (["report", "runs/x"], 1, "a run folder, as mslab train creates it"),
        (["check", "datasets/mushrooms9"], 1, "There is no folder datasets/mushrooms9"),
        (["grade", "in", "--rubric", "configs/rubric.yaml", "--data", "d", "--out", "o"], 1, "configs/rubric.yaml"),
        (["reproduce-all", "tiny_ten"], 1, "tiny_nine, tiny_two"),
        (["reproduce-all", "--record"], 1, "This mslab is installed from a wheel"),
    ):
        done = mslab_at(empty, *arguments)
        assert done.returncode == code and text in done.stderr and "Traceback" not in done.stderr, done.stderr
        assert "\n  expected  " in done.stderr and "\n  fix  " in done.stderr, done.stderr
    assert mslab_at(empty, "show").returncode == 0
    doctor = mslab_at(empty, "doctor")
    assert doctor.returncode in (0, 1) and "MindSpore" in doctor.stdout and "Traceback" not in doctor.stderr
    assert not list(empty.iterdir())


def test_a_lab_from_the_wheel_from_its_images_to_what_is_handed_in(mslab_at, empty):
    """The lab's README in its order, with a smaller network on fewer images; `*` is what the shell completes there."""

    def run(*arguments) -> str:
        done = mslab_at(folder, *arguments)
        assert done.returncode == 0, (arguments, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout + done.stderr

    def newest(pattern: str) -> str:
        return str(max((folder / "runs").glob(pattern), key=lambda path: path.stat().st_ctime_ns).relative_to(folder))

    assert mslab_at(empty, "new", "my lab").returncode == 0
    assert mslab_at(empty, "new", "my lab").returncode == 1
    folder = empty / "my lab"
    assert "train 2160" in run("data", "make")
    assert "nothing found" in run("check", "datasets/mushrooms9")
    assert "head" in run("show", "configs/tiny_nine.yaml")
    assert "best val_acc" in run("train", "configs/tiny_nine.yaml", *SMALL, *FEWER)
    nine = newest("tiny_nine-*")
    run("transfer", "configs/tiny_two.yaml", "--backbone", nine, *SMALL[1:], "batch_size=20")
    two = newest("tiny_two-*")
    assert "on 200 images" in run("eval", two, "--data", "datasets/mushrooms2/test")
    run("predict", nine, "datasets/mushrooms9/test/Amanita", "--csv", "answers.csv")
    assert len((folder / "answers.csv").read_text().splitlines()) == 61
    run("report", nine, two, "--out", "compared.html")
    for page in (folder / "compared.html", folder / nine / "report.html"):
        assert "<html" in page.read_text(encoding="utf-8")[:500]
    (folder / "report.md").write_text("# Mine\n")
    rubric = ["--add", "report.md", "--rubric", "configs/rubric.yaml"]
    run("pack", f"nine={nine}", f"two={two}", "--out", "anna.zip", *rubric)
    assert (folder / "anna.zip").is_file()
    recorded = json.loads((folder / nine / "manifest.json").read_text())
    assert recorded["git"] is None and recorded["environment"]["packages"]["mslab"] == mslab.__version__
    refused = mslab_at(folder, "demo", "epochs=0")  # its images are the lab's, its configs the wheel's
    assert refused.returncode == 1 and "1/4  the images" in refused.stderr and "drawn images" in refused.stderr
    assert "ConfigError: The key=value settings have 1 problem" in refused.stderr


def test_an_mslab_inside_of_another_repository_does_not_take_its_commit(python, tmp_path):
    """A student's project with its environment in it: the commit is not mslab's."""
    must("git", "init", "-q", tmp_path)
    commit = ["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "--allow-empty", "-m", "mine"]
    must("git", "-C", tmp_path, *commit)
    (package,) = python.parents[1].glob("lib/python*/site-packages/mslab")
    shutil.copytree(package, tmp_path / "venv" / "mslab")
    script = "from mslab.runtime.versions import git_state; import mslab; print(mslab.__file__, git_state())"
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "venv")}
    assert must(python, "-c", script, cwd=tmp_path, env=environment) == f"{tmp_path}/venv/mslab/__init__.py None\n"
