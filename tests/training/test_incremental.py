"""Incremental training: the complete network is trained further, with the head's rows reused by class name."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import draw, figures, log, manifest, newest, settings, weights

import mslab
from mslab import checkpoint, files
from mslab.errors import CheckpointError, ConfigError, RunError
from mslab.training import start


@pytest.fixture
def four(tmp_path):
    """Four classes, of which the parent has b and c, at other indices."""
    for seed, split in enumerate(("train", "val")):
        draw(tmp_path / "four" / split, ["aa", "ab", "b", "c"], 8, seed + 40)
    return settings(tmp_path / "four", 4, epochs=1, warmup_epochs=0, lr_max=1e-12, lr_init=0)


def head(run, file="last.ckpt"):
    return checkpoint.read(Path(run) / "checkpoints" / file).head


def test_rows_of_the_parents_classes_are_reused_by_name(parent, four, inside):
    """With almost no learning rate the rows can be compared."""
    result = start.incremental(four, parent)
    old, new = head(parent, "best.ckpt")["classifier.weight"], head(result.run)["classifier.weight"]
    assert np.allclose(new[2], old[1]) and np.allclose(new[3], old[2])  # b and c
    assert not np.allclose(new[0], old[0]) and not np.allclose(new[1], old[1])
    assert "head: 2 of 4 classes reused by name; new: aa, ab; left out: a" in log(result.run)
    recorded = manifest(result.run)
    assert recorded["kind"] == "incremental" and recorded["class_names"] == ["aa", "ab", "b", "c"]
    assert recorded["parent"]["sha256"] == files.sha256(parent / "checkpoints" / "best.ckpt")


def test_the_same_classes_with_more_images_start_from_the_parents_head(parent, squares, inside):
    config = settings(squares / "three", 3, epochs=1, warmup_epochs=0, lr_max=1e-12, lr_init=0)
    result = start.incremental(config, parent)
    assert "head: 3 of 3 classes reused by name" in log(result.run)
    assert np.allclose(head(result.run)["classifier.weight"], head(parent, "best.ckpt")["classifier.weight"])


def test_files_that_it_cannot_begin_from(parent, four, inside):
    with pytest.raises(CheckpointError, match="has no head, so no row of the head can be reused by name"):
        start.incremental(four, parent / "checkpoints" / "best_backbone.ckpt")
    weights = checkpoint.read(parent / "checkpoints" / "best.ckpt")
    checkpoint.save_arrays(weights.tensors, inside / "plain.ckpt", {})
    with pytest.raises(CheckpointError, match="has no class names"):
        start.incremental(four, inside / "plain.ckpt")


def test_partial_loading_is_explicit_and_listed(parent, squares, inside):
    config = settings(squares / "two", 2, epochs=1, warmup_epochs=0, lr_max=1e-12, lr_init=0)
    result = mslab.transfer(config, backbone=parent, only=r"^(conv1|bn1|layer1)\.")
    assert "backbone: 25 of 45 tensors from" in log(result.run) and "; fresh: 20 in layer2" in log(result.run)
    before = checkpoint.read(parent / "checkpoints" / "best_backbone.ckpt").backbone
    after = checkpoint.read(Path(result.run) / "checkpoints" / "last.ckpt").backbone
    assert np.allclose(after["layer1.0.conv2.weight"], before["layer1.0.conv2.weight"])
    assert not np.allclose(after["layer2.0.conv2.weight"], before["layer2.0.conv2.weight"])
    with pytest.raises(CheckpointError, match=r"'\^features' matches no parameter of the backbone"):
        mslab.transfer(config, backbone=parent, only="^features")
    with pytest.raises(CheckpointError, match=r"'\(\(' is not a regular expression"):
        mslab.transfer(config, backbone=parent, only="((")
    with pytest.raises(ConfigError, match=r"layer2 would be frozen at random weights: --only"):
        mslab.transfer(config | {"freeze": "all"}, backbone=parent, only=r"^(conv1|bn1|layer1)\.")
    with pytest.raises(ConfigError, match=r"head would be frozen at random weights: the head is new"):
        mslab.transfer(config | {"freeze_layer_pattern": "classifier"}, backbone=parent)
    assert len(list((inside / "runs").iterdir())) == 1  # no folder of a run that could not begin


@pytest.fixture
def stopped_at_once(parent, four, inside, monkeypatch):
    """A run of that kind that ended before its first epoch, its parent, and on request an uninterrupted run."""

    def stop(*_):
        raise KeyboardInterrupt

    def begin(kind, uninterrupted=True):
        copy = Path(shutil.copytree(parent, inside / "parent"))
        work = start.incremental if kind == "incremental" else start.transfer
        complete = work(four, copy, name="uninterrupted") if uninterrupted else None
        with monkeypatch.context() as patch:
            patch.setattr(start, "fit", stop)
            with pytest.raises(KeyboardInterrupt):
                work(four, copy, name="stopped")
        return newest("stopped-*"), copy, complete

    return begin


@pytest.mark.parametrize("kind", ["incremental", "transfer"])
def test_a_resume_before_the_first_epoch_begins_from_the_same_parent(kind, stopped_at_once):
    run, _, uninterrupted = stopped_at_once(kind)
    start.resume(run)
    assert weights(run, "last.ckpt") == weights(uninterrupted.run, "last.ckpt") and figures(run) == figures(
        uninterrupted.run
    )


def test_a_parent_that_is_gone_is_named(stopped_at_once):
    run, parent, _ = stopped_at_once("transfer", uninterrupted=False)
    (parent / "checkpoints" / "best_backbone.ckpt").unlink()
    with pytest.raises(RunError, match=r"which is missing \(looked up from"):
        start.resume(run)
