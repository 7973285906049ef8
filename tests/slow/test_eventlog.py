"""Event files of a run that is killed, and of two workers."""

import csv
import io
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from helpers import cli, overrides, settings
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from mslab import checkpoint

LOGGED = {"log_to": "tensorboard", "epochs": 3}


def events(run):
    """Every event of a run's files, in their order. Both checksums of each record are right, and nothing is left."""
    found = []
    for path in sorted((Path(run) / "tensorboard").iterdir()):
        file = io.BytesIO(path.read_bytes())
        while head := file.read(12):
            length, check = struct.unpack("<QI", head)
            record = file.read(length)
            assert check == masked_crc32c(head[:8])
            assert struct.unpack("<I", file.read(4)) == (masked_crc32c(record),)
            found.append(Event.FromString(record))
    return found


def series(run):
    """tag -> [(step, value), ...] in the order of the files."""
    found = {}
    for event in events(run):
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value))
    return found


def history(run):
    with (Path(run) / "history.csv").open() as file:
        return list(csv.DictReader(file))


def epochs_of(run, tag="loss/train"):
    return [step for step, _ in series(run)[tag]]


def test_a_kill_and_a_resume_leave_each_epoch_once(inside, three):
    """Killed after epochs that last.ckpt does not have yet: they are trained again, and their records are new ones."""
    config = three | {"epochs": 60, "log_to": "tensorboard", "checkpoint_frequency": 3}
    (inside / "x.yaml").write_text("\n".join(overrides(config)).replace("=", ": "))
    command = [str(Path(sys.executable).with_name("mslab")), "train", "x.yaml"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.startswith("epoch   5/60"):
            time.sleep(0.02)
            process.kill()
            break
    process.communicate()
    (folder,) = (inside / "runs").iterdir()
    kept = checkpoint.read(folder / "checkpoints" / "last.ckpt").info["epoch"]
    (first,) = (folder / "tensorboard").iterdir()
    with first.open("ab") as file:
        file.write(struct.pack("<Q", 999) + b"torn")  # as if it had been killed while it wrote the next one
    text = (folder / "config.yaml").read_text().replace("epochs: 60", "epochs: 9", 1)
    (folder / "config.yaml").write_text(text)
    done = cli("train", "--resume", folder)
    assert done.returncode == 0, done.stderr
    last = len(history(folder))
    assert last == max(9, kept)
    for tag in ("loss/train", "accuracy/val", "head/classifier.weight", "first_batch", "precision_recall/002 c"):
        assert epochs_of(folder, tag) == list(range(1, last + 1)), tag
    for step, value in series(folder)["loss/train"]:
        assert f"{value.simple_value:.6g}" == history(folder)[step - 1]["train_loss"]
    starts = [event.step for event in events(folder) if event.HasField("session_log")]
    assert starts == [1, kept + 1]  # where a TensorBoard that was open forgets what it has read
    assert len(series(folder)["final/val_acc"]) == 1


def test_of_two_workers_one_writes_what_both_have_measured(inside, squares):
    config = settings(squares / "three", 3, batch_size=4, **LOGGED)
    (inside / "x.yaml").write_text("\n".join(overrides(config)).replace("=", ": "))
    done = cli("train", "x.yaml", "--workers", "2")
    assert done.returncode == 0, done.stderr
    (run,) = (inside / "runs").glob("x-*")
    assert sorted(path.name[-4:] for path in (run / "tensorboard").iterdir()) == [".end", "0001"]
    for label, name in enumerate("abc"):
        for _, value in series(run)[f"precision_recall/{label:03} {name}"]:
            tp, fp, tn, fn, _, _ = np.reshape(value.tensor.float_val, (6, 127))
            assert (tp + fn == 7).all() and (fp + tn == 14).all()
