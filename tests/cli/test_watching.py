"""mslab watch on a real pseudo-terminal: it follows a run, ends with it, and leaves the terminal clean."""

import codecs
import csv
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from helpers import PROGRAM, cli, figures

import mslab
from mslab.cli import app
from mslab.errors import RunError
from mslab.files import write_text
from mslab.report import plots, watching
from mslab.runs import manifest
from mslab.runs.folder import COLUMNS, RunFolder

ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|\][^\x07]*\x07|.)")


class Terminal:
    """A pseudo-terminal of 80 x 24. `output`: everything that was written to it."""

    def __init__(self, lines=24, columns=80, **environment):
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR", "CI")}
        self.environment |= {"TERM": "xterm-256color", **environment}
        self.output, self.decoder = "", codecs.getincrementaldecoder("utf-8")()

    def read(self, until=lambda output: False, timeout=60):
        """Read until `until(output)` is true or no process has the terminal open."""
        deadline = time.monotonic() + timeout
        while not until(self.output):
            assert time.monotonic() < deadline, self.output
            if not select.select([self.master], [], [], 0.1)[0]:
                continue
            try:
                self.output += self.decoder.decode(os.read(self.master, 65536))
            except OSError:
                break
        return self.output

    def wait_for(self, text):
        self.read(lambda output: text in ESCAPES.sub("", output))

    def final_text(self):
        """The text that remains on the terminal after the full-screen display."""
        self.read()
        os.close(self.master)
        _, _, text = self.output.rpartition("\x1b[?1049l")
        return ESCAPES.sub("", text).replace("\r", "")

    def start(self, *arguments):
        """Run `mslab watch …` on it in a separate process that receives ^C."""
        session = {"start_new_session": True, "preexec_fn": lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)}
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), self.slave)
        command = [*PROGRAM, "watch", *map(str, arguments)]
        self.process = subprocess.Popen(command, env=self.environment, **streams, **session)
        os.close(self.slave)
        return self

    def end(self):
        """(exit code of the process, final text)."""
        text = self.final_text()
        return self.process.wait(10), text


def watch(*arguments, then=(), **terminal):
    """Run `mslab watch …` in this process, with a terminal as its standard streams.

    `then`: pairs of a text to wait for and an action to take then. Returns the exit code, the final text and the
    terminal.
    """
    screen = Terminal(**terminal)
    errors = []

    def follow():
        try:
            for text, action in then:
                screen.wait_for(text)
                action()
            screen.read()
        except Exception as error:
            errors.append(error)
            os.kill(os.getpid(), signal.SIGINT)  # ends mslab watch

    with ExitStack() as stack:
        copies = [os.dup(number) for number in range(3)]
        for number, copy in enumerate(copies):
            stack.callback(os.close, copy)
            stack.callback(os.dup2, copy, number)
            os.dup2(screen.slave, number)
        for name in ("stdout", "stderr"):
            stream = stack.enter_context(open(os.dup(screen.slave), "w", buffering=1, encoding="utf-8"))  # noqa: PTH123
            stack.enter_context(mock.patch.object(sys, name, stream))
        os.close(screen.slave)
        stack.enter_context(mock.patch.dict(os.environ, screen.environment, clear=True))
        reader = threading.Thread(target=follow)
        reader.start()
        with pytest.raises(SystemExit) as caught:
            app(["watch", *map(str, arguments)], prog_name="mslab")
    reader.join()
    assert not errors, errors
    return caught.value.code, screen.final_text(), screen


@pytest.fixture(autouse=True)
def brisk(monkeypatch):
    """Read the files more often than a person needs."""
    monkeypatch.setattr(watching, "PAUSE", 0.02)


@pytest.fixture
def run(parent, inside):
    """A run with 3 of 40 epochs whose process is alive: this process has the lock."""
    folder = Path(shutil.copytree(parent, inside / "run"))
    for name, before, after in (("config.yaml", "epochs: 1 ", "epochs: 40"), ("manifest.json", '"done"', '"running"')):
        (folder / name).write_text((folder / name).read_text().replace(before, after, 1))
    write(folder, 3)
    with (folder / "train.log").open() as log:
        fcntl.flock(log, fcntl.LOCK_SH)
        yield folder


def write(folder, epochs, **values):
    """Replace history.csv atomically, as a run does. Every second epoch is measured."""
    rows = []
    for n in range(1, epochs + 1):
        row = {"epoch": n, "step": 6 * n, "lr": 0.05, "images_per_s": 123.4, "seconds": 10}
        row |= {"train_loss": 1 / n, "train_acc": 1 - 0.5 / n}
        row |= {"val_loss": 1.5 / n if n % 2 else "", "val_acc": 1 - 0.6 / n if n % 2 else ""} | values
        rows.append(row)
    with (folder / "new").open("w") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    write_text(folder / "history.csv", (folder / "new").read_text())


def change_manifest(folder, **values):
    write_text(folder / "manifest.json", json.dumps(json.loads((folder / "manifest.json").read_text()) | values))


def test_a_real_run_is_followed_to_its_end_and_ctrl_c_ends_only_mslab_watch(three, inside, monkeypatch):
    """Two processes watch the run; each epoch waits until they have shown it."""
    commit, terminals = RunFolder.commit, []

    def commit_and_wait(self, *rest):
        commit(self, *rest)
        if self.epochs_done == 1:
            terminals.extend(Terminal().start(self.path) for _ in range(2))
        for terminal in terminals:
            terminal.wait_for(f"epoch {self.epochs_done}/3  running")
        if self.epochs_done == 2:
            stopped = terminals.pop()
            os.write(stopped.master, b"\x03")
            code, after = stopped.end()
            assert code == 130 and "stopped watching; the run continues" in after
            assert "epoch 2/3  running" in after
            assert stopped.output.rindex("\x1b[?25h") > stopped.output.rindex(
                "\x1b[?25l"
            )  # the cursor is visible again

    monkeypatch.setattr(RunFolder, "commit", commit_and_wait)
    run = mslab.train(three | {"epochs": 3}).run
    (terminal,) = terminals
    code, after = terminal.end()
    best = max(figures(run), key=lambda row: (float(row["val_acc"]), -int(row["epoch"])))
    assert f"epoch 3/3  done  best val_acc {float(best['val_acc']):.3f} in epoch {best['epoch']}" in after
    assert code == 0 and "└1─" in after
    epochs = [int(n) for n in re.findall(r"epoch (\d+)/3  running", ESCAPES.sub("", terminal.output))]
    assert set(epochs) == {1, 2, 3} and epochs == sorted(epochs)


def test_it_redraws_when_the_file_changes_and_restores_the_terminal(run):
    done = {"status": "done", "ended_by": "early stopping: enough"}
    code, after, terminal = watch(
        run,
        then=[
            ("epoch 3/40  running", lambda: write(run, 4)),
            ("epoch 4/40  running", lambda: change_manifest(run, **done)),
        ],
    )
    assert code == 0 and "epoch 4/40  done (early stopping: enough)  best val_acc 0.800 in epoch 3" in after
    assert terminal.output.startswith("\x1b[?1049h") and terminal.output.count("\x1b[?1049h") == 1
    assert terminal.output.rindex("\x1b[?25h") > terminal.output.rindex("\x1b[?25l")  # the cursor is visible again
    assert "\x1b[33m" in terminal.output and "\x1b[36m" in terminal.output and "\x1b[3" not in after
    assert not [line for line in after.split("\n") if len(line) > 80] and len(after.split("\n")) <= 24


@pytest.mark.parametrize("status", ["failed", "interrupted", "paused"])
def test_it_ends_if_the_run_has_ended(run, status):
    change_manifest(run, status=status)
    code, after, _ = watch(run)
    assert code == 0 and f"epoch 3/40  {status}" in after and " left" not in after


def test_a_killed_process_is_reported(run):
    def kill():
        with (run / "copy").open("w") as file:  # replaces train.log by a file without a lock
            file.write("x")
        (run / "copy").replace(run / "train.log")

    code, after, _ = watch(run, then=[("epoch 3/40  running  about 6 min left", kill)])
    assert code == 0 and "killed: its process is gone; mslab train --resume RUN continues it" in after


def test_small_and_dumb_terminals(run):
    change_manifest(run, status="done")
    code, after, _ = watch(run, lines=8, columns=40)
    assert code == 0 and "epoch 3/40  done" in after and max(map(len, after.split("\n"))) <= 40
    code, after, terminal = watch(run, TERM="dumb")
    assert code == 0 and "\x1b" not in terminal.output and "epoch 3/40  done" in after


def test_with_once_or_without_a_terminal_it_is_drawn_once(run):
    code, after, _ = watch(run, "--once")
    assert code == 0 and "epoch 3/40  running" in after
    change_manifest(
        run, warnings=[{"code": "overfitting", "epoch": 2, "text": "…"}, {"code": "chance", "epoch": 3, "text": "…"}]
    )
    for arguments in ((run,), (run, "--once")):
        done = cli("watch", *arguments)
        assert done.returncode == 0 and "\x1b" not in done.stdout and done.stderr == ""
        name, line, _, loss, *_ = done.stdout.split("\n")
        assert name == str(run) and loss == "loss      ─── val 0.5   - - train 0.3333"
        assert line == (
            "epoch 3/40  running  about 6 min left  best val_acc 0.800 in epoch 3  lr 0.05  123 images/s  "
            "warnings: overfitting, chance"
        )


def test_without_an_epoch_only_the_status_is_shown(run):
    (run / "history.csv").unlink()
    done = cli("watch", run)
    assert done.returncode == 0 and done.stdout == f"{run}\nno epoch yet  running\n"
    write(run, 0)
    assert cli("watch", run).stdout == done.stdout


def test_a_folder_that_is_not_a_run_is_refused(run, tmp_path):
    done = cli("watch", tmp_path / "nothing")
    assert done.returncode == 1 and "There is no folder" in done.stderr and "fix " in done.stderr
    for text in ("", "{", "[]", "7", '"text"', "[" * 100_000, "\x00", '{"warnings": 7}'):
        (run / "manifest.json").write_text(text)
        done = cli("watch", run)
        kind = "the manifest of a run." if text in ("[]", "7", '"text"', '{"warnings": 7}') else "JSON."
        assert done.returncode == 1 and f"manifest.json is not {kind}" in done.stderr and "expected" in done.stderr, (
            text
        )
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "text", ["a,b\n1,2\n", "epoch,step\n1,1\n", "\x1b[2J" * 3000, "\x00", None, "9" * 10_000, "9" * 200_000]
)
def test_an_unreadable_history_is_refused(run, text):
    head = ",".join(COLUMNS) + "\n"
    broken = f"{head}1,6,0.1,1,1,1,1,1,red\n" if text is None else text if "," in text else f"{head}{text},6\n"
    (run / "history.csv").write_text(broken)
    done = cli("watch", run)
    assert done.returncode == 1 and "history.csv cannot be read" in done.stderr and len(done.stderr) < 1000
    assert "expected" in done.stderr and "Traceback" not in done.stderr and "\x1b" not in done.stderr


@pytest.mark.parametrize("rows", ["1,1,0,0,0,0,0,0,0\n" * 100_001, f"{10**15},1,0,0,0,0,0,0,0\n"])
def test_a_history_of_more_epochs_than_any_run_has_is_refused(run, rows):
    (run / "history.csv").write_text(",".join(COLUMNS) + "\n" + rows)
    done = cli("watch", run)
    assert done.returncode == 1 and "more than 100,000 epochs" in done.stderr


def test_hostile_names_do_not_steer_the_terminal(run, inside):
    hostile = "\x1b[2J[red]\n\u202e" + "x" * 10_000
    folder = run.rename(inside / f"r\x1b[31m[bold]\n\u202e{'y' * 20}")
    change_manifest(folder, status="done", ended_by=hostile, warnings=[{"code": hostile, "epoch": 1, "text": hostile}])
    write(folder, 3, images_per_s=1e300, seconds="inf", lr=-1e300)
    done = cli("watch", folder)
    assert done.returncode == 0, done.stderr
    assert all(line.isprintable() and len(line) < 500 for line in done.stdout.splitlines())
    assert "[bold]" in done.stdout and len(done.stdout.splitlines()) < 30
    (folder / "history.csv").write_text("\x1b[2J\n1\n")
    done = cli("watch", folder)
    assert done.returncode == 1 and "\\x1b[31m[bold]" in done.stderr and "\x1b" not in done.stderr
    write(folder, 3)
    code, after, terminal = watch(folder)
    assert code == 0 and "\x1b[2J" not in after and "\x1b[31m" not in terminal.output


def test_the_curves_are_distinct_without_colour():
    series = {"train": np.linspace(1, 0.5, 9), "val": np.linspace(2, 1.5, 9)}
    title, *rows, axis = [line.plain for line in watching.chart("loss", series, 60, 8)]
    assert title == "loss      ─── val 1.5   - - train 0.5" and axis.endswith("epoch 9") and "└1─" in axis
    assert rows[0].startswith("  2 ┤") and rows[-1].startswith("0.5 ┤")
    drawn = [{n for n, c in enumerate(row[row.index("┤") + 1 :]) if ord(c) > plots.BLANK} for row in rows]
    upper, lower = set().union(*drawn[:4]), set().union(*drawn[4:])
    assert upper == set(range(55)) and lower == set(range(0, 55, 2))  # one line is solid, the other has gaps


def test_charts_of_few_or_extreme_values():
    single = watching.chart("loss", {"train": np.array([1.0]), "val": np.array([np.nan])}, 40, 4)
    dots = [c for line in single for c in line.plain if ord(c) > plots.BLANK and ord(c) < plots.BLANK + 256]
    assert len(dots) == 1 and single[0].plain == "loss      - - train 1"
    empty = watching.chart("loss", {"train": np.array([np.nan]), "val": np.array([np.inf])}, 40, 4)
    assert empty[0].plain == "loss"
    extreme = watching.chart("loss", {"train": np.array([1e308, -1e308, 1.0]), "val": np.array([np.inf, 2, 3])}, 40, 4)
    assert extreme[0].plain == "loss      ─── val 3   - - train 1"


def test_a_run_has_the_lock_until_it_ends_and_records_a_warning_immediately(parent, inside):
    run = RunFolder.open(shutil.copytree(parent, inside / "run"))
    log = run.path / "train.log"
    assert watching.is_free(log) and not watching.is_free(inside / "none")
    with pytest.raises(ZeroDivisionError), run.recording():
        assert not watching.is_free(log) and watching.status_of(run) == "running"
        run.warn("chance", "it guesses")
        assert manifest.load(run.path)["warnings"][-1]["code"] == "chance"
        raise ZeroDivisionError
    assert watching.is_free(log) and watching.status_of(run) == "failed"
    change_manifest(run.path, status="running")
    assert watching.status_of(run) == "gone"


def test_a_killed_process_releases_the_lock(run, inside):
    folder = run.rename(inside / "other")
    (folder / "train.log").unlink()
    script = (
        f"from mslab.runs.folder import RunFolder as F\nwith F.open({str(folder)!r}).recording():\n    print(input())"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script], text=True, **pipes) as training:
        while not (folder / "train.log").exists() or watching.is_free(folder / "train.log"):
            assert training.poll() is None
        assert "epoch 3/40  running" in cli("watch", folder).stdout
        training.send_signal(signal.SIGKILL)
        training.communicate()
    assert "killed: its process is gone" in cli("watch", folder).stdout


def test_the_remaining_time(run):
    opened = RunFolder.read(run)
    now = time.time()
    os.utime(run / "history.csv", (now - 4, now - 4))
    assert watching.time_left(opened) == "6 min"  # 37 epochs of 10 s, of which 4 s have passed
    opened.history = opened.history * 13
    assert watching.time_left(opened) in ("5 s", "6 s")
    assert [watching.duration(s) for s in (0, 89, 91, 5300, 5500, 1e6)] == [
        "0 s",
        "89 s",
        "2 min",
        "88 min",
        "2 h",
        "278 h",
    ]


def test_a_run_that_is_removed_meanwhile_is_reported(run):
    code, after, _ = watch(run, then=[("epoch 3/40", (run / "manifest.json").unlink)])
    assert code == 1 and "RunError" in after and "manifest.json cannot be read" in after
    with pytest.raises(RunError):
        watching.watch(run)
