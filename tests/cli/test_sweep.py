"""Sweeps as they are called: trials in real worker processes, of which none is lost with its worker."""

import json
import os
import re
from pathlib import Path

import pytest
from helpers import cli, draw, history, manifest, overrides, settings
from sweeps import Killer, logged, space_file, the_folder

from mslab.errors import CheckpointError, TrainingError
from mslab.experiments.sweep import pool, study
from mslab.experiments.sweep.study import SweepOptions


def test_a_sweep_loses_no_trial_with_a_killed_worker_and_does_not_end_with_trials_that_fail(inside, all_cores, caplog):
    for seed, (split, count) in enumerate([("train", 8), ("val", 3), ("test", 5)]):
        draw(inside / "images" / split, ["a", "b", "c"], count, seed)
    config = settings(inside / "images", 3, epochs=4, weight_decay=0.5, lr_init=0.0001, lr_max=0.001)
    space = space_file(inside, "lr_max: [0.001, 0.1, 100]\nwarmup_epochs: [1, 5]\n")
    killer = Killer(inside, os.getpid())
    killer.start()
    options = SweepOptions(trials=20, workers=2, sampler="grid", pruner="none", test=str(inside / "images" / "test"))
    with logged(caplog):
        sweep = study.run_sweep(config, space, options=options)
    assert killer.killed and len(killer.cores) == 2
    if os.cpu_count() > 1:
        assert not killer.cores[0] & killer.cores[1], "two workers on the same cores"
    assert re.search(r"trial 0: worker \d was killed by SIGKILL; it is tried again \(1 of 3\)", caplog.text)
    assert re.search(r"trial 0 \(default\): .*, continued after epoch [123]", caplog.text)

    folder, rows = the_folder(inside), sweep["trials"]
    assert sweep["status"] == "done" and [row["trial"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert "the grid has 6 points" in caplog.text
    assert rows[0]["retries"] == 1 and rows[0]["default"] and rows[0]["values"] == {"lr_max": 0.001, "warmup_epochs": 1}
    trial = {(row["values"]["lr_max"], row["values"]["warmup_epochs"]): row for row in rows}
    for values in ((0.001, 1), (0.1, 1)):
        run = Path(trial[values]["run"])
        assert trial[values]["state"] == "complete" and trial[values]["epochs"] == 4
        assert run.parent == folder and re.fullmatch(r"trial-\d{3}", run.name)
        assert len(history(run)) == 4 and manifest(run)["status"] == "done"
    assert trial[100, 1]["state"] == "failed" and "The loss became" in trial[100, 1]["message"]
    assert "failed: The loss became" in caplog.text
    for lr in (0.001, 0.1, 100):
        assert trial[lr, 5]["state"] == "failed" and "has 1 problem" in trial[lr, 5]["message"]
        assert "warmup_epochs" in trial[lr, 5]["message"]
    assert (
        "note: warmup_epochs: 5.0 is above epochs: 4; the rate would never reach lr_max; trials with such"
        in caplog.text
    )

    checkpoints = {file.parent.parent.name for file in folder.glob("trial-*/checkpoints/*.ckpt")}
    best = Path(trial[0.1, 1]["run"])  # the default's rate is too small to learn anything
    assert checkpoints == {"trial-000", best.name} and Path(sweep["best"]["run"]) == best
    assert sweep["test_acc"]["best"] > 0.5 > sweep["test_acc"]["default"] > 0.3
    assert json.loads((folder / "sweep.json").read_text()) == sweep and sweep["schema"] == 1
    assert "<script" not in (folder / "report.html").read_text()
    assert "test accuracy" in study.table(sweep) and "mslab train CONFIG lr_max=" in study.table(sweep)


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
