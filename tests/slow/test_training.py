"""Runs that are killed continue and lose nothing."""

import json
import subprocess
import time
from pathlib import Path

import numpy as np
from helpers import PROGRAM, cli, figures, history, manifest, newest, settings, weights

import mslab
from mslab import checkpoint
from mslab.training import start


def test_a_kill_leaves_a_folder_that_resumes(inside, three):
    (inside / "x.yaml").write_text(json.dumps(three | {"epochs": 40, "mode": "graph", "lr_scheduler": "constant"}))
    job = subprocess.Popen([*PROGRAM, "train", "x.yaml"], stderr=subprocess.PIPE, text=True)
    for line in job.stderr:
        if line.startswith("epoch   3/40"):  # then the rows of two are written
            job.kill()
    job.wait()
    folder = newest()
    assert manifest(folder)["status"] == "running" and len(history(folder)) >= 2
    epochs = len(history(folder)) + 1
    text = (folder / "config.yaml").read_text().replace("epochs: 40", f"epochs: {epochs}", 1)
    (folder / "config.yaml").write_text(text)
    assert start.resume(folder).best_epoch >= 1
    assert manifest(folder)["status"] == "done" and len(history(folder)) == epochs


def test_twenty_kills_at_random_moments_lose_nothing(inside, squares):
    """Kill -9 in training and while a checkpoint is written; the run ends in the bytes of an uninterrupted one."""
    config = settings(squares / "three", 3, epochs=150, max_to_keep=2, mode="graph")
    (inside / "x.yaml").write_text(json.dumps(config))
    uninterrupted = Path(mslab.train(config, name="uninterrupted").run)
    rng, run, committed, in_writing = np.random.default_rng(0), None, [], 0
    for number in range(20):
        arguments = ["train", "--resume", str(run)] if run else ["train", "x.yaml"]
        process = subprocess.Popen([*PROGRAM, *arguments], stderr=subprocess.PIPE, text=True)
        for line in process.stderr:
            if line.startswith("epoch"):
                break
        run = run or newest("x-*")
        end = time.monotonic() + (rng.uniform(0, 0.8) if number % 2 else 5)
        while time.monotonic() < end:
            if number % 2 == 0 and list((run / "checkpoints").glob(".*.tmp")):  # in the middle of writing one
                in_writing += 1
                break
        assert process.poll() is None, "it ended before it was killed: more epochs are needed"
        process.kill()
        process.communicate()
        rows = (run / "history.csv").read_text().splitlines()
        assert rows[: len(committed)] == committed  # what was written before is there to the byte
        last = run / "checkpoints" / "last.ckpt"  # none if it was killed while it wrote the first one
        committed = rows[: 1 + checkpoint.read(last).info["epoch"]] if last.is_file() else rows[:1]
        checkpoint.read(run / "checkpoints" / "best.ckpt")
    assert in_writing >= 8
    done = cli("train", "--resume", run)
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (uninterrupted / "checkpoints").iterdir())
    assert sorted(path.name for path in (run / "checkpoints").iterdir() if path.name[0] != ".") == names
    for name in names:
        assert weights(run, name) == weights(uninterrupted, name), name
    assert figures(run) == figures(uninterrupted)
    assert (run / "steps.csv").read_bytes() == (uninterrupted / "steps.csv").read_bytes()
