"""Training as a user calls it: what a terminal shows, what Ctrl-C leaves, and equal bytes in another process."""

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import cli, overrides, settings

import mslab
from mslab import checkpoint, runtime, training
from mslab.errors import RunError


@pytest.fixture(scope="module")
def run(squares, tmp_path_factory):
    """One finished run, which many tests look at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("run"))
        result = mslab.train(settings(squares / "three", 3, epochs=4, max_to_keep=2))
        return Path(result.run).resolve(), result


def history(run):
    with (run / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def manifest(run):
    return json.loads((run / "manifest.json").read_text())


def test_equal_runs_give_equal_bytes_also_in_another_process(run, inside, squares):
    config = settings(squares / "three", 3, epochs=4, max_to_keep=2)
    (inside / "run.yaml").write_text("\n".join(overrides(config)).replace("=", ": "))
    done = cli("train", "run.yaml", cwd=inside)
    assert done.returncode == 0, done.stderr
    other = next((inside / "runs").iterdir())
    for name in ("best.ckpt", "last.ckpt", "best_backbone.ckpt"):
        assert (other / "checkpoints" / name).read_bytes() == (run[0] / "checkpoints" / name).read_bytes(), name
    timing = ("images_per_s", "seconds")
    for one, two in zip(history(run[0]), history(other), strict=True):
        assert {k: v for k, v in one.items() if k not in timing} == {k: v for k, v in two.items() if k not in timing}
    other_seed = mslab.train(config | {"seed": 2, "epochs": 1})
    assert history(Path(other_seed.run))[0]["train_loss"] != history(run[0])[0]["train_loss"]
    # plain lines where standard output is no terminal, and none of MindSpore's noise
    assert "compiling the training step" in done.stderr and "first batch: images float32 (8, 3, 32, 32)" in done.stderr
    assert "[WARNING]" not in done.stderr and "Cell.__del__" not in done.stderr and "\x1b" not in done.stderr
    assert "labels int32 (8,)" in done.stderr and "a linear model of 8x8 thumbnails has 1.000" in done.stderr


def test_resume_of_a_finished_run_and_of_no_run(run, tmp_path, capfd):
    assert cli("train", "--resume", run[0]).returncode == 0
    done = cli("train", "--resume", run[0])
    assert "is finished: 4 of 4 epochs; nothing to do" in done.stderr
    with pytest.raises(RunError, match=r"has no config.yaml"):
        training.resume(tmp_path)


def test_ctrl_c_stops_after_the_step_leaves_a_whole_folder_and_resume_goes_on(inside, three):
    (inside / "x.yaml").write_text("\n".join(overrides(three | {"epochs": 60})).replace("=", ": "))
    command = [str(Path(sys.executable).with_name("mslab")), "train", "x.yaml"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith("epoch   2/60"):
            process.send_signal(signal.SIGINT)
    assert process.wait() == 130, "".join(lines)
    assert "stopping after this step" in "".join(lines) and "--resume RUN continues" in "".join(lines)
    folder = next((inside / "runs").iterdir())
    assert manifest(folder)["status"] == "interrupted" and manifest(folder)["exit_status"] == 130
    epochs = len(history(folder))
    assert 2 <= epochs < 60 and checkpoint.read(folder / "checkpoints/last.ckpt").info["epoch"] == epochs
    assert not list(folder.rglob("*.tmp*"))
    text = (folder / "config.yaml").read_text().replace("epochs: 60", f"epochs: {epochs + 1}", 1)
    (folder / "config.yaml").write_text(text)
    done = cli("train", "--resume", folder, cwd=inside)
    assert done.returncode == 0 and f"resuming {folder} after epoch {epochs}" in done.stderr, done.stderr
    assert len(history(folder)) == epochs + 1


def test_a_device_that_is_not_there_leaves_a_message_and_exit_1(inside, three):
    if runtime.choose_device("auto") != "cpu":
        pytest.skip("this machine has an accelerator")
    (inside / "x.yaml").write_text("\n".join(overrides(three | {"device": "gpu"})).replace("=", ": "))
    done = cli("train", "x.yaml")
    assert done.returncode == 1 and "DeviceError: device: gpu cannot be used here" in done.stderr
    assert "Traceback" not in done.stderr
