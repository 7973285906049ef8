"""Tasks that are killed, by two workers, and with every setting that they share with classification."""

import json
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import PROGRAM, cli, figures, history, manifest, newest, weights
from task_runs import MEASURES, TASKS, draw, task_settings
from trainings import same_training

import mslab
from mslab import checkpoint
from mslab.errors import DeviceError

EACH = pytest.mark.parametrize("task", TASKS)


@pytest.fixture
def scenes(once):
    return once("few-scenes", draw) / "scenes"


@pytest.mark.parametrize(("task", "kills"), [("detect", 20), ("segment", 3), ("keypoints", 3), ("multilabel", 3)])
def test_kills_at_random_moments_lose_nothing(task, kills, scenes, inside):
    config = task_settings(scenes, task, epochs=8 * kills, max_to_keep=2, mode="graph")
    (inside / "x.yaml").write_text(json.dumps(config))
    uninterrupted = Path(mslab.train(config, name="uninterrupted").run)
    rng, run = np.random.default_rng(0), None
    for _ in range(kills):
        arguments = ["train", "--resume", str(run)] if run else ["train", "x.yaml"]
        process = subprocess.Popen([*PROGRAM, *arguments], stderr=subprocess.PIPE, text=True)
        for line in process.stderr:
            if line.startswith("epoch"):
                break
        run = run or newest("x-*")
        time.sleep(rng.uniform(0, 0.4))
        assert process.poll() is None, "it ended before it was killed: more epochs are needed"
        process.kill()
        process.communicate()
        checkpoint.read(run / "checkpoints" / "best.ckpt")
    done = cli("train", "--resume", run)
    assert done.returncode == 0, done.stderr
    same_training(run, uninterrupted)


@EACH
def test_two_workers_measure_alike_and_again(task, scenes, inside, all_cores):
    (inside / "x.yaml").write_text(json.dumps(task_settings(scenes, task, mode="graph", batch_size=2)))
    runs = []
    for name in ("first", "second"):
        done = subprocess.run(
            [*PROGRAM, "train", "x.yaml", "--workers", "2", "--name", name], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        runs.append(newest(f"{name}*"))
    assert figures(runs[0]) == figures(runs[1]) and weights(runs[0]) == weights(runs[1])
    assert manifest(runs[0])["workers"] == 2 and len(history(runs[0])) == 2
    measured = cli("eval", runs[0], "--data", str(scenes / "val"), "--json", "measured.json")
    assert measured.returncode == 0, measured.stderr
    found = json.loads(Path("measured.json").read_text())
    best = json.loads((runs[0] / "eval.json").read_text())
    assert found[MEASURES[task]] == pytest.approx(best[MEASURES[task]], abs=1e-6)


SHARED = [
    {"ema_decay": 0.9},
    {"grad_accumulation_step": 2, "batch_size": 2},
    {"clip_grad_norm": 0.1},
    {"best_by": "loss"},
    {"epochs": 3, "evaluation_frequency": 2},
    {"epochs": 3, "do_eval_along_train": False},
    {"epochs": 4, "early_stopping": True, "early_stopping_patience": 1, "early_stopping_tolerance": 0.9},
    {"epochs": 4, "target_accuracy": 0.0001},
    {"lr_scale": {"backbone": 0.1}},
    {"sync_bn": True},
    {"on_nan": "rollback"},
    {"deterministic": True},
    {"profile": {"block": "basic"}},
    {"stem": "small"},
    {"log_to": "tensorboard"},
]


@EACH
@pytest.mark.parametrize("more", SHARED, ids=str)
def test_what_classification_has_works_for_tasks(task, more, scenes, inside):
    run = Path(mslab.train(task_settings(scenes, task, **more)).run)
    rows = history(run)
    assert manifest(run)["status"] == "done" and rows[-1]["val_acc"] != ""
    if "early_stopping" in more or "target_accuracy" in more:
        assert len(rows) < 4 and manifest(run)["ended_by"]
    assert (run / "checkpoints" / "best.ckpt").is_file() and (run / "eval.json").is_file()


@EACH
def test_half_precision_on_a_cpu_is_refused_as_for_classes(task, scenes, inside):
    with pytest.raises(DeviceError, match="amp_level: O2 on a CPU"):
        mslab.train(task_settings(scenes, task, amp_level="O2"))
    assert not Path("runs").exists()


@pytest.mark.parametrize("task", ["detect", "segment", "keypoints"])
def test_the_neck_has_its_own_rate(task, scenes, inside):
    plain, slow = (
        Path(mslab.train(task_settings(scenes, task, epochs=1, **more)).run)
        for more in ({}, {"lr_scale": {"neck": 1e-3, "head": 1e-3}})
    )
    names = [name for name in checkpoint.read(plain / "checkpoints" / "best.ckpt").head if name.endswith("gamma")]
    far, near = (
        [np.abs(checkpoint.read(run / "checkpoints" / "best.ckpt").head[name] - 1).max() for name in names]
        for run in (plain, slow)
    )
    assert max(near) < max(far) / 10


@pytest.mark.parametrize("kind", ["none", "coco", "coco_voc"])
def test_detect_is_measured_as_it_is_asked_for(kind, scenes, inside):
    more = {"validation_metric_type": kind} | ({"best_by": "loss"} if kind == "none" else {})
    run = Path(mslab.train(task_settings(scenes, "detect", **more)).run)
    found = json.loads((run / "eval.json").read_text())
    assert ("coco_map" in found) == ("coco" in kind) and found["measure"] == (
        "coco_map" if kind == "coco" else "voc_map"
    )
    assert measured(run, scenes)["measure"] == found["measure"]


def measured(run, scenes):
    done = cli("eval", run, "--data", str(scenes), "--json", "measured.json")
    assert done.returncode == 0, done.stderr
    return json.loads(Path("measured.json").read_text())


def test_tiles_are_trained_and_evaluated(scenes, inside):
    run = Path(mslab.train(task_settings(scenes, "detect", tile_grid_size="2,2")).run)
    assert checkpoint.read(run / "checkpoints" / "best.ckpt").info["options"]["tile_grid_size"] == [2, 2]
    assert 0 <= measured(run, scenes)["voc_map"] <= 1


@EACH
def test_both_modes_give_figures_and_the_file_measures_as_training_did(task, scenes, inside):
    run = Path(mslab.train(task_settings(scenes, task, mode="graph")).run)
    best = json.loads((run / "eval.json").read_text())
    done = cli("eval", run, "--data", str(scenes / "val"), "--json", "measured.json")
    assert done.returncode == 0, done.stderr
    found = json.loads(Path("measured.json").read_text())
    assert found[MEASURES[task]] == pytest.approx(best[MEASURES[task]], abs=1e-4)
