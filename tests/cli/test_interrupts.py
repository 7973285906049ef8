"""Ctrl-C at many moments of a command: exit 130, nothing half written, and the command that is named goes on."""

import json
import os
import shlex
import signal
from pathlib import Path

import pytest
from helpers import cli, manifest, newest

from mslab.check import training_data
from mslab.cli import data
from mslab.data import unpacking
from mslab.evaluation import measuring, metrics
from mslab.report import single
from mslab.runs.folder import RunFolder
from mslab.runtime import signals
from mslab.training import start


@pytest.fixture
def press(monkeypatch):
    """press(owner, name, presses=1): call a command in which Ctrl-C is pressed as this function begins."""

    def press(owner, name, *words, presses=1):
        function = getattr(owner, name)
        left = [signal.SIGINT] * presses

        def pressed(*arguments, **options):
            while left:
                os.kill(os.getpid(), left.pop())
            return function(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, pressed)
            patch.setattr(signals, "SAME", 0)
            done = cli(*words, env={"COLUMNS": "250"})
        assert done.returncode == 130 and not left, done.stderr
        assert "Traceback" not in done.stderr and not [*Path().rglob("*.tmp"), *Path().rglob(".partial-*")]
        return done.stderr

    return press


NOTHING = "stopped by Ctrl-C; nothing was written; the same command begins again\n"


def goes_on(text: str) -> list[str]:
    """The words after `mslab` of the command that the last line names."""
    return shlex.split(text.splitlines()[-1].partition("mslab ")[2].partition("    ")[0])


def test_ctrl_c_at_every_moment_of_a_training_leaves_nothing_or_a_run_that_the_named_command_ends(inside, three, press):
    (inside / "x.yaml").write_text(json.dumps(three | {"epochs": 2}))
    train = ("train", "x.yaml", "--no-report")
    assert press(training_data, "check_or_raise", *train).endswith(NOTHING)
    assert not Path("runs").exists()
    text = press(RunFolder, "write_settings", *train)  # while the folder is made
    assert manifest(newest())["status"] == "interrupted" and goes_on(text) == ["train", "--resume", str(newest())]
    assert text.endswith("continues it from its beginning\n")
    text = press(measuring, "measure", *goes_on(text), "--no-report")  # in the validation, whose epoch is kept
    assert "stopping after this step" in text and text.endswith("    continues it after epoch 1 of 2\n")
    text = press(RunFolder, "finalize", *goes_on(text), "--no-report", presses=2)  # at its end
    assert text.endswith("    ends it: all epochs are trained\n") and manifest(newest())["status"] == "interrupted"
    assert cli(*goes_on(text), "--no-report").returncode == 0 and manifest(newest())["status"] == "done"


def test_ctrl_c_after_the_last_step_and_in_the_report_names_what_is_left(inside, three, press, monkeypatch, hangup):
    (inside / "x.yaml").write_text(json.dumps(three | {"epochs": 1}))
    text = press(metrics, "linear_or_note", "train", "x.yaml")
    assert text.endswith("    ends it: all epochs are trained\n") and manifest(newest())["status"] == "interrupted"
    run = newest()
    with monkeypatch.context() as patch, pytest.raises(signals.Interrupted, match=f"^mslab train --resume {run} "):
        patch.setattr(metrics, "linear_or_note", lambda *_: os.kill(os.getpid(), signal.SIGHUP))
        start.resume(run)  # in a script, whose terminal closes
    assert manifest(run)["status"] == "interrupted"
    text = press(single, "facts", *goes_on(text))
    assert text.endswith(f"; {run} is complete but for its report: mslab report {run}    writes it\n")
    done = cli("train", "--resume", run)
    assert done.returncode == 0 and f"mslab report {run}    writes its report, which it does not have" in done.stderr
    assert press(measuring, "measured_split", "eval", run, "--data", three["val_data"]).endswith(NOTHING)
    assert press(single, "facts", *goes_on(text)).endswith(NOTHING) and not (run / "report.html").exists()
    assert cli(*goes_on(text)).returncode == 0 and (run / "report.html").is_file()


def test_ctrl_c_in_the_check_of_an_import_says_that_the_images_are_there(inside, squares, press):
    import shutil

    shutil.make_archive("set", "zip", squares / "two" / "val")
    text = press(data, "checked", "data", "import", "set.zip")
    assert goes_on(text) == ["check", "datasets/set"] and cli(*goes_on(text)).returncode == 0
    assert press(unpacking, "import_archive", "data", "import", "set.zip", "--out", "b").endswith(NOTHING)
    assert not Path("b").exists()
