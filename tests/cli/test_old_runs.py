"""Run folders of an earlier mslab (tests/data/old_runs.zip): whatever is done with a run today is done with them too.

They were left by version 0.1.0 at commit ace7e80, before settings were frozen: trees-… finished after four epochs,
stopped after two of the same four, two is a transfer with a frozen backbone.
"""

import csv
import json
import zipfile

import numpy as np
import pytest
from helpers import PROJECT, cli, figures, history, manifest

import mslab
from mslab import checkpoint
from mslab.runs.folder import COLUMNS, RunFolder

WHOLE = "runs/trees-20261129-011850"
RUBRIC = """
title: Trees
total: 30
networks:
  trees: {file: [run/best.ckpt], data: trees, class_num: 3}
items:
  - {id: settings, kind: config, points: 10, title: Four epochs, file: run/config.yaml, rules: {epochs: {equals: 4}}}
  - {id: accuracy, kind: accuracy, points: 15, title: Hidden images, network: trees, linear: {from: 0.3, to: 0.9}}
  - {id: claimed, kind: reproduced, points: 5, title: The claim holds, network: trees, file: run/manifest.json,
     key: metrics.val_acc, tolerance: 0.08}
"""


@pytest.fixture
def old(inside):
    with zipfile.ZipFile(PROJECT / "tests" / "data" / "old_runs.zip") as archive:
        archive.extractall(inside)
    return inside


def done(*words):
    result = cli(*words)
    assert result.returncode == 0, result.stderr
    return result


def test_a_stopped_run_is_resumed_and_ends_as_the_one_that_was_not(old):
    before = history(old / "runs/stopped")
    done("train", "--resume", "runs/stopped")
    rows = history(old / "runs/stopped")
    assert rows[:2] == before and len(rows) == 4 and list(rows[0]) == COLUMNS
    for one, other in zip(figures("runs/stopped"), figures(WHOLE), strict=True):
        for key in one:  # another kind of processor rounds otherwise
            assert float(one[key]) == pytest.approx(float(other[key]), rel=0.02, abs=0.02), key
    mine, its = (checkpoint.read(f"{run}/checkpoints/last.ckpt").tensors for run in ("runs/stopped", WHOLE))
    assert mine.keys() == its.keys()
    for name, value in mine.items():
        np.testing.assert_allclose(value, its[name], rtol=0.05, atol=0.02, err_msg=name)
    assert manifest("runs/stopped")["status"] == "done"


def test_a_finished_run_is_left_as_it_is(old):
    assert "is finished: 4 of 4 epochs; nothing to do" in done("train", "--resume", WHOLE).stderr
    assert "files are as the run left them" in done("verify", WHOLE).stdout


def test_it_is_reported_evaluated_and_asked(old):
    done("report", WHOLE)
    assert "trees-20261129-011850" in (old / WHOLE / "report.html").read_text(encoding="utf-8")
    found = json.loads(done("eval", WHOLE, "--data", "trees/val", "--json", "-").stdout)
    assert found["accuracy"] == json.loads((old / WHOLE / "eval.json").read_text())["accuracy"]
    assert "ash" in done("predict", WHOLE, "trees/val/ash").stdout
    assert "4/4" in done("watch", WHOLE, "--once").stdout
    run = mslab.Run(WHOLE)
    assert run.config.epochs == 4 and run.config.profile.block == "bottleneck" and len(run.history) == 4


@pytest.mark.parametrize("run", [WHOLE, "runs/two"])
def test_it_is_reproduced(old, run):
    told = json.loads(done("reproduce", run, "--no-report", "--json", "-").stdout)  # exit code 0: its figures hold
    assert told["verdict"] in ("identical", "within tolerance")
    (again,) = (old / "runs").glob("*-again-*")
    assert RunFolder.read(again).settings == RunFolder.read(run).settings


def test_it_is_what_a_transfer_begins_from(old):
    done("transfer", "two.yaml", "--backbone", WHOLE, "epochs=1", "warmup_epochs=0", "--no-report")


def test_it_is_graded(old):
    (old / "rubric.yaml").write_text(RUBRIC)
    for folder in ("class", "hidden"):
        (old / folder).mkdir()
    done("pack", f"run={WHOLE}", "--out", "class/ada.zip", "--rubric", "rubric.yaml")
    (old / "trees" / "val").rename(old / "hidden" / "trees")
    done("grade", "class", "--rubric", "rubric.yaml", "--data", "hidden", "--out", "graded")
    with (old / "graded" / "grades.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["total"] == "30", row
