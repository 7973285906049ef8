"""Tables on terminals of any width and encoding, and in a pipe. The terminals are real ones."""

import logging
import os
import pty
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from helpers import PROJECT
from rich.cells import cell_len
from rich.console import Console

from mslab.check import check_dataset
from mslab.check.report import DatasetReport
from mslab.doctor.diagnosis import beside
from mslab.experiments import repeating
from mslab.report import plots, watching
from mslab.runs.folder import RunFolder
from mslab.runtime import console, jupyter, streams
from mslab.runtime.tables import HeaderName, decimals, empty_table, fold, fold_around_commands, render, shorten

LONG, CHINESE = "a very long class name that nobody would want to read", "蘑菇毒鹅膏菌"


@contextmanager
def terminal(monkeypatch, columns, encoding="utf-8"):
    """Let standard output be a terminal of so many columns."""
    master, slave = pty.openpty()
    with os.fdopen(slave, "w", encoding=encoding, errors="mslab") as file, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", file)
        patch.setenv("COLUMNS", str(columns))
        yield
    os.close(master)


def per_class(names):
    columns = ("class", "precision", "recall", "F1", "images")
    grid = empty_table(
        "runs/a-20261129-135951/best.ckpt on datasets/a", columns, ("class",), ("images",), "--json FILE"
    )
    for name in names:
        grid.add_row(name, "1.000", "0.986", "0.993", "70")
    return grid


def matrix(names):
    grid = empty_table("confusion matrix", ["", *map(HeaderName, names)])
    for i, name in enumerate(names):
        grid.add_row(name, *(str(i * j) for j in range(len(names))))
    return grid


@pytest.mark.parametrize("columns", [120, 80, 60, 50, 40, 20])
@pytest.mark.parametrize("names", [[LONG, CHINESE, "c"], [f"class number {i:02}" for i in range(100)]])
def test_no_line_is_wider_than_the_terminal_and_no_figure_is_cut(monkeypatch, columns, names):
    with terminal(monkeypatch, columns):
        table, confusion = render(per_class(names)), render(matrix(names))
    for text in (table, confusion):
        assert max(map(cell_len, text.splitlines())) <= columns
        assert len({line.split("─")[0] for line in text.splitlines() if "─" in line}) == 1
    rows = [line.split() for line in table.splitlines() if "0.986" in line or "1.000" in line]
    assert len(rows) == len(names)  # each row is one line
    assert {word for row in rows for word in row if word[:1].isdigit() and "." in word} <= {"1.000", "0.986", "0.993"}
    assert "a wider terminal or --json FILE shows all" in " ".join(table.split()) or columns > 50


def test_what_is_left_out_is_named_with_what_shows_it(monkeypatch):
    with terminal(monkeypatch, 50):
        narrow = " ".join(render(per_class([LONG])).split())
        assert narrow.endswith("without F1, images: a wider terminal or --json FILE shows all")
        many = " ".join(render(matrix([f"class number {i:02}" for i in range(100)])).split())
        assert "and 92 more: a wider terminal or | cat shows all" in many, many
    with terminal(monkeypatch, 80):
        text = " ".join(render(per_class([LONG])).split())
        assert text.endswith("names are shortened: a wider terminal or --json FILE shows all")
    with terminal(monkeypatch, 100):
        assert "wider" not in render(per_class([LONG]))


def test_a_loss_that_exploded_is_shown_in_the_short_form():
    huge = 1245759999999999989373177167872.0
    assert [decimals(value) for value in (0.51234, 999999.0, huge, -1e7)] == [
        "0.512",
        "999999.000",
        "1.25e+30",
        "-1e+07",
    ]
    assert jupyter.shown({"val_loss": huge}, "val_loss") == "1.25e+30"
    nothing = repeating.interval([])
    metrics = dict.fromkeys(repeating.METRICS, nothing) | {"val_loss": repeating.interval([huge, huge])}
    text = repeating.table({"runs": [], "metrics": metrics})
    assert "1.25e+30 to 1.25e+30" in text and "00000" not in text


def test_a_pipe_gets_every_column_and_whole_lines(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")  # it is about a terminal, which a pipe is not
    names = [LONG, CHINESE, *(f"class {i}" for i in range(98))]
    first, *_, last = render(matrix(names)).splitlines()[2:]
    assert all(name in first for name in names) and last.split()[-1] == str(99 * 99)
    assert LONG in render(per_class([LONG])) and fold("word " * 100) == "word " * 100


def test_a_terminal_without_unicode_gets_what_it_has(monkeypatch):
    for encoding, name in (
        ("gbk", CHINESE),
        ("cp1252", "\\u8611\\u83c7\\u6bd2\\u9e45\\u818f\\u83cc"),
        ("ascii", "\\u8611"),
    ):
        with terminal(monkeypatch, 80, encoding):
            text = render(per_class([CHINESE, LONG * 2]))
            assert text.encode(encoding) and name in text and "-----" in text and "─" not in text and ".." in text
            assert max(map(cell_len, text.splitlines())) <= 80
    with terminal(monkeypatch, 40):
        monkeypatch.setattr(streams, "in_c_locale", lambda: True)
        text = render(per_class([CHINESE]))
        assert CHINESE in text and "─" not in text


def test_names_are_shortened_in_the_middle_by_their_width_on_the_screen():
    assert shorten("a_long_name_1", 7) == "a_l…e_1" and shorten("abc", 3) == "abc" and shorten("abc", 1) == "a"
    assert shorten(CHINESE, 7) == "蘑…膏菌" and shorten(CHINESE, 6) == "蘑…菌"


def test_a_word_is_broken_by_no_line(monkeypatch):
    text = "    the network may learn that instead of the shape, which nobody wants"
    with terminal(monkeypatch, 30):
        lines = fold(text).splitlines()
        assert max(map(len, lines)) <= 30 and " ".join(" ".join(lines).split()) == text.strip()
        assert lines[0].startswith("    the") and all(line.startswith("      ") for line in lines[1:])
        assert fold("x" * 100) == "x" * 15 + "…" + "x" * 14
        assert beside("error    device  ", "no driver is there, so nothing works at all")[0] == "error device"


def test_a_command_stays_in_one_line_and_the_prose_around_it_is_broken(monkeypatch):
    line = "    fix  put it elsewhere, as it is no class; or mslab check some/long/folder --fix    moves it to a folder"
    with terminal(monkeypatch, 30):
        first, *rest = fold_around_commands(line, 9).splitlines()
        assert first == "    fix  put it elsewhere, as" and f"{'':9}mslab check some/long/folder --fix" in rest
        assert max(len(row) for row in rest if "mslab" not in row) <= 30 and all(row[:9].isspace() for row in rest)
        assert fold_around_commands("    fix  nothing", 9) == "    fix  nothing"
    assert fold_around_commands(line, 9) == line  # in a pipe


def test_lines_of_the_log_that_are_prose_fit_the_terminal_and_many_classes_are_counted(monkeypatch, tmp_path):
    for number in range(40):
        (tmp_path / f"class-{number:02}").mkdir()
    report = check_dataset(tmp_path)
    numbers = report.brief().splitlines()[-2]
    assert numbers.endswith("class-09 0 and 30 more classes") and "class-39 0" in str(report)
    before = console.terminal.stream
    with terminal(monkeypatch, 40):
        console.terminal.setStream(sys.stdout)
        record = logging.makeLogRecord({"msg": report.brief(), **console.PROSE})
        lines = console.terminal.format(record).splitlines()
        console.terminal.setStream(before)
    whole = [row for row in lines if row.startswith("mslab ") or str(tmp_path) in row]
    assert max(len(row) for row in lines if row not in whole) <= 40 and f"mslab check {tmp_path}" in whole
    assert console.terminal.format(record) == report.brief()


@pytest.mark.parametrize("columns", [20, 40, 80])
@pytest.mark.parametrize("encoding", ["utf-8", "gbk", "cp1252", "ascii"])
def test_curves_fit_any_terminal_and_cut_no_figure(monkeypatch, columns, encoding):
    series = {"train": np.array([1.5, 0.083333]), "val": np.array([1.25, 0.136364])}
    with terminal(monkeypatch, columns, encoding):
        lines = [line.plain for line in watching.chart("loss", series, columns, 4)]
        lines += plots.terminal([1, 2, 3], [0.5, 0.1, 0.7]).splitlines()
    assert max(map(cell_len, lines)) <= columns
    assert {word for word in lines[0].split() if word[0].isdigit()} <= {"0.08333", "0.1364"}
    assert "".join(lines).isascii() == (encoding != "utf-8")


@pytest.mark.parametrize("kind", ["dumb", "xterm"])
def test_a_watched_run_fits_a_terminal_of_any_kind(monkeypatch, kind):
    run = RunFolder.read(next((PROJECT / "configs" / "measured").iterdir()))
    monkeypatch.setenv("TERM", kind)
    with terminal(monkeypatch, 37):
        lines = watching.picture(run, "done", Console(file=sys.stdout)).plain.splitlines()
    assert 30 < max(map(cell_len, lines)) <= 37 and not lines[0].endswith(" ")


def test_eval_says_which_split_it_measures_and_what_measures_another(tmp_path):
    for part in ("train", "val", "test"):
        for name in ("a", "b"):
            (tmp_path / "set" / part / name).mkdir(parents=True)
    report: DatasetReport = check_dataset(tmp_path / "set")
    assert report.measured_split == "test"
    others = f"--data {tmp_path}/set/train or --data {tmp_path}/set/val"
    assert report.measured() == f"the test images; {others} measures another split"
    assert report.measured("data_root=").count(f"data_root={tmp_path}/set/") == 2  # in Python
    assert check_dataset(tmp_path / "set/val").measured() == ""


def test_chinese_prose_is_broken_between_characters_and_nothing_is_left_out():
    text = "    cat/0001.png  （与 dog/0002.png 像素相同：训练与评估共用了这张图像，评估结果会虚高）"
    for width in (20, 33, 60):
        lines = fold(text, width).splitlines()
        assert max(map(cell_len, lines)) <= width
        assert "".join("".join(lines).split()) == "".join(text.split())
        assert not any(line.lstrip()[:1] in "，：）" for line in lines)
