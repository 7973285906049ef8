"""While a process writes into a run folder, commands that would write there are refused, and readers are not."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers import cli

from mslab.runs import lock

HOLD = """
import sys, time
from pathlib import Path
from mslab.runs import lock
with lock.held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(300)
"""


@pytest.fixture
def run(parent, inside):
    """A finished run into which another process writes."""
    folder = Path(shutil.copytree(parent, "run"))
    holder = subprocess.Popen([sys.executable, "-c", HOLD, "run"], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    yield folder
    holder.kill()
    holder.wait()


def test_writers_are_refused_and_readers_are_not(run, squares):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    data = squares / "three" / "val"
    for words in (
        ("report", run),
        ("export", run, "--format", "mindir"),
        ("eval", run, "--data", data, "--json", run / "x.json"),
        ("predict", run, data, "--csv", run / "checkpoints" / "x.csv"),
        ("convert", run / "checkpoints" / "best.ckpt", "--to", run / "checkpoints" / "x.safetensors"),
        ("pack", f"run={run}", "--out", run / "x.zip"),
        ("grade", "nowhere", "--rubric", "x", "--data", data, "--out", run),
    ):
        done = cli(*words)
        assert done.returncode == 1 and "Another process is writing into" in done.stderr, (words, done.stderr)
        elsewhere = next((word for word in ("--json", "--csv", "--to", "--out") if word in words), "--out")
        fix = f"\n  fix       {elsewhere} with a path outside of run; or wait until it has ended, or stop it"
        assert fix in done.stderr and done.stdout == "", done.stderr
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    finished = cli("train", "--resume", run)
    assert finished.returncode == 0 and "is finished" in finished.stderr, finished.stderr
    for words in (("watch", run, "--once"), ("verify", run), ("predict", run, data / "a", "--json", "x.json")):
        done = cli(*words)
        assert done.returncode == 0, (words, done.stderr)
    text = (run / "manifest.json").read_text()
    (run / "manifest.json").write_text(text.replace('"status": "done"', '"status": "running"'))
    for words in (("train", "--resume", run), ("train", "--resume", run, "--workers", "2")):
        done = cli(*words)
        assert done.returncode == 1 and "\n  fix       wait until it has ended" in done.stderr, done.stderr
    done = cli("archive", run)
    assert done.returncode == 1 and "fix       wait until process" in done.stderr, done.stderr
    assert cli("pack", f"run={run}", "--out", "ada.zip").returncode == 0
    assert not [name for name in zipfile.ZipFile("ada.zip").namelist() if lock.NAME in name]
