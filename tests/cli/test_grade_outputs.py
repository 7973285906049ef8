"""The zip for Gradescope's autograder and its script: contents, and results for a submission."""

import csv
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from gradescope_format import TOP, fits
from helpers import PROGRAM

from mslab.errors import ConfigError, MslabError
from mslab.grade import gradescope

LAB = """
title: three squares
total: 10
networks:
  three: {file: [three/best.ckpt, checkpoints/best.ckpt], data: val}
items:
  - {id: files, kind: files, points: 2.0, files: [config.yaml], public: true}
  - {id: accuracy, kind: accuracy, points: 8.0, network: three, bands: [[0.1, 4.0], [0.9, 8.0]]}
late: {due: "2018-07-31T23:00:00-07:00", per_day: 1.0}
"""
METADATA = {  # from "Submission Metadata", shortened
    "id": 123456,
    "created_at": "2018-07-01T14:22:32.365935-07:00",
    "assignment": {"due_date": "2018-07-31T23:00:00.000000-07:00", "title": "Programming Assignment 1"},
    "users": [{"email": "student@example.com", "id": 1234, "name": "Student User"}],
    "previous_submissions": [{"submission_time": "2017-04-06T14:24:48.087023-07:00", "score": 0.0, "results": {}}],
}


@pytest.fixture(scope="module")
def zipped(squares, tmp_path_factory):
    """The zip of LAB with the images of squares/three."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "rubric.yaml").write_text(LAB)
    return gradescope.package(folder / "rubric.yaml", squares / "three", folder / "new" / "autograder.zip")


@pytest.fixture
def autograder(zipped, tmp_path):
    """A folder like /autograder: the zip unpacked, a submission, its metadata."""
    root = tmp_path / "autograder"
    (root / "submission").mkdir(parents=True)
    with zipfile.ZipFile(zipped) as archive:
        archive.extractall(root / "source")
    (root / "submission_metadata.json").write_text(json.dumps(METADATA))
    return root


def run_autograder(root: Path, program: Path, **more) -> subprocess.CompletedProcess:
    environment = os.environ | {"MSLAB_AUTOGRADER": str(root), "MSLAB": str(program)} | more
    command = ["bash", root / "source" / "run_autograder"]
    return subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=300)


def test_the_zip_has_everything_that_gradescope_requires(zipped, squares):
    with zipfile.ZipFile(zipped) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        assert archive.testzip() is None and list(entries) == sorted(entries)
        assert {"setup.sh", "run_autograder", "rubric.yaml", "constraints.txt", "project/pyproject.toml"} < set(entries)
        assert {"project/mslab/cli/__init__.py", "project/mslab/grade/feedback.html"} < set(entries)
        images = {name for name in entries if name.startswith("data/")}
        own = (squares / "three" / "val").rglob("*.png")
        assert images == {f"data/{path.relative_to(squares / 'three')}" for path in own}  # no training images
        for name, entry in entries.items():
            script = name in ("setup.sh", "run_autograder")
            assert entry.external_attr >> 16 == (0o100755 if script else 0o100644)
            assert entry.date_time == (1980, 1, 1, 0, 0, 0) and ".pyc" not in name
            if script:
                text = archive.read(name)
                assert text.startswith(b"#!/usr/bin/env bash\n") and b"\r" not in text
                assert subprocess.run(["bash", "-n"], input=text).returncode == 0
        assert archive.read("rubric.yaml").decode() == LAB


def test_the_zip_of_equal_input_has_equal_bytes(zipped, squares, tmp_path):
    (tmp_path / "rubric.yaml").write_text(LAB)
    again = gradescope.package(tmp_path / "rubric.yaml", squares / "three", tmp_path / "again.zip")
    assert again.read_bytes() == zipped.read_bytes()


def test_nothing_outside_the_data_goes_into_the_zip(squares, tmp_path):
    (tmp_path / "rubric.yaml").write_text(LAB.replace("data: val", "data: ../three/val"))
    with pytest.raises(ConfigError, match="is outside its folder"):
        gradescope.package(tmp_path / "rubric.yaml", squares / "three", tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()


def test_without_the_project_folder_it_is_an_error(squares, tmp_path, monkeypatch):
    (tmp_path / "rubric.yaml").write_text(LAB)
    monkeypatch.setattr(gradescope.mslab, "__file__", str(tmp_path / "site-packages" / "mslab" / "__init__.py"))
    with pytest.raises(MslabError, match="no pyproject") as caught:
        gradescope.package(tmp_path / "rubric.yaml", squares / "three", tmp_path / "out.zip")
    assert "--gradescope-package" in str(caught.value)


FAKE = """#!/bin/sh
echo "$@" >"$RECORD"
cp -RP "$2" "$RECORD.in"
while [ "$#" -gt 0 ]; do
    case $1 in --times) cp "$2" "$RECORD.times" ;; --out) mkdir -p "$2/students/submission"; out=$2 ;; esac
    shift
done
echo '{"score": 1}' >"$out/students/submission/results.json"
"""


@pytest.mark.parametrize("handed_in", ["folder", "archive", "nothing"])
def test_run_autograder_with_a_fake_command(autograder, tmp_path, handed_in):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "bin" / "mslab").write_text(FAKE)
    (tmp_path / "bin" / "mslab").chmod(0o755)
    if handed_in == "folder":
        (autograder / "submission" / "config.yaml").write_text("a")
        (autograder / "submission" / "link").symlink_to("/etc/passwd")
    elif handed_in == "archive":
        (autograder / "submission" / "My Lab.TAR.GZ").write_bytes(b"not opened here")
        own = {"assignment": {"due_date": "2018-08-02T23:00:00.000000-07:00"}}
        (autograder / "submission_metadata.json").write_text(json.dumps(METADATA | {"users": [own]}))
    done = run_autograder(autograder, tmp_path / "bin" / "mslab", RECORD=str(tmp_path / "record"))
    assert done.returncode == 0, done.stderr
    assert json.loads((autograder / "results" / "results.json").read_text()) == {"score": 1}
    arguments = (tmp_path / "record").read_text().split()
    assert arguments[0] == "grade" and arguments[2:6] == [
        "--rubric", str(autograder / "source" / "rubric.yaml"), "--data", str(autograder / "source" / "data")
    ]  # fmt: skip
    inside = {str(path.relative_to(tmp_path / "record.in")) for path in (tmp_path / "record.in").rglob("*")}
    if handed_in == "archive":
        assert inside == {"submission.tar.gz"}
    else:
        assert inside == {"submission"} | ({"submission/config.yaml", "submission/link"} if "f" in handed_in else set())
        assert (tmp_path / "record.in" / "submission" / "link").is_symlink() == (handed_in == "folder")
    with (tmp_path / "record.times").open(newline="") as file:
        times = list(csv.reader(file))
    due = handed_in == "archive"  # this student has an extension
    assert times[0] == ["id", "submitted", "attempt", *["due"] * due]
    assert times[1] == ["submission", METADATA["created_at"], "2", *["2018-08-02T23:00:00.000000-07:00"] * due]


ENDINGS = {  # what the grader or the container does -> what results.json says
    "fails": ("exit 1", "the grader ended with exit code 1; the teacher sees its message."),
    "out of memory": ("kill -9 $$", "signal 9 killed the grader, as happens when memory runs out. The container is"),
    "out of time": ("kill -TERM $PPID; sleep 9", "it was stopped by a signal, as happens when the time is over."),
    "all killed": (
        "kill -9 $PPID",
        "it was stopped from outside. The container is probably too small: in Autograder",
    ),
    "no results": ("exit 0", "the grader wrote no results."),
    "not installed": ("", "mslab is not installed in this image: setup.sh failed."),
}


@pytest.mark.parametrize("does, said", ENDINGS.values(), ids=list(ENDINGS))
def test_results_with_the_reason_are_there_however_the_autograder_ends(autograder, tmp_path, does, said):
    (tmp_path / "python").symlink_to(sys.executable)
    if does:
        (tmp_path / "mslab").write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / "mslab").chmod(0o755)
    done = run_autograder(autograder, tmp_path / "mslab")
    content = json.loads((autograder / "results" / "results.json").read_text())
    fits(content, TOP)
    assert done.returncode != 0 and content["score"] == 0 and said in content["output"], content
    assert "Nothing was graded." in content["output"]


def test_run_autograder(autograder, parent):
    for name in ("config.yaml", "checkpoints/best.ckpt"):
        (autograder / "submission" / name).parent.mkdir(exist_ok=True)
        (autograder / "submission" / name).write_bytes((parent / name).read_bytes())
    done = run_autograder(autograder, Path(*PROGRAM))
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((autograder / "results" / "results.json").read_text())
    fits(content, TOP)
    assert [test["max_score"] for test in content["tests"]] == [2.0, 8.0]
    assert content["tests"][0]["status"] == "passed" and content["score"] >= 2.0
