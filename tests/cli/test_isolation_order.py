"""grade: a worker has given up its rights when it opens a submission. Seen from outside, by the kernel."""

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


def alone(call: str) -> bool:
    """Whether a process of this account may take this one guard on here; a container may refuse it."""
    code = f"import ctypes\nfrom mslab.grade import sandbox\nprint(bool(sandbox.{call}(ctypes.CDLL(None))))"
    words = [sys.executable, "-I", "-c", sandbox.PREAMBLE + code, *filter(None, sys.path)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout == "True\n"


def opened(pipe: Path, child: Child) -> int:
    """A descriptor to write to the pipe, once the child has opened it to read."""
    for _ in range(2000):
        with contextlib.suppress(OSError):
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        assert child.process.poll() is None, child.errors
        time.sleep(0.01)
    pytest.fail("the worker has not opened the submission")


def status(process: int | str) -> dict[str, str]:
    return dict(re.findall(r"(?m)^(\w+):\t(.*)$", Path(f"/proc/{process}/status").read_text()))


def listening(process: int | str) -> set[int]:
    """The ports that somebody listens at in the network of this process."""
    lines = Path(f"/proc/{process}/net/tcp").read_text().splitlines()[1:]
    return {int(line.split()[1].partition(":")[2], 16) for line in lines}


@linux
def test_a_worker_has_no_network_and_no_way_to_rights_when_it_opens_a_submission(tmp_path):
    """The submission is a pipe: the worker stands still where it opens it."""
    lacking = [call for call in ("no_new_rights", "leave_namespaces", "refuse_calls") if not alone(call)]
    if lacking:
        pytest.skip(f"this machine does not let a process of this account use {', '.join(lacking)}")
    (tmp_path / "own").mkdir()
    os.mkfifo(tmp_path / "submission.zip")
    job = {"source": str(tmp_path / "submission.zip"), "folder": str(tmp_path / "own"), "networks": {}, "relations": []}
    job |= {"given": None, "predictions": [], "sandbox": vars(Limits()), "parent": os.getpid()}
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with Child(measuring.program(), tmp_path / "own", Limits(seconds=30)) as child:
            child.send(json.dumps(job))
            pipe = opened(tmp_path / "submission.zip", child)
            seen, ports = status(child.process.pid), listening(child.process.pid)
            os.close(pipe)
        assert port in listening("self")
    assert ports == set()  # a network of its own
    assert seen["NoNewPrivs"] == "1" and seen["Seccomp"] == "2"
    assert int(seen["CapEff"], 16) == int(seen["CapPrm"], 16) == 0
