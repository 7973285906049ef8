"""What the fix lines say is done, and works: the quick ones. tests/slow/test_fixes.py has those that train."""

import shlex
import shutil
import subprocess
from pathlib import Path

import fixing
from helpers import PROGRAM, cli, draw, manifest, newest, without_roots_rights

from mslab.runs.folder import RunFolder


def interrupted(monkeypatch, *words):
    """Call a command in which Ctrl-C is pressed after the first epoch of a run."""
    commit = RunFolder.commit

    def commit_and_stop(self, *rest):
        commit(self, *rest)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "commit", commit_and_stop)
        return cli(*words, env={"COLUMNS": "250"})


def test_what_a_fix_line_says_works(parent, inside):
    run = Path(shutil.copytree(parent, Path("runs") / "it"))
    fixing.check(fixing.QUICK, fixing.prepare(run))


def test_after_ctrl_c_the_command_that_is_named_continues_the_run(parent, inside, monkeypatch):
    fixing.prepare(parent)
    done = interrupted(monkeypatch, "train", "x.yaml", "epochs=2", "--no-report")
    assert done.returncode == 130 and "    continues it after epoch 1 of 2\n" in done.stderr
    words = shlex.split(done.stderr.split("stopped by Ctrl-C; mslab ")[1].split("    ")[0])
    assert cli(*words, "--no-report").returncode == 0 and manifest(newest())["status"] == "done"
    words = ("transfer", "y.yaml", "--backbone", parent, "--compare", "scratch", "--fractions", "1", "--seeds", "1")
    done = interrupted(monkeypatch, *words)
    assert done.returncode == 130 and "mslab train --resume" not in done.stderr
    assert "the same command begins a new comparison" in done.stderr and "comparison.json has the 0 of 1" in done.stderr
    done = interrupted(monkeypatch, "repeat", "x.yaml", "--seeds", "2")
    assert done.returncode == 130 and "the same command begins a new repetition; runs/x-repeat-" in done.stderr
    assert (
        "/repeat.json has the 0 of 2 runs so far" in done.stderr and manifest(newest("*/seed1"))["status"] != "running"
    )


def test_a_folder_that_cannot_be_read_is_read_after_the_chmod_that_is_shown(inside):
    draw(Path("set"), ["a", "b"], 8)
    Path("set/a").chmod(0)
    check = [*PROGRAM, "check", "set"]
    done = subprocess.run(check, capture_output=True, text=True, preexec_fn=without_roots_rights, check=False)
    fix = next(line for line in done.stdout.splitlines() if "chmod" in line)
    subprocess.run(["bash", "-c", fix[fix.index("chmod") :]], check=True)
    assert done.returncode == 1 and cli("check", "set").returncode == 0
