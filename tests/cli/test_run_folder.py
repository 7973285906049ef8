"""A run's folder may be someone else's: no command waits for what is in it, or reads more than it can hold."""

import json
import os
import re
import shutil
import signal
import socket
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import cli

from mslab.errors import RunError
from mslab.report import suspects, watching
from mslab.reproduce import comparing
from mslab.runs import folder, images
from mslab.runs.folder import RunFolder
from mslab.runs.results import read_evaluation


@pytest.fixture
def run(parent, inside) -> Path:
    return Path(shutil.copytree(parent, "run"))


@contextmanager
def without_waiting():
    """Fail, instead of waiting for ever, if the block waits for somebody."""

    def fail(*_):
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(60)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def put(file: Path, kind: str) -> None:
    """Put something else in the place of a file."""
    file.unlink(missing_ok=True)
    if kind == "FIFO":
        os.mkfifo(file)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as own:
            own.bind(str(file))
    elif kind == "device":
        file.symlink_to("/dev/zero")
    else:
        file.mkdir()


@pytest.mark.parametrize("kind", ["FIFO", "socket", "device", "folder"])
@pytest.mark.parametrize("name", folder.TEXTS)
def test_what_is_no_file_is_named(run, name, kind):
    put(run / name, kind)
    with without_waiting(), pytest.raises(RunError, match=rf"not as a run leaves it\.\n  {name} +is a {kind}\n"):
        RunFolder.read(run)


COMMANDS = ["watch RUN", "watch RUN --once", "report RUN", "report RUN RUN", "verify RUN", "reproduce RUN --dry-run"]
COMMANDS += ["archive RUN", "reproduce OTHER --with RUN", "pack RUN --out x.zip", "train --resume RUN"]
COMMANDS += ["eval RUN --data ROOT"]


@pytest.mark.parametrize("words", COMMANDS)
def test_no_command_waits_for_a_fifo(run, parent, squares, words):
    for name in ("train.log", "eval.json", "checkpoints/best.ckpt"):
        put(run / name, "FIFO")
    names = {"RUN": run, "OTHER": parent, "ROOT": squares / "three"}
    with without_waiting():
        done = cli(*(names.get(word, word) for word in words.split()))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert any(text in done.stdout + done.stderr for text in ("is a FIFO", "has no checkpoints/best.ckpt", "missing "))


def test_files_that_are_exchanged_after_they_were_looked_at_are_not_waited_for(run, monkeypatch):
    """Each reader opens without waiting, whatever was there a moment before."""
    for name in [*folder.TEXTS, "suspects.csv"]:
        put(run / name, "FIFO")
    monkeypatch.setattr(Path, "is_file", lambda self: True)
    with without_waiting():
        assert not watching.is_free(run / "train.log")
        for read in (
            lambda: folder.read_history(run / "history.csv"),
            lambda: list(comparing.steps(run / "steps.csv")),
            lambda: read_evaluation(run, ["a", "b", "c"]),
            lambda: images.recorded(run),
            lambda: suspects.load(run),
        ):
            with pytest.raises(RunError, match="is not a regular file"):
                read()


def wrong_figures(good: dict):
    yield from ([], {"x": 1}, "text", None)
    for key in ("images", "accuracy", "per_class", "confusion"):
        yield {name: value for name, value in good.items() if name != key}
        for value in (None, "x", [], {}, [["a"]], float("inf"), float("nan"), -1, [[1]], 10**400):
            yield good | {key: value}
    yield good | {"per_class": good["per_class"] | {"a": {}}}
    yield good | {"per_class": dict(reversed(good["per_class"].items()))}
    yield good | {"confusion": [[-1] * 3] * 3}
    yield good | {"confusion": [*good["confusion"], [0, 0, 0]]}


def test_figures_that_cannot_be_those_of_the_run_are_an_error(run):
    """Not a traceback, and not a table with the rows of other classes."""
    file = run / "eval.json"
    good = json.loads(file.read_text())
    assert read_evaluation(run, ["a", "b", "c"]) == good
    for content in wrong_figures(good):
        file.write_text(json.dumps(content))
        with pytest.raises(RunError, match=r"eval\.json cannot be read\.\n  \S+ +\S"):
            read_evaluation(run, ["a", "b", "c"])
    for words in (["report", run], ["report", run, run], ["reproduce", run, "--with", run]):
        done = cli(*words)
        assert done.returncode == 1 and "eval.json cannot be read" in done.stderr and "Traceback" not in done.stderr


def test_a_run_that_is_opened_again_does_not_repeat_the_notes_of_its_start(parent, tmp_path, caplog):
    run = shutil.copytree(parent, tmp_path / "run")
    text = (run / "config.yaml").read_text()
    text = re.sub(r"^optimizer: \w+", "optimizer: adam", text, flags=re.MULTILINE)
    (run / "config.yaml").write_text(re.sub(r"^momentum: [\d.]+", "momentum: 0.8", text, flags=re.MULTILINE))
    with caplog.at_level("INFO", "mslab"):
        assert RunFolder.read(run).settings.momentum == 0.8
    assert "does nothing here" not in caplog.text
