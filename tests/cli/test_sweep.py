"""Sweeps as they are called: trials in real worker processes, of which none is lost with its worker."""

import json
import re

import optuna
import pytest
from helpers import cli, overrides, settings
from sweeps import logged, space_file, the_folder

from mslab.errors import CheckpointError, TrainingError
from mslab.experiments.sweep import pool, study
from mslab.experiments.sweep.study import SweepOptions


def test_what_every_trial_would_meet_ends_the_sweep_with_its_message(squares, inside):
    (inside / "backbone.ckpt").write_bytes(b"no checkpoint")
    options = SweepOptions(trials=4, backbone=str(inside / "backbone.ckpt"))
    with pytest.raises(CheckpointError) as caught:
        study.run_sweep(settings(squares / "three", 3, stages=None), space_file(inside), options=options)
    assert "backbone.ckpt" in str(caught.value) and "expected" in str(caught.value)
    assert json.loads((the_folder(inside) / "sweep.json").read_text())["status"] == "failed"
    with pytest.raises(CheckpointError, match=r"There is no file .*gone\.ckpt"):
        study.run_sweep(settings(squares / "three", 3), space_file(inside), options=SweepOptions(backbone="gone.ckpt"))


def test_workers_that_all_die_end_the_sweep_with_one_message(squares, inside, monkeypatch, caplog):
    monkeypatch.setattr(pool, "START", "import os; os.kill(os.getpid(), 9)")
    with logged(caplog), pytest.raises(TrainingError) as caught:
        study.run_sweep(settings(squares / "three", 3), space_file(inside), options=SweepOptions(trials=4, workers=2))
    text = str(caught.value)
    assert re.search(r"4 trials in a row have failed, none .* Last: worker \d was killed by SIGKILL", text)
    assert "fewer --workers" in text and "worker-" in text and "expected" in text


def test_wrong_command_lines(squares, inside):
    (inside / "x.yaml").write_text("\n".join(overrides(settings(squares / "three", 3))).replace("=", ": "))
    space_file(inside, "lr_mx: [1]\n")
    for words, message in (
        (["x.yaml"], "CONFIG and --space FILE, or --resume FOLDER"),
        (["x.yaml", "--space", "space.yaml", "--sampler", "best"], "--sampler best is none of tpe, random, grid"),
        (["--resume", "y", "--sampler", "tpe"], "--resume takes --trials"),
        (["x.yaml", "--space", "space.yaml", "--name", "s"], "--name needs a --storage"),
    ):
        done = cli("sweep", *words, cwd=inside, env={"COLUMNS": "200"})
        assert done.returncode == 2 and message in done.stderr, done.stderr
    done = cli("sweep", "x.yaml", "--space", "space.yaml", "--budget", "1s", cwd=inside)
    assert done.returncode == 1 and "did you mean 'lr_max'" in done.stderr and "data check" not in done.stderr
    assert not (inside / "runs").exists()


def test_a_trial_whose_worker_is_killed_each_time_ends_as_failed_and_teaches(squares, inside, monkeypatch):
    monkeypatch.setattr(pool, "START", "import os; os.kill(os.getpid(), 9)")  # as if memory ran out
    with pytest.raises(TrainingError, match=r"No trial of .* was completed") as caught:
        study.run_sweep(settings(squares / "three", 3), space_file(inside), options=SweepOptions(trials=1))
    assert "other values in the space" in str(caught.value) and "report.html shows why" in str(caught.value)
    sweep = json.loads((the_folder(inside) / "sweep.json").read_text())
    (row,) = sweep["trials"]
    assert row["state"] == "failed" and row["retries"] == 3 and sweep["status"] == "done"
    assert row["message"] == "its worker died 4 times; the last worker 0 was killed by SIGKILL"
    stored = optuna.load_study(storage=f"sqlite:///{the_folder(inside)}/sweep.db", study_name=sweep["study"]).trials
    assert stored[-1].value == 0
