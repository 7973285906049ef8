"""Event files of a run that is killed, and of two workers."""

import json
import struct
import subprocess

import numpy as np
from eventfiles import epochs_of, events, series
from helpers import PROGRAM, cli, history, settings

from mslab import checkpoint


def test_a_kill_and_a_resume_leave_each_epoch_once(inside, three):
    """Killed after epochs that last.ckpt does not have yet: they are trained again, and their records are new ones."""
    config = three | {"epochs": 60, "log_to": "tensorboard", "checkpoint_frequency": 3, "mode": "graph"}
    (inside / "x.yaml").write_text(json.dumps(config))
    job = subprocess.Popen([*PROGRAM, "train", "x.yaml"], stderr=subprocess.PIPE, text=True)
    for line in job.stderr:
        if line.startswith("epoch   6/60"):
            job.kill()
            break
    job.communicate()
    (folder,) = (inside / "runs").iterdir()
    saved = checkpoint.read(folder / "checkpoints" / "last.ckpt").info["epoch"]
    (first,) = (folder / "tensorboard").iterdir()
    with first.open("ab") as file:
        file.write(struct.pack("<Q", 999) + b"torn")  # as if it had been killed while it wrote the next one
    text = (folder / "config.yaml").read_text().replace("epochs: 60", "epochs: 9", 1)
    (folder / "config.yaml").write_text(text)
    done = cli("train", "--resume", folder)
    assert done.returncode == 0, done.stderr
    last = len(history(folder))
    assert last == max(9, saved)
    for tag in ("loss/train", "accuracy/val", "head/classifier.weight", "first_batch", "precision_recall/002 c"):
        assert epochs_of(folder, tag) == list(range(1, last + 1)), tag
    for step, value in series(folder)["loss/train"]:
        assert f"{value.simple_value:.6g}" == history(folder)[step - 1]["train_loss"]
    starts = [event.step for event in events(folder) if event.HasField("session_log")]
    assert starts == [1, saved + 1]  # here a running TensorBoard forgets the later steps
    assert len(series(folder)["final/val_acc"]) == 1


def test_the_first_of_two_workers_writes_what_both_have_measured(inside, squares):
    config = settings(squares / "three", 3, batch_size=4, epochs=3, log_to="tensorboard", mode="graph")
    (inside / "x.yaml").write_text(json.dumps(config))
    done = cli("train", "x.yaml", "--workers", "2")
    assert done.returncode == 0, done.stderr
    (run,) = (inside / "runs").glob("x-*")
    assert sorted(path.name[-4:] for path in (run / "tensorboard").iterdir()) == [".end", "0001"]
    for label, name in enumerate("abc"):
        for _, value in series(run)[f"precision_recall/{label:03} {name}"]:
            tp, fp, tn, fn, _, _ = np.reshape(value.tensor.float_val, (6, 127))
            assert (tp + fn == 7).all() and (fp + tn == 14).all()
