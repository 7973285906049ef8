"""A command line that does not parse is answered with what to type."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from helpers import cli

from mslab import escaping
from mslab.cli import endings
from mslab.runtime import signals


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("train x.yaml --epochs 1", "No such option: --epochs. epochs is a setting: type epochs=1"),
        ("train --epochs=1 x.yaml", "epochs is a setting: type epochs=1"),
        ("train x.yaml --batch-size", "batch_size is a setting: type batch_size=VALUE"),
        ("train x.yaml --lr_max 0.1 --no-report", "type lr_max=0.1"),
        ("transfer x.yaml --backbone y --epoch 3", "epochs is a setting: type epochs=3"),
        ("sweep x.yaml --space y --learning-rate 0.1", "lr_max is a setting: type lr_max=0.1"),
        ("train x.yaml --num-classes 9", "class_num is a setting: type class_num=9"),
        ("repeat x.yaml --seed 3", "seed is a setting: type seed=3"),
        ("eval runs/x --data y --batch-size 3", "batch_size is a setting, which this command does not take."),
        ("train x.yaml -h", "Type --help"),
        ("train x.yaml -lr 0.1", "No such option: -lr. lr_max is a setting: type lr_max=0.1"),
        ("train x.yaml -epochs=3", "No such option: -epochs. epochs is a setting: type epochs=3"),
        ("train x.yaml --EPOCHS 3", "type epochs=3"),
        (
            "train --config x.yaml",
            "No such option: --config. CONFIG has no option: type it first, as in",
        ),
        ("repeat -c x.yaml", "No such option: -c. CONFIG has no option"),
        ("sweep x.yaml --space y --jobs 2", "No such option: --jobs. Type --workers"),
        ("transfer x.yaml --backbone", "--backbone needs a value: --backbone FILE|RUN a .ckpt,"),
        ("transfer x.yaml --backbone --no-report", "--backbone needs a value: --backbone FILE|RUN"),
        ("train --resume --no-report", "--resume needs a value: --resume RUN"),
        ("transfer x.yaml", "Missing option '--backbone'. Type --backbone FILE|RUN: a .ckpt"),
        ("eval runs/x", "Missing option '--data'. Type --data ROOT: "),
        ("check", "Missing argument 'ROOT|CONFIG'. Type ROOT|CONFIG: a folder"),
        ("export runs/x", "name --format mindir, --format onnx, or --modelarts FOLDER"),
        ("export runs/x --modelarts new --format onnx", "leave out --format and --out"),
        ("trian x.yaml", "Did you mean 'train'"),
    ],
)
def test_a_wrong_command_line_is_answered_with_what_to_type(words, answer):
    done = cli(*words.split(), env={"COLUMNS": "250"})
    assert done.returncode == 2 and answer in re.sub(r"\s+", " ", done.stderr), done.stderr


def test_after_ctrl_c_each_command_says_what_is_kept_and_what_goes_on():
    resumable = signals.Interrupted("mslab train --resume runs/x    continues it after epoch 2 of 3")
    for name in ("train", "sweep", "import"):
        assert endings.message(name, resumable).endswith(
            "; mslab train --resume runs/x    continues it after epoch 2 of 3"
        )
    nothing = "stopped by Ctrl-C; nothing was written; the same command begins again"
    for name in ("train", "eval", "predict", "report", "lr-find", "tune-batch", "split", "export", "doctor"):
        assert endings.message(name, KeyboardInterrupt()) == endings.message(name, None) == nothing
    assert "in runs/demo-*, are kept; the same" in endings.message("demo", KeyboardInterrupt())
    assert "the same command continues" in endings.message("grade", KeyboardInterrupt())
    assert "--resume RUN" not in "".join(endings.message(name, None) for name in endings.KEPT)


def test_a_second_ctrl_c_waits_for_the_cleaning_up_and_for_what_has_to_be_complete(caplog, monkeypatch, hangup):
    done = []
    monkeypatch.setattr(signals, "SAME", 0)
    with pytest.raises(KeyboardInterrupt), signals.on_stop(signals.stop_at_once):
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            done.append("cleaned up")
            with contextlib.suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)  # whoever presses again ends the cleaning up as well
                done.append("never")
    with contextlib.suppress(KeyboardInterrupt), signals.on_stop(signals.stop_at_once):
        with signals.held():
            os.kill(os.getpid(), signal.SIGHUP)
            done.append("complete")
        done.append("never")
    assert done == ["cleaned up", "complete"]


def test_ctrl_c_that_python_drops_in_a_destructor_stops_the_command_all_the_same():
    class Dropped:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt), signals.command(str):
        Dropped()
        time.sleep(5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_and_the_end_of_the_terminal_stop_a_command_and_are_named(number, hangup):
    with pytest.raises(KeyboardInterrupt), signals.on_stop(signals.stop_at_once):
        os.kill(os.getpid(), number)
    expected = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "Ctrl-C or SIGTERM", signal.SIGHUP: "SIGHUP"}
    assert signals.cause() == expected[number]


NOTHING = "stopped by Ctrl-C; nothing was written; the same command begins again\n"


def test_ctrl_c_while_a_command_is_imported_is_no_traceback():
    code = """
import os, signal, sys
class Press:
    def find_spec(self, name, path=None, target=None):
        if name == "mslab.runtime":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Press())
sys.argv[0] = sys.argv[1]
import mslab
"""
    command, script = (
        subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True)
        for name in ("/bin/mslab", "lab.py")
    )
    assert (command.returncode, command.stderr) == (130, NOTHING)
    assert "KeyboardInterrupt" in script.stderr  # a script handles it itself


def test_a_command_under_nohup_outlives_the_terminal():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.on_stop(signals.stop_at_once):
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_packages_are_installed_beside_this_mslab(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert escaping.pip_install("numpy<2") == f"{escaping.quoted(sys.executable)} -m pip install 'numpy<2'"
    (tmp_path / "python").symlink_to(sys.executable)
    (tmp_path / "pip").write_text("#!/bin/sh\n")
    (tmp_path / "pip").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert escaping.pip_install("numpy<2", "mslab[onnx]") == "pip install 'numpy<2' 'mslab[onnx]'"
    (tmp_path / "pip").unlink()
    monkeypatch.setattr(escaping, "find_spec", lambda name: None)
    assert escaping.pip_install("x") == f"uv pip install --python {tmp_path}/python x"
