"""A function in a process with limited memory: its result, its errors, its death, and its end with Ctrl-C."""

import os
import re
import subprocess
import sys

import pytest
from helpers import PROJECT

from mslab.errors import DatasetError
from mslab.runtime import limited


def test_the_result_and_the_progress_arrive(monkeypatch, tmp_path):
    shown = []
    (tmp_path / "json.py").write_text("raise SystemExit('imported from the current folder')")
    monkeypatch.chdir(tmp_path)
    result = limited.call("greedy:answers", 1, 2, progress=lambda *numbers: shown.append(numbers))
    assert result["sum"] == 3 and shown == [(1, 2)] and result["processes"] == result["session"] != os.getpid()


def test_memory_has_a_limit():
    assert limited.call("greedy:takes_memory", 2**28) == 2**28
    with pytest.raises(MemoryError):
        limited.call("greedy:takes_memory", limited.MEMORY)


def test_errors_and_deaths_are_those_of_the_function():
    with pytest.raises(DatasetError) as caught:
        limited.call("greedy:fails", "error")
    assert str(caught.value) == str(
        DatasetError("it is \udcff wrong.", expected="right", fix="mend it", details=[("a", "b")])
    )
    with pytest.raises(OSError, match="No such file or directory"):
        limited.call("greedy:fails", "refused")
    with pytest.raises(ChildProcessError, match="exit code -11 and no result"):
        limited.call("greedy:dies")


def test_a_bug_leaves_its_traceback(capfd):
    with pytest.raises(ChildProcessError, match="exit code 1 and no result"):
        limited.call("greedy:fails", "bug")
    assert "KeyError: 'of ours'" in capfd.readouterr().err


def test_ctrl_c_ends_the_process():
    processes = []

    def stop(process, _):
        processes.append(process)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        limited.call("greedy:waits", progress=stop)
    with pytest.raises(ProcessLookupError):
        os.kill(processes[0], 0)


def test_no_process_imports_mindspore():
    """One starts for each archive, and MindSpore would take seconds."""
    texts = [path.read_text() for path in (PROJECT / "mslab").rglob("*.py")]
    modules = {name for text in texts for name in re.findall(r'limited\.call\(\s*"([\w.]+):', text)}
    assert modules >= {"mslab.grade.downloads", "mslab.grade.packs", "mslab.data.unpacking", "mslab.reproduce.opening"}
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True, check=True)
    assert "mindspore" not in done.stdout.split()
