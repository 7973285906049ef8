"""One process at a time writes into a run folder, and the other is told which one; a dead process locks nothing."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mslab.errors import RunError
from mslab.runs import lock

HOLD = """
import sys, time
from pathlib import Path
from mslab.runs import lock
with lock.held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
RACE = """
import sys, time
from pathlib import Path
from mslab.errors import RunError
from mslab.runs import lock
if sys.argv[2] == "without":
    lock.fcntl = None  # as on a disk without locks
run = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
try:
    with lock.held(run):
        print("held", flush=True)
        sys.stdin.readline()
except RunError:
    print("refused", flush=True)
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A folder that looks like a run."""
    monkeypatch.chdir(tmp_path)
    folder = Path("run")
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("manifest.json", "config.yaml"):
        (folder / name).write_text("")
    return folder


@pytest.fixture
def holder(run):
    """A process that holds its lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def refusal(run: Path) -> str:
    with pytest.raises(RunError) as caught, lock.held(run):
        pass
    return str(caught.value)


def record(**changes) -> dict:
    own = os.getpid()
    content = {"process": own, "started": lock.start_time(own), "host": lock.HOST, "boot": lock.boot()}
    return content | {"space": lock.space(), "command": "mslab train x.yaml", "since": time.time()} | changes


def write(run: Path, **changes):
    (run / ".lock").write_text(json.dumps(record(**changes)))


def test_a_second_process_is_told_who_writes_and_what_to_do(run, holder):
    text = refusal(run)
    assert "Another process is writing into run." in text
    assert f"process   {holder.pid} on {lock.HOST}" in text and "command   -c run" in text
    assert re.search(r"since     20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", text) and "fix       wait until it has ended" in text
    assert "rm " not in text  # it is known to live
    with pytest.raises(RunError) as caught, lock.held_around({"--out": run / "checkpoints" / "best.onnx"}):
        pass
    assert "fix       --out with a path outside of run; or wait until it has ended" in str(caught.value)
    waits = f"wait until process {holder.pid} on {lock.HOST} has ended: it writes into run; "
    assert lock.go_on(run).startswith(waits) and "--resume" not in lock.go_on(run)
    copied = Path(shutil.copytree(run, "copied"))  # together with the lock of a process that knows nothing of it
    with lock.held(copied):
        assert json.loads((copied / ".lock").read_text())["process"] == os.getpid()
    holder.send_signal(signal.SIGINT)
    holder.wait()
    assert not (run / ".lock").exists() and not list(run.glob(".lock*"))


def test_a_killed_process_leaves_a_lock_that_does_not_count(run, holder):
    holder.kill()
    holder.wait()
    assert (run / ".lock").exists() and lock.go_on(run) == "mslab train --resume run"
    with lock.held(run):
        assert json.loads((run / ".lock").read_text())["process"] == os.getpid()
    assert sorted(path.name for path in run.iterdir()) == ["checkpoints", "config.yaml", "manifest.json"]


def test_one_process_holds_it_again_and_an_error_releases_it(run):
    with (
        pytest.raises(ZeroDivisionError),
        lock.held(run),
        lock.held(run.resolve()),
        lock.held_around({"--out": run / "x.html"}),
    ):
        assert (run / ".lock").exists()
        raise ZeroDivisionError
    assert not (run / ".lock").exists()
    with lock.held(run / "missing"), lock.held_around({"--json": "-", "--out": Path("/x/y")}):
        assert not (run / ".lock").exists()


@pytest.mark.parametrize(
    "left",
    [
        {"process": 2**22 + 1},
        {"started": "1"},  # the number is in use again
        {"process": -1},
        {"boot": "an earlier one", "since": 1.0},  # this machine was started again since
    ],
)
def test_a_lock_of_no_living_process_does_not_count(run, left):
    write(run, **left)
    with lock.held(run):
        pass
    assert not (run / ".lock").exists()


@pytest.mark.parametrize("text", ["", "[" * 9000, json.dumps({"process": 1})])
def test_a_lock_that_says_nothing_does_not_count(run, text):
    (run / ".lock").write_text(text)
    with lock.held(run):
        pass


def test_a_lock_of_another_machine_is_named_with_the_way_to_remove_it(run):
    """Nobody can see here whether that process lives. A folder that was handed in may have any lock."""
    write(run, host="lab-7\x1b[2J", boot="of lab-7", command="mslab train\n  fix  rm -rf /", since=1.8e9)
    text = refusal(run)
    assert "on lab-7\\x1b[2J" in text and "mslab train\\n  fix  rm -rf /" in text, text
    assert text.endswith("if that process no longer runs (this machine cannot see it): rm run/.lock"), text
    write(run, boot="of a machine of the same name", since=time.time() + 9)  # which started after ours
    assert "rm run/.lock" in refusal(run)
    write(run, host="x", boot="y", since=1e300)
    assert "since     an unknown time" in refusal(run)
    (run / ".lock").unlink()  # as the message says
    with lock.held(run):
        pass


def test_what_is_no_file_is_named_and_not_followed(run):
    (run / ".lock").symlink_to("manifest.json")
    assert "run/.lock is a link." in refusal(run)
    (run / ".lock").unlink()
    (run / ".lock").mkdir()
    assert re.search(r"run/.lock is a folder.*\n.*\n +fix +rm -r run/.lock", refusal(run))
    (run / ".lock").rmdir()
    os.mkfifo(run / ".lock")
    assert "run/.lock is a FIFO." in refusal(run)
    assert (run / "manifest.json").read_text() == ""


@pytest.mark.parametrize("locks", ["with", "without"])
def test_of_processes_that_find_a_dead_lock_at_once_one_gets_it(run, locks):
    write(run, process=2**22 + 1)
    command = [sys.executable, "-c", RACE, str(run), locks]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    crowd = [subprocess.Popen(command, text=True, **pipes) for _ in range(4)]
    for process in crowd:
        assert process.stdout.readline() == "ready\n"
    for process in crowd:
        process.stdin.write("\n")
        process.stdin.flush()
    answers = sorted(process.stdout.readline() for process in crowd)
    for process in crowd:
        process.communicate("\n")
    assert answers == ["held\n", "refused\n", "refused\n", "refused\n"]
    assert not list(run.glob(".lock*"))


def test_the_workers_of_a_training_share_its_lock(run, holder, monkeypatch):
    monkeypatch.setenv(lock.SHARED, str(run.resolve()))
    with lock.held(run):
        pass
    assert (run / ".lock").exists()
