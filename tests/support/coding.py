"""A lab whose rubric accepts students' code, and code that attacks."""

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import draw
from submitted import bytes_of, network

from mslab.errors import DeviceError
from mslab.grade import grading, sandbox
from mslab.grade.sandbox import Limits

ITEMS = """
title: Code
total: 30
networks: {nine: {file: best.ckpt, data: nine, CODE}, two: {file: two.ckpt, data: nine}}
items:
  - {id: accuracy, kind: accuracy, points: 10, public: true, network: nine, linear: {from: 0.0, to: 1.0}}
  - {id: other, kind: accuracy, points: 10, public: true, network: two, linear: {from: 0.0, to: 1.0}}
  - {id: files, kind: files, points: 5, files: [report.md, facts.json]}
  - {id: size, kind: size, points: 5, network: nine, at_most: 20_000}
"""
GOOD = """
from mslab import model
def network(class_num):
    backbone = model.resnet50_backbone([[1, 8, 1], [1, 8, 2]], model.PROFILE)
    return model.ResNet50(backbone, model.resnet50_head(class_num, backbone.channels))
"""
FIND = """
import os, time
def shout(text):  # to every descriptor: one of them is the pipe to the grader
    for number in range(3, 40):
        try:
            os.write(number, text.encode())
        except OSError:
            pass
def forged():
    import numpy as np
    np.save("logits.npy", np.eye(3, dtype=np.float32)[[0] * 12])
"""
TRIES = """
import ctypes, os, socket, subprocess, threading
from pathlib import Path
LAB, PORT = Path(@LAB@), @PORT@
done = []
def attempt(name, action):
    try:
        action()
        done.append(name)
    except OSError:
        pass
attempt("hidden", lambda: os.listdir(LAB / "hidden" / "nine"))
attempt("image", (LAB / "hidden" / "nine" / "a" / "000.png").read_bytes)
attempt("rubric", (LAB / "rubric.yaml").read_bytes)
attempt("other", (LAB / "class" / "anna" / "best.ckpt").read_bytes)
attempt("own source", lambda: (LAB / "class" / "tries" / "report.md").write_text("x"))
attempt("home", lambda: os.listdir("/home"))
attempt("beside", lambda: os.listdir(Path.home().parent))
attempt("passwd", Path("/etc/passwd").read_bytes)
attempt("tmp", lambda: Path("/tmp/x").write_text("x"))
attempt("shm", lambda: Path("/dev/shm/x").write_text("x"))
attempt("root", lambda: Path("/x").write_text("x"))
attempt("package", lambda: (Path(ctypes.__file__).parent / "x").write_text("x"))
attempt("tcp", lambda: socket.create_connection(("127.0.0.1", PORT), 1))
attempt("udp", lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9)))
attempt("unix", lambda: socket.socket(socket.AF_UNIX).connect(str(LAB / "socket")))
attempt("fork", os.fork)
attempt("program", lambda: subprocess.run(["/bin/true"]))
attempt("kill parent", lambda: os.kill(os.getppid(), 9))
attempt("kill all", lambda: os.kill(-1, 9))
attempt("memory of parent", lambda: open(f"/proc/{os.getppid()}/mem", "rb"))
attempt("environment of parent", lambda: open(f"/proc/{os.getppid()}/environ", "rb"))
attempt("processes", lambda: os.listdir("/proc"))
if "SECRET" in os.environ:
    done.append("environment")
if done:
    raise RuntimeError(f"done: {done}")
"""


def lab_in(folder: Path) -> dict[str, bytes]:
    """Make hidden images, two rubrics, of which one accepts code, and honest/anna. Returns her files."""
    draw(folder / "hidden" / "nine", ["a", "b", "c"], 4, size=32)
    (folder / "rubric.yaml").write_text(ITEMS.replace("CODE", "code: model.py"))
    (folder / "plain.yaml").write_text(ITEMS.replace(", CODE", ""))
    files = {"best.ckpt": bytes_of(folder, *network(seed=3)), "two.ckpt": bytes_of(folder, *network(seed=4))}
    (folder / "made.ckpt").unlink()
    files |= {"report.md": b"x", "model.py": GOOD.encode()}
    write(folder / "honest" / "anna", files)
    return files


def write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


@contextmanager
def socket_at(path: Path) -> Iterator[None]:
    """A listening socket at this path."""
    previous = Path.cwd()
    os.chdir(path.parent)  # a socket's path has at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
            listening.listen()
            yield
    finally:
        path.unlink()
        os.chdir(previous)


def graded(lab, out, students="honest", rubric="rubric.yaml", **more):
    options = grading.GradeOptions(limits=Limits(seconds=60.0, memory=2 << 30), **more)
    rows = grading.grade(lab / students, lab / rubric, lab / "hidden", out, options)
    return {row.id: row for row in rows}


def points(row) -> dict[str, float]:
    return {name: outcome.points for name, outcome in row.outcomes.items()}


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def processes(*texts: str) -> list[str]:
    """Command lines of other processes that contain all texts."""
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_text(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if all(part in command for part in texts) and path.parent.name != str(os.getpid()):
            commands.append(command)
    return commands


def need_bubblewrap() -> None:
    """Skip a test that runs code if bubblewrap does not work here."""
    if sys.platform != "linux" or not shutil.which("bwrap"):
        pytest.skip("there is no program bwrap; on Debian: apt-get install bubblewrap")
    try:
        sandbox.require_bubblewrap()
    except DeviceError as error:
        pytest.skip(str(error))
