"""The progress bar in terminals of any width, what other outputs get instead of it, and the time left."""

import fcntl
import io
import os
import re
import struct
import termios
import time

import pytest
from rich.cells import cell_len

from mslab.runtime import console, progress, streams
from mslab.training.callbacks import ProgressBar, Step, Totals


class Screen:
    """A terminal of this size: a pseudo-terminal, which becomes standard output and mslab's standard error."""

    def __init__(self, columns, monkeypatch, **variables):
        for name, value in ({"TERM": "xterm-256color", "COLUMNS": "", "CI": ""} | variables).items():
            monkeypatch.setenv(name, value)
        self.master, slave = os.openpty()
        self.stream = io.TextIOWrapper(io.FileIO(slave, "w"), "utf-8", newline="\n")
        self.resize(columns)
        monkeypatch.setattr("sys.stdout", self.stream)
        monkeypatch.setattr(console.terminal, "stream", self.stream)

    def resize(self, columns):
        fcntl.ioctl(self.stream.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def read(self):
        self.stream.flush()
        os.set_blocking(self.master, False)
        parts = []
        while True:
            try:
                parts.append(os.read(self.master, 65536))
            except BlockingIOError:
                return b"".join(parts).decode()

    def lines(self):
        """Every line as it was drawn, and the messages."""
        return [part for part in re.split(r"\x1b\[J|\r\n|\r", self.read()) if part]


def train(epochs, steps, first=0, evaluates=False, pause=0.0, wait=0.0):
    """A training's bar, from step `first` on: two steps, perhaps an evaluated batch, a message, a wait."""
    with console.Meter(epochs * steps, first, steps) as meter:
        bar = ProgressBar(meter, epochs, steps, lambda: False)
        with console.compiling("the training step"):
            meter.line and meter.line.draw()
        meter.line and meter.line.draw()
        totals = Totals()
        for number in range(first, first + 3):
            totals.add(2.3456, 9, 32)
            time.sleep(pause)
            bar.step_end(Step(number, 2.3456, None, None, 0.0123, totals))
        meter.line and meter.line.draw()
        console.log.info("epoch   1/5  a line that is longer than the terminal, " + "x" * 200)
        if evaluates:
            bar.batch_evaluated(None, None)
            meter.line and meter.line.draw()
        time.sleep(wait)
        meter.line and meter.line.draw()


@pytest.mark.parametrize("columns", [50, 60, 80, 120])
@pytest.mark.parametrize("epochs,steps,first", [(5, 67, 0), (1000, 12345, 12345 * 999)])
def test_epoch_loss_accuracy_time_and_bar_fit_any_terminal_from_50_columns(columns, epochs, steps, first, monkeypatch):
    screen = Screen(columns, monkeypatch)
    train(epochs, steps, first, evaluates=True, pause=0.001)
    lines = screen.lines()
    assert all(cell_len(line) < columns for line in lines if "xxx" not in line), lines
    done = [line for line in lines if " acc " in line and "xxx" not in line]
    epoch = f"{first // steps + 1}/{epochs}"
    for line in done:
        assert epoch in line and "loss 2.3" in line and "acc 0.28" in line and re.search(r"\[=*> *\]", line), line
        assert re.search(r"\d (s|min|h) left " if epochs == 5 else r"\d (s|min|h)( left)? ", line), line
    assert any("eval" in line for line in done), done
    assert any("lr 0.0123" in line and "images/s" in line for line in done) == (columns == 120)
    assert any(line.startswith("epoch   1/5") and line.endswith("x" * 200) for line in lines)  # whole, in one piece


def test_compiling_is_shown_with_its_seconds_and_goes_when_it_is_over(monkeypatch):
    screen = Screen(60, monkeypatch)
    train(5, 67)
    lines = screen.lines()
    at = next(i for i, line in enumerate(lines) if line.startswith("compiled the training step in "))
    assert any(re.match(r"compiling the training step …  \d+ s", line) for line in lines[:at]), lines
    assert not any("compiling" in line for line in lines[at:])
    assert any(line.startswith("epoch 1/5 first step …") for line in lines[at:]), lines


@pytest.mark.parametrize(
    "columns,left_out",
    [(120, []), (97, []), (80, ["images/s", "lr"]), (60, ["images/s", "lr", "val_loss"]), (52, [" s"])],
)
def test_an_epochs_line_is_one_row_of_a_terminal_and_whole_in_a_file(columns, left_out, monkeypatch, tmp_path):
    line = "epoch   1/5  loss 2.111  acc 0.179  val_loss 1.616  val_acc 0.413*  lr 0.0026  241 images/s  12 s"
    screen = Screen(columns, monkeypatch)
    with console.Meter(10):
        console.log.info(line, extra={"row": {}})
    (shown,) = screen.lines()
    assert len(shown) <= columns and shown.startswith("epoch   1/5  loss 2.111  acc 0.179  ")
    assert "val_acc 0.413*" in shown and not [figure for figure in left_out if figure in shown]
    assert (shown == line) == (not left_out)
    with (tmp_path / "log").open("w+") as stream:
        monkeypatch.setattr(console.terminal, "stream", stream)
        console.log.info(line, extra={"row": {}})
    assert (tmp_path / "log").read_text() == f"{line}\n"


@pytest.mark.parametrize("columns", [1, 8, 20, 30, 40])
def test_a_narrow_terminal_shows_the_most_important_words_and_never_a_second_row(columns, monkeypatch):
    screen = Screen(columns, monkeypatch)
    train(5, 67)
    lines = [line for line in screen.lines() if "xxx" not in line and not line.startswith("compiled")]
    assert all(cell_len(line) < columns for line in lines), lines
    assert columns < 30 or any(line.startswith("1/5 loss 2.35 acc 0.28") for line in lines), lines


def test_the_bar_follows_the_terminals_width_and_an_exported_columns_makes_it_only_narrower(monkeypatch):
    screen = Screen(120, monkeypatch)
    with console.Meter(100) as meter:
        meter.update("copying")
        widths = []
        for columns, wanted in ((120, ""), (60, ""), (80, "40"), (80, "400"), (80, "0"), (80, "wide")):
            monkeypatch.setenv("COLUMNS", wanted)
            screen.resize(columns)
            screen.read()
            meter.line.shown = ""
            meter.line.draw()
            widths.append(max(map(cell_len, screen.lines())))
    full = len("copying  []") + progress.LONGEST
    assert widths == [full, full, 38, full, full, full]


@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"TERM": ""}, {"TERM": "xterm-color"}, {"CI": "true"}])
def test_a_terminal_that_cannot_redraw_and_a_log_get_lines_without_control_characters(variables, monkeypatch):
    screen = Screen(80, monkeypatch, **variables)
    train(5, 67)
    text = screen.read().replace("\r\n", "\n")
    assert "\x1b" not in text and "\r" not in text
    first, second, third = text.splitlines()
    assert first == "compiling the training step …" and second.startswith("compiled the training step in ")
    assert third.startswith("epoch   1/5")


@pytest.mark.parametrize("output", [None, object()])  # a process without standard error, a program's own stream
def test_what_is_no_terminal_gets_no_bar(output, monkeypatch):
    Screen(80, monkeypatch)
    monkeypatch.setattr(console.terminal, "stream", output)
    assert console.Meter(5).line is None


@pytest.mark.parametrize("encoding", ["ascii", "gbk"])
def test_a_line_fits_where_an_ellipsis_is_wider(encoding, monkeypatch):
    screen = Screen(40, monkeypatch)
    stream = streams.text_output(screen.stream.fileno(), encoding)
    monkeypatch.setattr(console.terminal, "stream", stream)
    with console.Meter(10) as meter, meter.wait("compiling the training step of it …"):
        meter.line.draw()
    stream.flush()
    line = os.read(screen.master, 1000).decode(encoding).partition("\x1b")[0]
    assert line.startswith("compiling") and len(line) + (encoding == "gbk") < 40, line


def test_a_pipe_gets_lines_only(monkeypatch, tmp_path):
    with (tmp_path / "log").open("w+") as stream:
        monkeypatch.setattr(console.terminal, "stream", stream)
        train(5, 67)
        stream.seek(0)
        assert len(stream.read().splitlines()) == 3


def test_the_time_left_counts_down_and_a_stall_is_said(monkeypatch):
    screen = Screen(80, monkeypatch)
    clock = [1000.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    meter = console.Meter(1000, window=10)
    with meter:
        for _ in range(100):
            clock[0] += 1
            meter.update("copying")
        shown = []
        for seconds in (0, 5, 30, 600):
            clock[0] = 1100 + seconds
            shown.append(meter.text(79).removeprefix("copying  ").partition("  [")[0])
        assert shown == ["15 min left", "15 min left", "no step for 30 s", "no step for 10 min"]
        for _ in range(11):  # what was slow before the window does not count
            clock[0] += 0.1
            meter.update("copying")
        assert meter.text(79).startswith("copying  89 s left  [")
    assert "\x1b" in screen.read()


def test_a_bar_inside_of_a_bar_replaces_it_until_it_ends(monkeypatch):
    screen = Screen(80, monkeypatch)
    with console.Meter(10) as outer:
        outer.update("outer")
        with console.Meter(10) as inner:
            inner.update("inner")
            inner.line.draw()
            console.log.info("a message")
            assert outer.text(79) == ""
        outer.line.draw()
        console.log.info("another")
    lines = screen.lines()
    assert [line for line in lines if "[" not in line] == ["a message", "another"]
    assert console.terminal.stream is screen.stream


def test_names_of_files_neither_steer_the_terminal_nor_break_the_line(monkeypatch):
    screen = Screen(60, monkeypatch)
    with console.Meter(10) as meter:
        meter.update("drawing \x1b[31m[bold]" + "蘑菇" * 40)
        meter.line.draw()
    line = next(line for line in screen.lines() if line.startswith("drawing"))
    assert line.startswith("drawing \\x1b[31m[bold]蘑菇") and cell_len(line) <= 59


@pytest.mark.parametrize("language", ["en_US.UTF-8", "zh_CN.UTF-8"])
def test_the_bar_is_drawn_in_ascii_where_drawn_lines_may_be_two_columns_wide(language, monkeypatch):
    screen = Screen(60, monkeypatch, LC_ALL=language)
    with console.Meter(10) as meter:
        meter.update("packing", 5)
        meter.line.draw()
    assert "packing  [================>               ]" in screen.lines()


def test_seconds_pass_on_a_terminal_while_something_is_written(monkeypatch):
    screen = Screen(60, monkeypatch)
    with console.working("writing the report …"):
        time.sleep(0.3)
    assert "writing the report …  0 s" in screen.lines()
    monkeypatch.setenv("TERM", "dumb")
    with console.working("writing the report …"):
        pass
    assert screen.read() == ""
