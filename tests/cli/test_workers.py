"""Several workers on this machine, started by msrun as a user would: what they share, and how they end."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import mindspore as ms
import numpy as np
import psutil
import pytest
from helpers import cli, settings
from mindspore import nn

from mslab import checkpoint, data, launching, model, runtime, workers
from mslab.config import load_config
from mslab.errors import ConfigError, DeviceError, RunError
from mslab.launching import Crew

pytestmark = pytest.mark.usefixtures("all_cores")
PLAIN = {"crop_scale": 1.0, "flip": False, "color_jitter": 0.0}  # nothing random but weights and order


def config_file(folder: Path, root: Path, class_num: int, **more) -> Path:
    content = settings(root, class_num, **PLAIN) | more
    (folder / "c.yaml").write_text(json.dumps(content))  # JSON is YAML
    return folder / "c.yaml"


def newest() -> Path:
    return max(Path("runs").glob("c-*"), key=lambda path: path.stat().st_mtime)


def after_first_epoch(job: subprocess.Popen, whole: Path) -> Path:
    """The run that this process trains, once its first epoch is kept; `whole` is an earlier one."""
    while not (newest() != whole and (newest() / "history.csv").exists()):
        assert job.poll() is None
        time.sleep(0.02)
    return newest()


def history(run: Path) -> list[dict]:
    with (run / "history.csv").open() as file:
        return list(csv.DictReader(file))


def same_training(one: Path, other: Path) -> None:
    """Equal weights and figures within float tolerance."""
    first, second = (checkpoint.read(run / "checkpoints" / "last.ckpt") for run in (one, other))
    assert first.tensors.keys() == second.tensors.keys()
    for name, value in first.tensors.items():
        assert np.allclose(value, second.tensors[name], rtol=1e-3, atol=1e-4), name
    for left, right in zip(history(one), history(other), strict=True):
        for key in ("epoch", "step", "lr", "train_loss", "train_acc", "val_loss", "val_acc"):
            assert float(left[key]) == pytest.approx(float(right[key]), rel=2e-3), key
    left, right = (json.loads((run / "eval.json").read_text()) for run in (one, other))
    assert left["images"] == right["images"] and left["confusion"] == right["confusion"]


# --- who takes what --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count,batch,size", [(48, 4, 2), (50, 4, 3), (9, 2, 2), (7, 2, 4)])
def test_every_sample_is_one_workers_once_an_epoch(count, batch, size):
    order = np.random.default_rng(0).permutation(count)
    shares = [workers.Group(rank, size).share(order, batch) for rank in range(size)]
    together = batch * size
    whole = order[: count // together * together]
    assert sorted(np.concatenate(shares)) == sorted(whole)
    for step in range(count // together):  # and the same ones in the same step as one worker with the whole batch has
        taken = np.concatenate([share[step * batch : (step + 1) * batch] for share in shares])
        assert taken.tolist() == whole[step * together : (step + 1) * together].tolist()


@pytest.mark.parametrize("count,size", [(21, 2), (3, 4), (8, 8)])
def test_what_is_measured_is_measured_once(count, size):
    parts = [workers.Group(rank, size).part(count) for rank in range(size)]
    assert sorted(np.concatenate(parts)) == list(range(count))


def test_a_worker_without_an_image_to_measure_measures_nothing(three):
    images = data.Images([Path("x.png")], np.array([0], np.int32), ["a", "b"])
    assert list(data.ImageFeed(images, images, load_config(three), workers.Group(1, 2)).val()) == []


def test_alone_everything_stays_as_it_is():
    order = np.arange(7)
    assert workers.ALONE.share(order, 2) is order and workers.ALONE.tell({"a": 1}) == {"a": 1}
    assert workers.ALONE.sum([1, 2]).tolist() == [1, 2] and workers.ALONE.gradient_mean([]) is None


def test_synchronised_batchnorm_keeps_parameters_and_names():
    backbone = model.resnet50_backbone([[1, 8, 1], [1, 8, 2]])
    network = model.ResNet50(backbone, model.resnet50_head(3, backbone.channels))
    before = {p.name: id(p) for p in network.get_parameters()}
    norms = sum(type(cell) is nn.BatchNorm2d for _, cell in network.cells_and_names())
    workers.synchronise(network, workers.Group(0, 2))
    assert {p.name: id(p) for p in network.get_parameters()} == before
    kinds = [type(cell) for _, cell in network.cells_and_names()]
    assert kinds.count(workers.SyncBatchNorm2d) == norms == 9 and nn.BatchNorm2d not in kinds
    x = ms.Tensor(np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32))
    plain = model.resnet50_backbone([[1, 8, 1], [1, 8, 2]])
    checkpoint.load_exactly(
        plain.parameters_dict(), {p.name: p.asnumpy() for p in backbone.get_parameters()}, Path("x"), "backbone"
    )
    assert np.allclose(plain.set_train(False)(x).asnumpy(), backbone.set_train(False)(x).asnumpy(), atol=1e-5)


# --- two workers for real --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_workers_train_what_one_does_with_the_same_images_a_step(inside, squares):
    file = config_file(inside, squares / "three", 3)
    alone = cli("train", file)
    assert alone.returncode == 0, alone.stderr
    one = newest()
    two = cli("train", file, "batch_size=4", "sync_bn=true", "--workers", "2")
    assert two.returncode == 0, two.stderr
    run = newest()
    assert run != one
    assert (
        "2 workers x 4 = 8 images a step; lr_max: 0.05 as it is (lr_scaling=linear would multiply it by 2)"
        in two.stderr
    )
    assert "[INFO]" not in two.stderr and "runtime warnings" not in two.stderr
    same_training(one, run)
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["status"] == "done" and manifest["workers"] == 2 and manifest["device"] == "cpu"
    logs = {path.name for path in (run / "workers").iterdir()}
    assert {"worker_0.log", "worker_1.log", "scheduler.log", "msrun.log", "mindspore_1.log"} <= logs
    assert not list(run.glob(".*")) and len(history(run)) == 2


@pytest.mark.slow
def test_two_workers_with_every_control_train_what_one_does(inside, squares):
    controls = {"clip_grad_norm": 0.5, "grad_accumulation_step": 2, "ema_decay": 0.9, "label_smoothing": 0.1}
    controls |= {"lr_scheduler": "plateau", "plateau_patience": 1, "warmup_epochs": 0, "epochs": 4, "lr_max": 0.02}
    controls |= {"rescale_train_batch_size_factor": 10, "early_stopping": True, "max_training_time": 1.0}
    file = config_file(inside, squares / "three", 3, **controls)
    alone = cli("train", file)
    assert alone.returncode == 0, alone.stderr
    one = newest()
    two = cli("train", file, "sync_bn=true", "--workers", "2")
    assert two.returncode == 0, two.stderr
    assert "batch_size: 8 becomes 4" in alone.stderr and "batch_size: 8 becomes 2" in two.stderr
    assert history(newest())[0]["step"] == "12"
    same_training(one, newest())
    refused = cli("train", file, "sync_bn=true", "on_nan=rollback", "--workers", "2")
    assert refused.returncode == 1 and "on_nan: rollback with 2 workers: one may see a loss" in refused.stderr


@pytest.mark.slow
def test_a_killed_worker_ends_the_job_with_its_name_and_the_run_goes_on_with_another_number(inside, squares):
    file = config_file(inside, squares / "three", 3, epochs=6, sync_bn=True)
    assert cli("train", file).returncode == 0
    whole = newest()
    job = subprocess.Popen(
        [str(Path(sys.executable).with_name("mslab")), *f"train {file} batch_size=4 --workers 2".split()],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "120"},
    )
    run = after_first_epoch(job, whole)
    process = int(re.search(r"worker 1 of 2: process (\d+)", (run / "workers" / "worker_1.log").read_text())[1])
    os.kill(process, signal.SIGKILL)
    told = job.communicate(timeout=30)[1]
    assert job.returncode == 1
    assert f"RunError: worker 1 of 2 (process {process}) was killed by signal 9 (SIGKILL)." in told
    assert f"mslab train --resume {run} --workers 2" in told
    assert json.loads((run / "manifest.json").read_text())["status"] == "failed"
    done = len(history(run))
    assert 1 <= done < 6
    again = cli("train", "--resume", run)  # with one worker, which takes all images of a step
    assert again.returncode == 0, again.stderr
    assert "1 workers x 8 = 8 images a step" in again.stderr
    assert len(history(run)) == 6 and json.loads((run / "manifest.json").read_text())["status"] == "done"
    same_training(whole, run)
    finished = cli("train", "--resume", run, "--workers", "2")
    assert finished.returncode == 0 and "is finished: 6 of 6 epochs" in finished.stderr


@pytest.mark.slow
def test_a_run_of_one_worker_goes_on_with_two(inside, squares):
    file = config_file(inside, squares / "three", 3, epochs=4, sync_bn=True)
    assert cli("train", file).returncode == 0
    whole = newest()
    job = subprocess.Popen(
        [str(Path(sys.executable).with_name("mslab")), "train", str(file)], stderr=subprocess.DEVNULL
    )
    run = after_first_epoch(job, whole)
    job.send_signal(signal.SIGINT)
    job.wait(60)
    assert len(history(run)) < 4
    again = cli("train", "--resume", run, "--workers", "2")
    assert again.returncode == 0, again.stderr
    assert "2 workers x 4 = 8 images a step" in again.stderr
    same_training(whole, run)
    odd = cli("train", "--resume", config_of(run, status="failed", epochs=9), "--workers", "3")
    assert odd.returncode == 1, odd.stderr
    assert (
        "takes 8 images a step; 3 workers cannot share them evenly" in odd.stderr and "--workers 1, 2, 4" in odd.stderr
    )


def config_of(run: Path, status: str, epochs: int) -> Path:
    """Let the run have more epochs to go."""
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(re.sub(r"(?m)^epochs: \d+", f"epochs: {epochs}", text))
    manifest = json.loads((run / "manifest.json").read_text()) | {"status": status}
    (run / "manifest.json").write_text(json.dumps(manifest))
    return run


@pytest.mark.slow
def test_what_goes_wrong_in_a_worker_is_said_as_if_there_were_one(inside, squares):
    file = config_file(inside, squares / "three", 3)
    done = cli("train", file, "lr_max=100", "epochs=40", "warmup_epochs=0", "--workers", "2")
    assert done.returncode == 1
    assert re.search(r"RunError: worker [01] of 2 stopped: TrainingError: The loss became (nan|inf)", done.stderr)
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


@pytest.mark.slow
@pytest.mark.parametrize("guarded", [True, False])
def test_a_worker_waits_longer_than_mindspores_thirty_seconds(inside, guarded):
    (inside / "late.py").write_text(LATE)
    crew = Crew(2)
    words = crew.command(inside, {})
    command = [*words[: words.index("python")], "late.py"]
    environ = os.environ | crew.environment(inside)
    if not guarded:
        environ.pop("MS_NODE_TIMEOUT")
    job = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    job.wait(200)
    second = (inside / "worker_1.log").read_text()
    assert ("sum 2.0" in second) == guarded and ("AllReduce" in second) == (not guarded)


@pytest.mark.slow
def test_ctrl_c_ends_all_workers_and_the_run_can_go_on(inside, squares):
    file = config_file(inside, squares / "three", 3, epochs=300)
    command = [str(Path(sys.executable).with_name("mslab")), *f"train {file} batch_size=4 --workers 2".split()]
    job = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list(Path("runs").glob("c-*/history.csv")):
        assert job.poll() is None
        time.sleep(0.05)
    job.send_signal(signal.SIGINT)
    told = job.communicate(timeout=30)[1]
    assert job.returncode == 130 and "stopped by Ctrl-C" in told
    run = newest()
    assert json.loads((run / "manifest.json").read_text())["status"] == "interrupted"
    logs = list((run / "workers").glob("worker_*.log"))
    numbers = [int(re.search(r"process (\d+)", log.read_text())[1]) for log in logs]
    assert len(numbers) == 2
    for _ in range(50):
        left = [n for n in numbers if psutil.pid_exists(n) and psutil.Process(n).status() != psutil.STATUS_ZOMBIE]
        if not left:
            break
        time.sleep(0.2)
    assert not left


@pytest.mark.slow
def test_transfer_with_two_workers_and_kept_features(inside, squares, parent):
    file = config_file(inside, squares / "two", 2, freeze="all", stages=None)
    one = cli("transfer", file, "--backbone", parent)
    assert one.returncode == 0, one.stderr
    first = newest()
    two = cli("transfer", file, "--backbone", parent, "batch_size=4", "--workers", "2")
    assert two.returncode == 0, two.stderr
    assert "features computed" in two.stderr and "head: new (2 classes)" in two.stderr
    same_training(first, newest())


@pytest.mark.slow
def test_batchnorm_of_each_worker_ends_in_one_set_of_statistics(inside, squares):
    file = config_file(inside, squares / "three", 3, max_to_keep=2)
    done = cli("train", file, "batch_size=4", "lr_scaling=linear", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert "lr_max: 0.05 x 2 = 0.1 (lr_scaling: linear)" in done.stderr
    run = newest()
    assert float(history(run)[0]["lr"]) > 0.05
    measured = cli("eval", run, "--data", squares / "three" / "val", "--json", "-")
    kept, again = json.loads((run / "eval.json").read_text()), json.loads(measured.stdout)
    assert again["confusion"] == kept["confusion"] and again["loss"] == pytest.approx(kept["loss"], rel=1e-4)


# --- what is said before anything starts -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments,text",
    [
        ("--workers 3 --nodes 2 --master host", "3 workers do not share 2 machines evenly"),
        ("--workers 4 --nodes 2", "the machine with --node-rank 0 is not named"),
        ("--workers 4 --nodes 2 --node-rank 2 --master host", "2: it is 0 to 1 with --nodes 2"),
        ("--workers 4 --nodes 2 --master host:80", "80 is no port"),
    ],
)
def test_workers_that_cannot_be_placed(inside, squares, arguments, text):
    done = cli("train", config_file(inside, squares / "three", 3), *arguments.split())
    assert done.returncode == 1 and text in done.stderr and "expected" in done.stderr and "fix" in done.stderr
    assert not Path("runs").exists()


def test_options_of_workers_alone_are_a_wrong_command_line(inside, squares):
    done = cli("train", config_file(inside, squares / "three", 3), "--nodes", "2")
    assert done.returncode == 2 and "belong to --workers" in done.stderr


def test_a_dry_run_prints_the_plan_for_a_device_that_is_not_here(inside, squares):
    asked = "device=ascend amp_level=O2 jit_level=O1 max_device_memory=28GB --workers 16 --nodes 2 --master node0:9000"
    done = cli("train", config_file(inside, squares / "three", 3), *asked.split(), "--dry-run")
    assert done.returncode == 0, done.stderr
    calls = re.findall(r"^calls +mindspore\.(.*)$", done.stdout, re.M)
    assert calls == [
        "set_context(mode=0)",
        "set_device(device_target='Ascend')",
        "runtime.set_memory(max_size='28GB')",
        "set_context(jit_config={'jit_level': 'O1'})",
        "communication.init()",
        "set_seed(seed=1)",
        "dataset.config.set_seed(seed=1)",
        "amp.auto_mixed_precision(network, 'O2')",
        "amp.DynamicLossScaler(65536.0, 2, 1000)",
    ]
    assert "16 workers x 8 = 128 images" in done.stdout
    for part in (
        "--worker_num=16",
        "--local_worker_num=8",
        "--node_rank=0",
        "--master_addr=node0",
        "--master_port=9000",
    ):
        assert part in done.stdout
    assert "MSLAB_LOCAL=8" in done.stdout and "MS_NODE_TIMEOUT=600" in done.stdout and not Path("runs").exists()


@pytest.mark.parametrize("setting", ["sync_bn=true", "lr_scaling=sqrt"])
def test_settings_of_several_workers_are_refused_with_one(inside, squares, setting):
    done = cli("train", config_file(inside, squares / "three", 3), setting)
    assert done.returncode == 1 and "does nothing here: one worker trains" in done.stderr
    assert "--workers 2, or leave it out" in done.stderr and not Path("runs").exists()


def test_what_the_device_cannot_do_is_said_before_a_run_folder_is_made(inside, squares):
    done = cli("train", config_file(inside, squares / "three", 3), "amp_level=O2", "--workers", "2")
    assert done.returncode == 1 and "amp_level: O2 on a CPU" in done.stderr and not Path("runs").exists()


def test_fixed_statistics_stay_and_the_first_of_a_machine_goes_alone(tmp_path, monkeypatch):
    import threading

    backbone = model.resnet50_backbone([[1, 8, 1]])
    names = [p.name for p in backbone.get_parameters() if p.name.endswith("moving_mean")]
    workers.Group(0, 3).average_statistics(
        list(backbone.get_parameters()), [p.name for p in backbone.get_parameters()]
    )  # asks nobody
    assert len(names) == 5
    monkeypatch.setenv("MSLAB_LOGS", str(tmp_path))
    said = []

    def second():
        with workers.Group(3, 4, local=2).first_alone("x"):
            said.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with workers.Group(2, 4, local=2).first_alone("x"):
        time.sleep(0.5)
        said.append("first")
    thread.join(10)
    assert said == ["first", "second"]


def test_fewer_visible_devices_than_workers():
    with pytest.raises(ConfigError, match="ASCEND_RT_VISIBLE_DEVICES=0,1 shows fewer devices than the 4 workers"):
        launching.check_devices("ascend", 4, {"ASCEND_RT_VISIBLE_DEVICES": "0,1"})
    launching.check_devices("ascend", 2, {"ASCEND_RT_VISIBLE_DEVICES": "0,1"})
    launching.check_devices("cpu", 4, {"ASCEND_RT_VISIBLE_DEVICES": "0"})


def test_the_launchers_of_several_machines_tell_each_other_how_they_end():
    master = f"127.0.0.1:{launching.free_port()}"

    def lines() -> tuple[launching.Line, launching.Line, launching.Line]:
        return tuple(launching.Line(Crew(3, 3, rank, master)) for rank in range(3))

    def heard(line: launching.Line) -> str:
        for _ in range(50):
            if why := line.heard():
                return why
            time.sleep(0.02)
        return ""

    first, second, third = lines()
    assert [line.heard() for line in (second, third, first, first)] == [""] * 4
    second.end("RunError: worker 1 was killed")
    assert heard(first) == "RunError: worker 1 was killed"
    first.end("another machine has failed: RunError: worker 1 was killed")
    assert "worker 1 was killed" in heard(third)
    third.end()
    first, second, third = lines()
    assert [line.heard() for line in (second, third, first, first)] == [""] * 4
    second.end()  # well: nothing to hear
    third.peers[0].close()  # its launcher is gone
    assert heard(first) == "its launcher was killed"
    first.end()
    taken = launching.Line(Crew(2, 2, 0, master))
    with pytest.raises(RunError, match=r"port \d+ of this machine cannot be used: Address already in use"):
        launching.Line(Crew(2, 2, 0, master))
    taken.end()
    alone = launching.Line(Crew(2))
    assert alone.heard() == "" and alone.server is None


def test_the_command_is_one_that_msrun_reads(monkeypatch):
    from mindspore.parallel.cluster.run import get_args

    command = Crew(16, 2, 1, "node0:9000").command(Path("logs"), {"run": None})
    monkeypatch.setattr(sys, "argv", command[2:])
    read = get_args()
    assert (read.worker_num, read.local_worker_num, read.node_rank, read.master_port) == (16, 8, 1, 9000)
    assert (read.master_addr, read.join, read.log_dir, read.task_script) == ("node0", True, "logs", "python")
    assert read.task_script_args == ["-m", "mslab.launching", '{"run": null}']


def test_float16_on_a_cpu_is_refused_with_the_reason():
    with pytest.raises(DeviceError, match="amp_level: O2 on a CPU: it has no float16 arithmetic"):
        runtime.plan("cpu", "graph", 1, amp_level="O2")


def test_what_is_planned_is_what_is_called():
    calls = runtime.plan("cpu", "pynative", 7, jit_level="O0")
    runtime.set_up(calls)
    assert ms.get_context("mode") == ms.PYNATIVE_MODE and ms.get_seed() == 7 and ms.dataset.config.get_seed() == 7
    runtime.set_up(runtime.plan("cpu", "graph", 1))


def test_loss_scaling_learns_and_skips_an_overflow():
    from mslab.steps import ScaledTrainStep

    runtime.start("cpu", "graph", 1)
    backbone = model.resnet50_backbone([[1, 8, 1], [1, 8, 2]])
    network = model.ResNet50(backbone, model.resnet50_head(3, backbone.channels))
    halved = ms.amp.auto_mixed_precision(network, "O2")
    optimizer = nn.Momentum(network.trainable_params(), 0.05, 0.9)
    step = ScaledTrainStep(halved, nn.CrossEntropyLoss(), optimizer).set_train()
    rng = np.random.default_rng(0)
    images, labels = ms.Tensor(rng.normal(size=(8, 3, 32, 32)), ms.float32), ms.Tensor(np.arange(8) % 3, ms.int32)
    losses = [float(step(images, labels)[0].asnumpy()) for _ in range(10)]
    assert losses[0] == pytest.approx(np.log(3), abs=0.1) and losses[-1] < losses[0] / 1.5
    kept = step.parameters_dict()
    assert {"scale_value", "counter"} <= {name.rpartition(".")[2] for name in kept}, (
        "last.ckpt would not hold the scale"
    )
    before = network.head.classifier.weight.asnumpy().copy()
    step.scaler.scale_value.set_data(ms.Tensor(3e38, ms.float32))
    step(images, labels)
    assert (network.head.classifier.weight.asnumpy() == before).all()
    assert float(step.scaler.scale_value.asnumpy()) == pytest.approx(1.5e38)
