"""grade: a worker has dropped its privileges before it opens a submission, as the kernel reports from outside."""

import contextlib
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


def open_when_read(pipe: Path, child: Child) -> int:
    """Wait until the child has opened the pipe for reading, and return a descriptor to write to it."""
    for _ in range(2000):
        with contextlib.suppress(OSError):
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        assert child.process.poll() is None, child.errors
        time.sleep(0.01)
    pytest.fail("the worker has not opened the submission")


def status(process: int | str) -> dict[str, str]:
    return dict(re.findall(r"(?m)^(\w+):\t(.*)$", Path(f"/proc/{process}/status").read_text()))


def listening_ports(process: int | str) -> set[int]:
    """Return the ports with a listener in the network namespace of this process."""
    lines = Path(f"/proc/{process}/net/tcp").read_text().splitlines()[1:]
    return {int(line.split()[1].partition(":")[2], 16) for line in lines}


@linux
def test_a_worker_has_no_network_and_no_way_to_rights_when_it_opens_a_submission(tmp_path):
    """The submission is a pipe: the worker blocks when it opens it."""
    missing = [call for call in ("no_new_rights", "leave_namespaces", "refuse_calls") if not is_available(call)]
    if missing:
        pytest.skip(f"this machine does not let a process of this account use {', '.join(missing)}")
    (tmp_path / "own").mkdir()
    os.mkfifo(tmp_path / "submission.zip")
    job = {"source": str(tmp_path / "submission.zip"), "folder": str(tmp_path / "own"), "networks": {}, "relations": []}
    job |= {"given": None, "predictions": [], "sandbox": vars(Limits()), "parent": os.getpid()}
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with Child(measuring.program(), tmp_path / "own", Limits(seconds=30)) as child:
            child.send(json.dumps(job))
            pipe = open_when_read(tmp_path / "submission.zip", child)
            limits, ports = status(child.process.pid), listening_ports(child.process.pid)
            os.close(pipe)
        assert port in listening_ports("self")
    assert ports == set()  # a separate network namespace
    assert limits["NoNewPrivs"] == "1" and limits["Seccomp"] == "2"
    assert int(limits["CapEff"], 16) == int(limits["CapPrm"], 16) == 0
