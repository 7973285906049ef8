"""Run folders of an earlier mslab (tests/data/old_runs.zip): every command that works on a run works on them too.

Version 0.1.0 wrote them at commit ace7e80, before settings were immutable: trees-… finished after four epochs,
stopped was stopped after two of the same four, two is a transfer with a frozen backbone.
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

COMPLETE = "runs/trees-20261129-011850"
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


def succeed(*arguments):
    result = cli(*arguments)
    assert result.returncode == 0, result.stderr
    return result


def test_a_stopped_run_is_resumed_and_ends_like_the_complete_one(old):
    before = history(old / "runs/stopped")
    succeed("train", "--resume", "runs/stopped")
    rows = history(old / "runs/stopped")
    assert rows[:2] == before and len(rows) == 4 and list(rows[0]) == COLUMNS
    for row, expected in zip(figures("runs/stopped"), figures(COMPLETE), strict=True):
        for key in row:  # another kind of processor rounds differently
            assert float(row[key]) == pytest.approx(float(expected[key]), rel=0.02, abs=0.02), key
    resumed, complete = (checkpoint.read(f"{run}/checkpoints/last.ckpt").state for run in ("runs/stopped", COMPLETE))
    assert resumed.keys() == complete.keys()
    for name, value in resumed.items():
        np.testing.assert_allclose(value, complete[name], rtol=0.05, atol=0.02, err_msg=name)
    assert manifest("runs/stopped")["status"] == "done"


def test_a_finished_run_is_left_unchanged(old):
    assert "is finished: 4 of 4 epochs; nothing to do" in succeed("train", "--resume", COMPLETE).stderr
    assert "files are as the run left them" in succeed("verify", COMPLETE).stdout


def test_it_is_reported_evaluated_and_used_to_predict(old):
    succeed("report", COMPLETE)
    assert "trees-20261129-011850" in (old / COMPLETE / "report.html").read_text(encoding="utf-8")
    result = json.loads(succeed("eval", COMPLETE, "--data", "trees/val", "--json", "-").stdout)
    assert result["accuracy"] == json.loads((old / COMPLETE / "eval.json").read_text())["accuracy"]
    assert "ash" in succeed("predict", COMPLETE, "trees/val/ash").stdout
    assert "4/4" in succeed("watch", COMPLETE, "--once").stdout
    run = mslab.Run(COMPLETE)
    assert run.config.epochs == 4 and run.config.profile.block == "bottleneck" and len(run.history) == 4


@pytest.mark.parametrize("run", [COMPLETE, "runs/two"])
def test_it_is_reproduced(old, run):
    result = json.loads(succeed("reproduce", run, "--no-report", "--json", "-").stdout)  # exit code 0: equal figures
    assert result["verdict"] in ("identical", "within tolerance")
    (again,) = (old / "runs").glob("*-again-*")
    assert RunFolder.read(again).settings == RunFolder.read(run).settings


def test_a_transfer_starts_from_it(old):
    succeed("transfer", "two.yaml", "--backbone", COMPLETE, "epochs=1", "warmup_epochs=0", "--no-report")


def test_it_is_graded(old):
    (old / "rubric.yaml").write_text(RUBRIC)
    for folder in ("class", "hidden"):
        (old / folder).mkdir()
    succeed("pack", f"run={COMPLETE}", "--out", "class/ada.zip", "--rubric", "rubric.yaml")
    (old / "trees" / "val").rename(old / "hidden" / "trees")
    succeed("grade", "class", "--rubric", "rubric.yaml", "--data", "hidden", "--out", "graded")
    with (old / "graded" / "grades.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["total"] == "30", row
