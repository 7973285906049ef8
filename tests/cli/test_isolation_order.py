"""grade: a worker has dropped its privileges before it opens a submission, as the kernel reports from outside."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mslab.grade import measuring, sandbox
from mslab.grade.sandbox import Child, Limits

linux = pytest.mark.skipif(sys.platform != "linux", reason="the guards are Linux's")


def is_available(call: str) -> bool:
    """Return whether a process of this account may use this guard; a container may refuse it."""
    code = f"import ctypes\nfrom mslab.grade import sandbox\nprint(bool(sandbox.{call}(ctypes.CDLL(None))))"
    command = [sys.executable, "-I", "-c", sandbox.PREAMBLE + code, *filter(None, sys.path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True\n"


def stopped_when_it_opens(file: Path, child: Child) -> None:
    """Wait until the child has stopped because it opens this file; see STOP."""
    for _ in range(2000):
        assert child.process.poll() is None, child.errors
        if Path(f"/proc/{child.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
            return
        time.sleep(0.01)
    pytest.fail(f"the worker has not opened {file}")


# the first lines of the worker's program: Python calls the hook before it opens a file. O_PATH: to allow reading it
STOP = """import os, signal, sys
def stop(event, arguments):
    if event == "open" and arguments[0] == {file!r} and not arguments[2] & os.O_PATH:
        os.kill(os.getpid(), signal.SIGSTOP)
sys.addaudithook(stop)
"""


def status(process: int | str) -> dict[str, str]:
    return dict(re.findall(r"(?m)^(\w+):\t(.*)$", Path(f"/proc/{process}/status").read_text()))


def listening_ports(process: int | str) -> set[int]:
    """Return the ports with a listener in the network namespace of this process."""
    lines = Path(f"/proc/{process}/net/tcp").read_text().splitlines()[1:]
    return {int(line.split()[1].partition(":")[2], 16) for line in lines}


@linux
def test_a_worker_has_no_network_and_no_way_to_rights_when_it_opens_a_submission(tmp_path):
    """Python stops the worker when it opens the submission."""
    missing = [call for call in ("no_new_rights", "leave_namespaces", "refuse_calls") if not is_available(call)]
    if missing:
        pytest.skip(f"this machine does not let a process of this account use {', '.join(missing)}")
    (tmp_path / "own").mkdir()
    submission = tmp_path / "submission.zip"
    submission.write_bytes(b"PK")
    job = {"source": str(submission), "folder": str(tmp_path / "own"), "networks": {}, "relations": []}
    job |= {"given": None, "predictions": [], "sandbox": vars(Limits()), "parent": os.getpid()}
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        python, isolated, option, program, *paths = measuring.program()
        command = [python, isolated, option, STOP.format(file=str(submission)) + program, *paths]
        with Child(command, tmp_path / "own", Limits(seconds=30)) as child:
            child.send(json.dumps(job))
            stopped_when_it_opens(submission, child)
            limits, ports = status(child.process.pid), listening_ports(child.process.pid)
        assert port in listening_ports("self")
    assert ports == set()  # a separate network namespace
    assert limits["NoNewPrivs"] == "1" and limits["Seccomp"] == "2"
    assert int(limits["CapEff"], 16) == int(limits["CapPrm"], 16) == 0
