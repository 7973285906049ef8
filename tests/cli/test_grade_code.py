"""grade --run-code: a student's code runs in bubblewrap and can falsify only the logits of its own network."""

import os
import shutil
import socket
import subprocess
import sys
import textwrap
import time

import pytest
from coding import ITEMS, TRIES, files_of, graded, lab_in, need_bubblewrap, points, processes, socket_at, write
from helpers import PROGRAM, cli

from mslab.errors import ConfigError, DeviceError
from mslab.grade import gradescope, grading, measuring, sandbox
from mslab.grade.sandbox import Limits

CODE_ALONE = """
title: One network
total: 1
networks: {nine: {file: best.ckpt, data: nine, code: model.py}}
items: [{id: accuracy, kind: accuracy, points: 1, network: nine, linear: {from: 0.0, to: 1.0}}]
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Hidden images, two rubrics, of which one accepts code, and anna, once among the honest and once in a class."""
    folder = tmp_path_factory.mktemp("code")
    files = lab_in(folder)
    for name in ("anna", "tries"):
        write(folder / "class" / name, files)
    return folder


# --- refused ---------------------------------------------------------------------------------------------------------


def test_code_is_refused_before_anything_is_opened_unless_asked_for(lab, tmp_path, monkeypatch):
    monkeypatch.setattr(grading, "find_submissions", lambda folder: pytest.fail("submissions were looked for"))
    monkeypatch.setattr(grading, "hidden_sets", lambda *a: pytest.fail("images were looked for"))
    with pytest.raises(ConfigError) as caught:
        graded(lab, tmp_path / "out")
    text = str(caught.value)
    assert "networks nine" in text and "code: model.py" in text and "nothing was opened" in text
    assert (
        "strangers' programs then run on this machine, under your account" in text and "--run-code" in caught.value.fix
    )
    with pytest.raises(ConfigError):  # in an autograder no one can pass --run-code
        gradescope.package(lab / "rubric.yaml", lab / "hidden", tmp_path / "x.zip")
    assert list(tmp_path.iterdir()) == []


def test_without_bubblewrap_nothing_is_opened(lab, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    command = ["grade", lab / "honest", "--rubric", lab / "rubric.yaml", "--data", lab / "hidden", "--out", "out"]
    result = cli(*command, "--run-code", cwd=tmp_path, env={"PATH": str(tmp_path / "empty")})
    assert result.returncode == 1 and "bubblewrap is not installed" in result.stderr, result.stderr
    assert "apt install bubblewrap" in result.stderr and not (tmp_path / "out").exists()
    program = tmp_path / "empty" / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(DeviceError) as caught:
        graded(lab, tmp_path / "out", run_code=True)
    assert caught.value.what == "bubblewrap does not work here."
    assert caught.value.details == [("it reports", "bwrap: No permissions to create new namespace")]
    assert not (tmp_path / "out").exists()


def test_code_is_a_file_of_the_submission(lab, tmp_path):
    (tmp_path / "rubric.yaml").write_text(ITEMS.replace("CODE", "code: ../model.py"))
    with pytest.raises(ConfigError, match="is not a path inside a submission"):
        grading.grade(lab / "honest", tmp_path / "rubric.yaml", lab / "hidden", tmp_path / "out")
    result = cli("grade", "--rubric", "x", "--data", "x", "--gradescope-package", "x.zip", "--run-code", cwd=tmp_path)
    assert result.returncode == 2 and "leave out SUBMISSIONS, --out and --run-code" in result.stderr


# --- run -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bwrap():
    """Fixture for a test that runs code."""
    need_bubblewrap()


def test_valid_code_is_graded_like_the_same_network_without_code(lab, bwrap, tmp_path, monkeypatch):
    command = ["grade", lab / "honest", "--rubric", lab / "rubric.yaml", "--data", lab / "hidden", "--run-code"]
    result = cli(*command, "--out", tmp_path / "code", "--seconds", "60", "--gigabytes", "2")
    assert result.returncode == 0, result.stderr
    before = files_of(tmp_path / "code" / "students")
    plain = graded(lab, tmp_path / "plain", rubric="plain.yaml")
    assert 0 < points(plain["anna"])["accuracy"] < 10 and points(plain["anna"])["size"] == 5
    monkeypatch.setattr(measuring, "measure", lambda *a: pytest.fail("it was measured again"))
    rows = graded(lab, tmp_path / "code", run_code=True)
    assert {name: points(row) for name, row in rows.items()} == {name: points(row) for name, row in plain.items()}
    assert files_of(tmp_path / "code" / "students") == before


def test_guards_work_inside_of_bubblewrap_too(lab, bwrap, tmp_path):
    (tmp_path / "own").mkdir()
    code = sandbox.PREAMBLE + textwrap.dedent("""
        import json
        from pathlib import Path
        from mslab.grade.sandbox import confine
        print(json.dumps(confine(Path("."), [])), flush=True)
    """)
    plain = [sys.executable, "-I", "-c", code, *filter(None, sys.path)]
    guards = []
    for command in (plain, sandbox.bubblewrap_command(plain, tmp_path / "own", [])):
        with sandbox.Child(command, tmp_path / "own", Limits(seconds=20)) as child:
            guards += list(child.lines())
        assert child.process.returncode == 0, child.errors
    assert guards[0] == guards[1]


def test_bubblewrap_alone_protects_others(lab, bwrap, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "of the teacher")
    (tmp_path / "own").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listening, socket_at(lab / "socket"):
        code = TRIES.replace("@LAB@", repr(str(lab))).replace("@PORT@", str(listening.getsockname()[1]))
        code = code.replace("if done:", "print(*done, sep=', ', flush=True)\nif done:").replace("-1, 9", "99999, 9")
        command = sandbox.bubblewrap_command(
            [sys.executable, "-I", "-c", code], tmp_path / "own", [lab / "class" / "tries"]
        )
        command[1:1] = ["--setenv", "SECRET", "x"]  # --clearenv follows
        with sandbox.Child(command, tmp_path / "own", Limits(seconds=20)) as child:
            lines = list(child.lines())
    done = set(lines[0].split(", "))
    # inside its own namespace: there bubblewrap's first process is the parent, and it ignores signals from inside
    assert done <= {"beside", "fork", "program", "processes", "udp", "kill parent", "environment of parent",
                    "memory of parent", "kill all"}, child.errors  # fmt: skip


def test_a_grader_that_is_killed_leaves_no_code_running(lab, bwrap, tmp_path):
    (tmp_path / "rubric.yaml").write_text(CODE_ALONE)
    (tmp_path / "tmp").mkdir()
    shutil.copytree(lab / "honest" / "anna", tmp_path / "class" / "sleeps")
    (tmp_path / "class" / "sleeps" / "model.py").write_text("import time; open('begun', 'w').close(); time.sleep(600)")
    command = [*PROGRAM, "grade", "class", "--rubric", "rubric.yaml", "--run-code", "--data", lab / "hidden"]
    command += ["--out", "out"]
    no_output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = os.environ | {
        "TMPDIR": str(tmp_path / "tmp")
    }  # its workers' folders, and copies of submissions, are there
    with subprocess.Popen(command, cwd=tmp_path, env=environment, **no_output) as grader:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("tmp/*/*/begun")) and time.monotonic() < deadline:
            time.sleep(0.02)
        running = processes(str(tmp_path / "tmp"), "--unshare-all")
        grader.kill()
    deadline = time.monotonic() + 10
    while processes(str(tmp_path / "tmp")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert running and not processes(str(tmp_path / "tmp"))
