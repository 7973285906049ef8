"""Every task trains through the loop of classification: figures, files, bits, transfer, freezing, resuming."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from helpers import figures, history, manifest, newest, settings, stopped_after, weights
from task_runs import MEASURES, NAMES, TASKS, draw, task_settings

import mslab
from mslab import checkpoint
from mslab.runs import manifest as manifests
from mslab.training import start

EACH = pytest.mark.parametrize("task", TASKS)


@pytest.fixture
def scenes(once):
    return once("few-scenes", draw) / "scenes"


@pytest.fixture
def config(scenes):
    return lambda task, **more: task_settings(scenes, task, **more)


def bits(run, name="last.ckpt"):
    return figures(run), weights(Path(run), name)


def tensors(run, name="best.ckpt"):
    return checkpoint.read(Path(run) / "checkpoints" / name).tensors


@EACH
def test_a_run_has_the_figures_of_its_task(task, config, inside):
    run = Path(mslab.train(config(task), name="run").run)
    rows, measure = history(run), MEASURES[task]
    assert len(rows) == 2 and all(math.isfinite(float(row[name])) for row in rows for name in ("val_acc", "val_loss"))
    found = json.loads((run / "eval.json").read_text())
    best = max(rows, key=lambda row: float(row["val_acc"]))
    assert found["task"] == task and found["measure"] == measure
    assert float(best["val_acc"]) == pytest.approx(found[measure], abs=1e-6)
    assert len(found["class_names"]) == NAMES[task]
    made = manifest(run)
    assert made["status"] == "done" and 0 <= made["metrics"]["constant"][measure] <= 1
    weights = checkpoint.read(run / "checkpoints" / "best.ckpt")
    assert weights.task == task and weights.class_names == made["class_names"] == found["class_names"]
    backbone = checkpoint.read(run / "checkpoints" / "best_backbone.ckpt")
    assert not backbone.head and backbone.task == "classify" and "task" not in backbone.info


@pytest.mark.parametrize(
    "task, more, crops",
    [
        ("keypoints", {}, " (25 crops an epoch)"),
        ("detect", {"tile_grid_size": "2,2"}, " (50 crops an epoch)"),
        ("segment", {}, ""),
    ],
)
def test_the_log_counts_images_and_crops(task, more, crops, config, inside):
    run = Path(mslab.train(config(task, epochs=1, **more)).run)
    assert f": 10 training{crops} and 5 validation images, " in (run / "train.log").read_text()


def test_a_run_without_a_measure_shows_its_loss_and_no_nan(config, inside):
    run = Path(mslab.train(config("detect", epochs=1, validation_metric_type="none", best_by="loss")).run)
    text = (run / "train.log").read_text()
    assert "  val_loss " in text and "best val_loss " in text
    assert "nan" not in text and "the same answer" not in text


@pytest.mark.parametrize(
    ("task", "more"),
    [("detect", {"cache": "none"}), ("segment", {"cache": "memory"}), ("keypoints", {}), ("multilabel", {})],
    ids=str,
)
def test_a_rerun_gives_equal_bits_whatever_is_cached(task, more, config, inside):
    first = mslab.train(config(task), name="first").run
    assert bits(mslab.train(config(task, **more), name="second").run) == bits(first)


@pytest.mark.parametrize("task", ["detect", "multilabel"])
def test_threads_do_not_change_the_bits(task, config, inside, all_cores):
    runs = [mslab.train(config(task, data_workers=n), name=f"with{n}").run for n in (1, 2)]
    assert bits(runs[0]) == bits(runs[1])


@EACH
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(task, config, inside):
    whole = mslab.train(config(task, epochs=3), name="whole").run
    with stopped_after(1):
        mslab.train(config(task, epochs=3), name="part")
    part = newest("part-*")
    assert len(history(part)) == 1
    assert bits(start.resume(part).run) == bits(whole)


@EACH
def test_a_backbone_of_classes_is_transferred_exactly_and_stays_while_it_is_frozen(task, config, squares, inside):
    classes = Path(mslab.train(settings(squares / "three", 3, epochs=1), name="classes").run)
    file = classes / "checkpoints" / "best_backbone.ckpt"
    run = mslab.transfer(config(task, freeze="all"), file, name="frozen").run
    noun = {"keypoints": "key points", "multilabel": "tags"}.get(task, "classes")
    assert f"; head: new ({NAMES[task]} {noun})" in (Path(run) / "train.log").read_text()
    before, after = checkpoint.read(file).backbone, tensors(run)
    assert {name for name in after if name in before} == set(before)
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values, err_msg=name)
    run = mslab.transfer(config(task, layers_to_freeze=1, unfreeze={2: "stem"}), file, name="stem").run
    assert any((tensors(run)[name] != before[name]).any() for name in before)


@EACH
def test_a_network_is_trained_further(task, config, inside):
    first = Path(mslab.train(config(task, epochs=1), name="first").run)
    second = Path(
        start.incremental(config(task, epochs=1, lr_init=1e-9, lr_max=1e-9, lr_end=0), first, name="second").run
    )
    before, after = tensors(first), tensors(second)
    for name in before:
        if not name.endswith(("moving_mean", "moving_variance")):
            np.testing.assert_allclose(after[name], before[name], atol=1e-6, err_msg=name)


@EACH
def test_the_manifest_of_a_run_can_be_read(task, config, inside):
    run = mslab.train(config(task, epochs=1)).run
    assert MEASURES[task] in manifests.load(Path(run))["metrics"]["constant"]
