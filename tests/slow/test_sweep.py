"""Long sweeps: a budget, a resume, pruning, Ctrl-C, twenty trials."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import optuna
import pytest
from helpers import PROGRAM, cli, draw, history, manifest, overrides, settings
from optuna.distributions import FloatDistribution
from studies import FIGURES, begin
from sweeps import Killer, logged, space_file, the_folder

from mslab.errors import TrainingError
from mslab.experiments.sweep import study, trials
from mslab.experiments.sweep.study import SweepOptions


def test_a_budget_ends_trials_after_their_epoch_and_a_resume_continues_and_prunes(squares, inside, caplog):
    config = settings(squares / "three", 3, epochs=4)
    options = SweepOptions(trials=1, budget=1.0, storage="journal")
    with logged(caplog), pytest.raises(TrainingError, match=r"No trial of .* was completed") as caught:
        study.run_sweep(config, space_file(inside), options=options)
    folder = the_folder(inside)
    assert "larger --budget" in str(caught.value) and "the budget is over: no new trial begins" in caplog.text
    assert f"mslab sweep --resume {Path('runs') / folder.name}    continues it" in caplog.text
    sweep = json.loads((folder / "sweep.json").read_text())
    assert sweep["status"] == "budget"
    assert sweep["trials"][0]["state"] == "waiting" and sweep["trials"][0]["epochs"] == 1
    assert "stopped: the budget is over" in (folder / "trial-000" / "train.log").read_text()
    with logged(caplog):
        sweep = study.resume_sweep(folder, {"trials": 1})
    assert re.search(r"trial 0 \(default\): .*, continued after epoch 1", caplog.text)
    (row,) = sweep["trials"]
    assert row["state"] == "complete" and row["epochs"] == 4 and row["retries"] == 0 and sweep["status"] == "done"

    found = optuna.load_study(storage=trials.open_storage(str(folder / "sweep.log")), study_name=folder.name)
    for _ in range(4):  # better ones than the next trial can be
        trial, _ = begin(found, {"lr_max": FloatDistribution(0.01, 0.2, log=True)})
        for epoch in range(1, 5):
            trial.report(2.0, epoch)
        trial.set_user_attr("figures", FIGURES | {"val_acc": 2.0})
        found.tell(trial, 2.0)
    with logged(caplog):
        sweep = study.resume_sweep(folder, {"trials": 6})
    last = sweep["trials"][-1]
    assert last["state"] == "pruned" and last["epochs"] == 2
    assert "is below the median of the trials before" in last["message"]
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
    output = process.communicate(timeout=900)[1]
    assert process.returncode == 0 and killer.killed, output
    result = json.loads((inside / "result.json").read_text())
    assert len(result["trials"]) == 20 and {row["state"] for row in result["trials"]} <= {"complete", "pruned"}
    assert sum(row["retries"] for row in result["trials"]) == 1 and "is tried again (1 of 3)" in output
    text = (the_folder(inside) / "report.html").read_text()
    assert [f'<a href="trial-{number:03}/">{number}</a>' in text for number in range(20)] == [True] * 20


def test_ctrl_c_ends_cleanly_and_a_transfer_continues(squares, inside, parent):
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
    output = process.communicate(timeout=200)[1]
    assert process.returncode == 130 and "stopping after this step" in output and "Traceback" not in output, output
    folder = the_folder(inside)
    assert f"mslab sweep --resume runs/{folder.name}    continues it" in output and "mslab train --resume" not in output
    assert json.loads((folder / "sweep.json").read_text())["status"] == "stopped"
    done = cli("sweep", "--resume", folder.relative_to(inside), cwd=inside)
    assert done.returncode == 0 and "continued after epoch" in done.stderr, done.stderr
    rows = json.loads((folder / "sweep.json").read_text())["trials"]
    assert [row["state"] for row in rows] == ["complete"] * 2 and [row["retries"] for row in rows] == [0, 0]
    assert manifest(folder / "trial-001")["kind"] == "transfer"
    assert "mslab transfer x.yaml" in done.stdout and f"--backbone {parent}" in done.stdout


@pytest.fixture
def postgresql():
    """The URL of a PostgreSQL server that runs for one test. As user postgres, since initdb refuses root."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not binaries:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    pytest.importorskip("psycopg2", reason="no driver for PostgreSQL here: pip install psycopg2-binary")
    user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        if user:
            shutil.chown(folder, "postgres")
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()

        def run(program: str, *arguments: str) -> None:
            command = [*user, str(binaries[-1].with_name(program)), "-D", f"{folder}/data", *arguments]
            subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)

        run("initdb", "--username=mslab", "--auth=trust")
        run("pg_ctl", "start", "-w", "-l", f"{folder}/log", "-o", f"-p {port} -h 127.0.0.1 -k {folder}")
        yield f"postgresql://mslab@127.0.0.1:{port}/postgres"
        run("pg_ctl", "stop", "-m", "immediate")


def test_two_machines_share_a_study_on_postgresql_and_one_loses_a_worker(squares, inside, all_cores, postgresql):
    lines = "\n".join(overrides(settings(squares / "three", 3, epochs=6))).replace("=", ": ")
    processes = []
    for name in ("first", "second"):
        folder = inside / name
        folder.mkdir()
        (folder / "x.yaml").write_text(lines)
        space_file(folder)
        command = [*PROGRAM, "sweep", "x.yaml", "--space", "space.yaml", "--trials", "6", "--json", "result.json"]
        command += ["--storage", postgresql, "--name", "shared"]
        processes.append(subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True))
        if name == "first":
            killer = Killer(folder, processes[0].pid)
            killer.start()
            end = time.monotonic() + 200
            while not list(folder.glob("runs/*-sweep-*/trial-000/config.yaml")) and time.monotonic() < end:
                time.sleep(0.05)
    outputs = [process.communicate(timeout=900)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0] and killer.killed, outputs
    results = [json.loads((inside / name / "result.json").read_text()) for name in ("first", "second")]
    rows = results[0]["trials"]
    assert rows == results[1]["trials"] and [row["state"] for row in rows] == ["complete"] * 6
    assert [row["retries"] for row in rows] == [1, 0, 0, 0, 0, 0] and all(row["epochs"] == 6 for row in rows)
    folders = {Path(row["run"]).parent.parent.parent.name for row in rows}
    assert folders == {"first", "second"} and "is tried again (1 of 3)" in outputs[0]
    assert re.search(r"trial 0 \(default\): .*, continued after epoch [1-5]", outputs[0] + outputs[1])


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
    stored = optuna.load_study(storage=f"sqlite:///{folder}/sweep.db", study_name=sweep["study"]).trials
    told = [t.params["lr_max"] for t in stored if t.value == trials.WORST and t.state.name == "COMPLETE"]
    assert sorted(told) == [0.001, 0.1, 100, 100]  # what diverged, and what contradicts itself
    assert sweep["note"] == "6 of 6 possible points done; --trials 20 asks for more than there are"
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


def test_a_sweep_of_four_possible_points_asks_for_no_fifth_and_failures_teach(squares, inside, caplog):
    config = settings(squares / "three", 3, epochs=1)
    space = space_file(inside, "warmup_epochs: [1, 5]\nflip: [true, false]\n")
    with logged(caplog):
        sweep = study.run_sweep(config, space, options=SweepOptions(trials=10, pruner="none"))
    note = "4 of 4 possible points done; --trials 10 asks for more than there are"
    assert len({json.dumps(row["values"]) for row in sweep["trials"]}) == len(sweep["trials"]) == 4
    assert note in caplog.text and sweep["note"] == note and sweep["possible"] == 4 and "4/4  trial 3" in caplog.text
    assert sweep["status"] == "done" and note in (the_folder(inside) / "report.html").read_text()
    failed = [row["trial"] for row in sweep["trials"] if row["state"] == "failed"]
    stored = optuna.load_study(storage=f"sqlite:///{the_folder(inside)}/sweep.db", study_name=sweep["study"]).trials
    assert [trial.number for trial in stored if trial.value == 0] == failed and len(failed) == 2
    done = cli("sweep", "--resume", the_folder(inside), "--trials", "12")
    assert done.returncode == 0 and note.replace("10", "12") in done.stderr, done.stderr
    assert len(json.loads((the_folder(inside) / "sweep.json").read_text())["trials"]) == 4


def test_a_sweep_chooses_by_best_by(squares, inside):
    config = settings(squares / "three", 3, epochs=2)
    (inside / "x.yaml").write_text("\n".join(overrides(config)).replace("=", ": "))
    space_file(inside, "lr_max: [0.02, 0.1]\n")
    done = cli("sweep", "x.yaml", "--space", "space.yaml", "--sampler", "grid", "best_by=loss")
    assert done.returncode == 0, done.stderr
    sweep = json.loads((the_folder(inside) / "sweep.json").read_text())
    losses = [row["val_loss"] for row in sweep["trials"]]
    assert sweep["best"]["val_loss"] == min(losses) and len(losses) == 3
    for row in sweep["trials"]:
        assert row["val_loss"] == min(float(epoch["val_loss"]) for epoch in history(row["run"]))
    assert f"val_loss {min(losses):.3f}" in done.stderr and re.search(r"val_loss +[\d.]+ +[\d.]+", done.stdout)
    page = (the_folder(inside) / "report.html").read_text()
    assert f"val_loss {min(losses):.3f}" in page and "validation accuracy" not in page
    space_file(inside, "best_by: [accuracy, loss]\n")
    done = cli("sweep", "x.yaml", "--space", "space.yaml")
    assert done.returncode == 1 and "is not searched: every trial is measured alike" in done.stderr
