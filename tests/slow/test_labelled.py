"""Every command takes a table of labels in the place of a folder of classes."""

import json
import shutil
from pathlib import Path

import pytest
from helpers import cli
from labelling import train_on_tables


def test_every_command_takes_a_table_in_the_place_of_a_folder(squares, inside):
    run = train_on_tables(squares, inside)
    done = cli("eval", run, "--data", "flat/test.csv", "--json", "t.json")
    assert done.returncode == 0 and json.loads(Path("t.json").read_text())["images"] == 15, done.stderr
    assert json.loads(Path("t.json").read_text())["accuracy"] == pytest.approx(accuracy(run, "three/test"))
    done = cli("train", "--resume", run)
    assert done.returncode == 0 and "finished" in done.stdout + done.stderr
    done = cli("reproduce", run, "--dry-run")
    assert done.returncode == 0 and "images " in done.stdout, done.stdout + done.stderr
    done = cli("report", run)
    assert done.returncode == 0 and (run / "report.html").is_file(), done.stderr
    done = cli("archive", run, "--data", "--out", "a.zip")
    assert done.returncode == 0, done.stderr
    shutil.rmtree("flat")
    done = cli("reproduce", "--from", "a.zip", "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr


def accuracy(run, data):
    cli("eval", run, "--data", data, "--json", "f.json")
    return json.loads(Path("f.json").read_text())["accuracy"]
