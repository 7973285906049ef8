"""Long sweeps: a budget, a resume, pruning, Ctrl-C, twenty trials."""

import json
import signal
import subprocess
import time
from pathlib import Path

import optuna
import pytest
from helpers import PROGRAM, cli, manifest, overrides, settings
from sweeps import Killer, heard, space_file, the_folder

from mslab.errors import TrainingError
from mslab.experiments.sweep import ledger, study
from mslab.experiments.sweep.space import Knob
from mslab.experiments.sweep.study import SweepOptions


def test_a_budget_ends_trials_after_their_epoch_and_a_resume_goes_on_and_prunes(squares, inside, caplog):
    config = settings(squares / "three", 3, epochs=4)
    options = SweepOptions(trials=1, budget=1.0, storage="journal")
    with heard(caplog), pytest.raises(TrainingError, match=r"No trial of .* was completed") as caught:
        study.run_sweep(config, space_file(inside), options=options)
    folder = the_folder(inside)
    assert "larger --budget" in str(caught.value) and "the budget is over: no new trial begins" in caplog.text
    assert f"mslab sweep --resume {Path('runs') / folder.name}    goes on" in caplog.text
    found = json.loads((folder / "sweep.json").read_text())
    assert (
        found["status"] == "budget" and found["trials"][0]["state"] == "waiting" and found["trials"][0]["epochs"] == 1
    )
    assert "budget: 1 s are over" in (folder / "trial-000" / "train.log").read_text()
    with heard(caplog):
        told = study.resume_sweep(folder, {"trials": 1})
    assert "trial 0 goes on after epoch 1" in caplog.text
    (row,) = told["trials"]
    assert row["state"] == "complete" and row["epochs"] == 4 and row["retries"] == 0 and told["status"] == "done"

    found = optuna.load_study(storage=ledger.open_storage(str(folder / "sweep.log")), study_name=folder.name)
    for _ in range(4):  # others, with which the next trial cannot keep up
        trial, _ = ledger.begin(found, [Knob("lr_max", low=0.01, high=0.2, log=True)])
        for epoch in range(1, 5):
            trial.report(2.0, epoch)
        trial.set_user_attr("val_acc", 2.0)
        found.tell(trial, 2.0)
    with heard(caplog):
        told = study.resume_sweep(folder, {"trials": 6})
    last = told["trials"][-1]
    assert (
        last["state"] == "pruned"
        and last["epochs"] == 2
        and "is below the median of the trials before" in last["message"]
    )
    assert "6/6  trial 5: lr_max=" in caplog.text and "pruned after epoch 2" in caplog.text
    assert manifest(last["run"])["ended_by"] == last["message"]
    assert not list(Path(last["run"]).glob("checkpoints/*"))


def test_twenty_trials_by_two_workers_of_which_one_is_killed(squares, inside, all_cores):
    (inside / "x.yaml").write_text("\n".join(overrides(settings(squares / "three", 3, epochs=8))).replace("=", ": "))
    space_file(inside, "lr_max: {low: 0.01, high: 0.5, log: true}\noptimizer: [momentum, adamw]\nflip: [true, false]\n")
    command = [*PROGRAM, "sweep", "x.yaml", "--space", "space.yaml"]
    command += ["--trials", "20", "--workers", "2", "--json", "result.json"]
    process = subprocess.Popen(command, cwd=inside, stderr=subprocess.PIPE, text=True)
    killer = Killer(inside, process.pid)
    killer.start()
    told = process.communicate(timeout=900)[1]
    assert process.returncode == 0 and killer.killed, told
    result = json.loads((inside / "result.json").read_text())
    assert len(result["trials"]) == 20 and {row["state"] for row in result["trials"]} <= {"complete", "pruned"}
    assert sum(row["retries"] for row in result["trials"]) == 1 and "is taken up again (1 of 3)" in told
    text = (the_folder(inside) / "report.html").read_text()
    assert [f'<a href="trial-{number:03}/">{number}</a>' in text for number in range(20)] == [True] * 20


def test_ctrl_c_ends_cleanly_and_a_transfer_goes_on(squares, inside, parent):
    config = settings(squares / "two", 2, epochs=60, freeze="all", stages=None)
    lines = [line for line in overrides(config) if not line.startswith("stages")]
    (inside / "x.yaml").write_text("\n".join(lines).replace("=", ": "))
    space_file(inside)
    command = [*PROGRAM, "sweep", "x.yaml", "--space", "space.yaml"]
    command += ["--trials", "2", "--backbone", str(parent)]
    process = subprocess.Popen(command, cwd=inside, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 200
    while not list(inside.glob("runs/*-sweep-*/trial-000/checkpoints/last.ckpt")) and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=200)[1]
    assert process.returncode == 130 and "stopping after this step" in told and "Traceback" not in told, told
    folder = the_folder(inside)
    assert f"mslab sweep --resume runs/{folder.name}    goes on" in told and "mslab train --resume" not in told
    assert json.loads((folder / "sweep.json").read_text())["status"] == "stopped"
    done = cli("sweep", "--resume", folder.relative_to(inside), cwd=inside)
    assert done.returncode == 0 and "trial 0 goes on after epoch" in done.stderr, done.stderr
    rows = json.loads((folder / "sweep.json").read_text())["trials"]
    assert [row["state"] for row in rows] == ["complete"] * 2 and [row["retries"] for row in rows] == [0, 0]
    assert manifest(folder / "trial-001")["kind"] == "transfer"
    assert "mslab transfer x.yaml" in done.stdout and f"--backbone {parent}" in done.stdout
