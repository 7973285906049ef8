"""Several workers on this machine, started by msrun as a user would: equal training, failures, resumes."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from helpers import PROGRAM, cli, draw, history, manifest, newest
from several import after_first_epoch, config_file, same_training

from mslab.training.launching import Cluster

pytestmark = pytest.mark.usefixtures("all_cores")


def test_two_workers_train_what_one_does_from_the_beginning(inside, squares):
    file = config_file(inside, squares / "three", 3)
    alone = cli("train", file)
    assert alone.returncode == 0, alone.stderr
    single = newest("c-*")
    two = cli("train", file, "batch_size=4", "sync_bn=true", "--workers", "2")
    assert two.returncode == 0, two.stderr
    run = newest("c-*")
    assert run != single and manifest(run)["workers"] == 2 and len(history(run)) == 2
    same_training(single, run)


def test_two_workers_with_every_control_train_what_one_does(inside, squares):
    controls = {"clip_grad_norm": 0.5, "grad_accumulation_step": 2, "ema_decay": 0.9, "label_smoothing": 0.1}
    controls |= {"lr_scheduler": "plateau", "plateau_patience": 1, "warmup_epochs": 0, "epochs": 4, "lr_max": 0.02}
    controls |= {"rescale_train_batch_size_factor": 10, "early_stopping": True, "max_training_time": 1.0}
    file = config_file(inside, squares / "three", 3, **controls)
    alone = cli("train", file)
    assert alone.returncode == 0, alone.stderr
    single = newest("c-*")
    two = cli("train", file, "sync_bn=true", "--workers", "2")
    assert two.returncode == 0, two.stderr
    assert "batch_size: 8 becomes 4" in alone.stderr and "batch_size: 8 becomes 2" in two.stderr
    assert history(newest("c-*"))[0]["step"] == "12"
    same_training(single, newest("c-*"))
    refused = cli("train", file, "sync_bn=true", "on_nan=rollback", "--workers", "2")
    assert refused.returncode == 1 and "on_nan: rollback does not work with 2 workers" in refused.stderr


def test_a_killed_worker_ends_the_job_with_its_name_and_the_run_continues_with_another_number(inside, squares):
    file = config_file(inside, squares / "three", 3, epochs=6, sync_bn=True)
    assert cli("train", file).returncode == 0
    uninterrupted = newest("c-*")
    job = subprocess.Popen(
        [*PROGRAM, *f"train {file} batch_size=4 --workers 2".split()],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "120"},
    )
    run = after_first_epoch(job, uninterrupted)
    process = int(re.search(r"worker 1 of 2: process (\d+)", (run / "workers" / "worker_1.log").read_text())[1])
    os.kill(process, signal.SIGKILL)
    output = job.communicate(timeout=30)[1]
    assert job.returncode == 1
    assert f"RunError: worker 1 of 2 (process {process}) was killed by signal 9 (SIGKILL)." in output
    assert f"mslab train --resume {run} --workers 2" in output
    assert manifest(run)["status"] == "failed"
    done = len(history(run))
    assert 1 <= done < 6
    again = cli("train", "--resume", run)  # with one worker, which trains on all images of a step
    assert again.returncode == 0, again.stderr
    assert "1 workers x 8 = 8 images a step" in again.stderr
    assert len(history(run)) == 6 and manifest(run)["status"] == "done"
    same_training(uninterrupted, run)
    finished = cli("train", "--resume", run, "--workers", "2")
    assert finished.returncode == 0 and "is finished: 6 of 6 epochs" in finished.stderr


def test_a_run_of_one_worker_continues_with_two(inside, squares):
    file = config_file(inside, squares / "three", 3, epochs=4, sync_bn=True)
    assert cli("train", file).returncode == 0
    uninterrupted = newest("c-*")
    job = subprocess.Popen([*PROGRAM, "train", str(file)], stderr=subprocess.DEVNULL)
    run = after_first_epoch(job, uninterrupted)
    job.send_signal(signal.SIGINT)
    job.wait(60)
    assert len(history(run)) < 4
    again = cli("train", "--resume", run, "--workers", "2")
    assert again.returncode == 0, again.stderr
    assert "2 workers x 4 = 8 images a step" in again.stderr
    same_training(uninterrupted, run)
    odd = cli("train", "--resume", config_of(run, status="failed", epochs=9), "--workers", "3")
    assert odd.returncode == 1, odd.stderr
    assert (
        "takes 8 images a step; 3 workers cannot divide them evenly" in odd.stderr and "--workers 1, 2, 4" in odd.stderr
    )


def config_of(run: Path, status: str, epochs: int) -> Path:
    """Give the run more epochs and another status."""
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(re.sub(r"(?m)^epochs: \d+", f"epochs: {epochs}", text))
    content = manifest(run)
    content |= {"status": status, "settings": content["settings"] | {"epochs": epochs}}
    (run / "manifest.json").write_text(json.dumps(content))
    return run


def test_an_error_in_a_worker_is_reported_as_in_a_single_process(inside, squares):
    file = config_file(inside, squares / "three", 3)
    done = cli("train", file, "lr_max=100", "epochs=40", "warmup_epochs=0", "--workers", "2")
    assert done.returncode == 1
    assert re.search(r"RunError: worker [01] of 2 stopped: DivergedError: The loss became (nan|inf)", done.stderr)
    assert "fix       lower lr_max" in done.stderr and "Traceback" not in done.stderr
    few = cli("train", file, "batch_size=32", "--workers", "2")
    assert few.returncode == 1
    assert "There are 48 training images, fewer than one batch of 64 (2 workers x 32)." in few.stderr
    assert "batch_size=12, or add images" in few.stderr


LATE = """
import sys, time
import numpy as np, mindspore as ms
from mindspore.communication import get_rank, init
ms.set_device("CPU")
init()
add = ms.ops.AllReduce()
add(ms.Tensor(np.ones(3, np.float32))).asnumpy()
if get_rank() == 0:
    time.sleep(35)
print("sum", float(add(ms.Tensor(np.ones(3, np.float32))).asnumpy()[0]))
"""


@pytest.mark.parametrize("guarded", [True, False])
def test_a_worker_waits_longer_than_mindspores_thirty_seconds(inside, guarded):
    (inside / "late.py").write_text(LATE)
    cluster = Cluster(2)
    arguments = cluster.command(inside, {})
    command = [*arguments[: arguments.index("python")], "late.py"]
    environ = os.environ | cluster.environment(inside)
    if not guarded:
        environ.pop("MS_NODE_TIMEOUT")
    job = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    job.wait(200)
    second = (inside / "worker_1.log").read_text()
    assert ("sum 2.0" in second) == guarded and ("AllReduce" in second) == (not guarded)


def test_ctrl_c_ends_all_workers_and_the_run_can_continue(inside, squares):
    file = config_file(inside, squares / "three", 3, epochs=300)
    command = [*PROGRAM, *f"train {file} batch_size=4 --workers 2".split()]
    job = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list(Path("runs").glob("c-*/history.csv")):
        assert job.poll() is None
        time.sleep(0.05)
    job.send_signal(signal.SIGINT)
    output = job.communicate(timeout=30)[1]
    assert job.returncode == 130 and "stopped by Ctrl-C" in output
    run = newest("c-*")
    assert manifest(run)["status"] == "interrupted"
    logs = list((run / "workers").glob("worker_*.log"))
    numbers = [int(re.search(r"process (\d+)", log.read_text())[1]) for log in logs]
    assert len(numbers) == 2
    for _ in range(50):
        left = [n for n in numbers if psutil.pid_exists(n) and psutil.Process(n).status() != psutil.STATUS_ZOMBIE]
        if not left:
            break
        time.sleep(0.2)
    assert not left


def test_transfer_with_two_workers_and_cached_features(inside, squares, parent):
    file = config_file(inside, squares / "two", 2, freeze="all", stages=None)
    single = cli("transfer", file, "--backbone", parent)
    assert single.returncode == 0, single.stderr
    first = newest("c-*")
    two = cli("transfer", file, "--backbone", parent, "batch_size=4", "--workers", "2")
    assert two.returncode == 0, two.stderr
    assert "features computed" in two.stderr and "head: new (2 classes)" in two.stderr
    same_training(first, newest("c-*"))


def test_batchnorm_of_each_worker_ends_in_one_set_of_statistics(inside, squares):
    file = config_file(inside, squares / "three", 3, max_to_keep=2)
    done = cli("train", file, "batch_size=4", "lr_scaling=linear", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert "lr_max: 0.05 x 2 = 0.1 (lr_scaling: linear)" in done.stderr
    run = newest("c-*")
    assert float(history(run)[0]["lr"]) > 0.05
    measured = cli("eval", run, "--data", squares / "three" / "val", "--json", "-")
    recorded, again = json.loads((run / "eval.json").read_text()), json.loads(measured.stdout)
    assert again["confusion"] == recorded["confusion"] and again["loss"] == pytest.approx(recorded["loss"], rel=1e-4)


def test_two_workers_train_what_one_does_with_the_same_images_a_step(inside, parent, all_cores):
    for seed, (split, count) in enumerate([("train", 8), ("val", 3)]):
        draw(inside / "images" / split, ["a", "b", "c"], count, seed)
    # only the first worker opens the backbone: the second has to receive its weights
    arguments = [
        "transfer",
        config_file(inside, inside / "images", 3, stages=None),
        "--backbone",
        parent,
        "--no-report",
    ]
    alone = cli(*arguments, "mode=pynative")  # nothing is compiled, and the sums are the same
    assert alone.returncode == 0, alone.stderr
    single = newest("c-*")
    two = cli(*arguments, "batch_size=4", "sync_bn=true", "--workers", "2")
    assert two.returncode == 0, two.stderr
    run = newest("c-*")
    assert run != single
    assert (
        "2 workers x 4 = 8 images a step; lr_max: 0.05 unchanged (lr_scaling=linear would multiply it by 2)"
        in two.stderr
    )
    assert "[INFO]" not in two.stderr and "runtime warnings" not in two.stderr
    same_training(single, run)
    recorded = manifest(run)
    assert recorded["status"] == "done" and recorded["workers"] == 2 and recorded["device"] == "cpu"
    logs = {path.name for path in (run / "workers").iterdir()}
    assert {"worker_0.log", "worker_1.log", "scheduler.log", "msrun.log", "mindspore_1.log"} <= logs
    assert not list(run.glob(".*")) and len(history(run)) == 2
