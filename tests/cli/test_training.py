"""Training on the command line: the terminal's output, Ctrl-C, and equal bytes in another process."""

import json
import signal
import subprocess

import pytest
from helpers import PROGRAM, cli, history, manifest, newest, process, weights
from trainings import compiled, plain, same_training

from mslab import checkpoint
from mslab.errors import RunError
from mslab.runtime import devices
from mslab.training import start


def test_equal_runs_give_equal_bytes_also_in_another_process(squares, finished, inside):
    (inside / "run.yaml").write_text(json.dumps(compiled(squares)))  # JSON is YAML
    done = process("train", "run.yaml", "--no-report")
    assert done.returncode == 0, done.stderr
    run, repeated = finished(compiled(squares)).run, newest()
    same_training(repeated, run)
    # plain lines if standard output is not a terminal, without MindSpore's own output
    assert "compiling the training step" in done.stderr and "first batch: images float32 (8, 3, 32, 32)" in done.stderr
    assert "[WARNING]" not in done.stderr and "Cell.__del__" not in done.stderr and "\x1b" not in done.stderr
    assert "labels float32 (8, 3)" in done.stderr and "a linear model of 8x8 thumbnails has 1.000" in done.stderr


def test_resume_of_a_finished_run_and_of_no_run(trained, inside, squares):
    run = trained(plain(squares)).run
    for _ in range(2):
        done = cli("train", "--resume", run)
        assert done.returncode == 0 and "is finished: 3 of 3 epochs; nothing to do" in done.stderr
    assert weights(run, "last.ckpt") == weights(trained(plain(squares)).run, "last.ckpt")
    with pytest.raises(RunError, match=r"has no config.yaml"):
        start.resume(inside)


def test_ctrl_c_stops_after_the_step_leaves_a_complete_folder_and_resume_continues(inside, three):
    """In graph mode, where MindSpore may turn Ctrl-C into another signal."""
    config = three | {"epochs": 300, "mode": "graph", "stages": [[1, 8, 1]], "image_size": 16}
    config |= {"lr_scheduler": "constant"}  # whose rates do not depend on epochs
    (inside / "x.yaml").write_text(json.dumps(config))
    job = subprocess.Popen([*PROGRAM, "train", "x.yaml"], stderr=subprocess.PIPE, text=True)
    lines = []
    for line in job.stderr:
        lines.append(line)
        if line.startswith("epoch   2/300"):
            job.send_signal(signal.SIGINT)
    assert job.wait() == 130, "".join(lines)
    folder, text = newest(), "".join(lines)
    assert manifest(folder)["status"] == "interrupted" and manifest(folder)["exit_status"] == 130
    epochs = len(history(folder))
    goes_on = f"; mslab train --resume {folder}    continues it after epoch {epochs} of 300\n"
    assert "stopping after this step" in text and text.endswith(goes_on)
    assert 2 <= epochs < 300 and checkpoint.read(folder / "checkpoints/last.ckpt").info["epoch"] == epochs
    assert not list(folder.rglob("*.tmp*"))
    assert not (folder / ".lock").exists()
    done = cli("train", "--resume", folder, f"epochs={epochs + 1}", "--no-report")
    assert done.returncode == 0 and f"resuming {folder} after epoch {epochs}" in done.stderr, done.stderr
    assert len(history(folder)) == epochs + 1


def test_a_device_that_is_not_there_leaves_a_message_and_exit_1(inside, three):
    if devices.choose_device("auto") != "cpu":
        pytest.skip("this machine has an accelerator")
    (inside / "x.yaml").write_text(json.dumps(three | {"device": "gpu"}))
    done = cli("train", "x.yaml")
    assert done.returncode == 1 and "DeviceError: device: gpu cannot be used here" in done.stderr
    assert "Traceback" not in done.stderr
