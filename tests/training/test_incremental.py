"""Incremental training: the whole network goes on, with the head's rows of known classes kept by name."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import draw, figures, log, manifest, newest, settings, weights

import mslab
from mslab import checkpoint
from mslab.errors import CheckpointError, ConfigError, RunError
from mslab.training import start


@pytest.fixture
def four(tmp_path):
    """Four classes, of which b and c were known: they have moved to other indices."""
    for seed, split in enumerate(("train", "val")):
        draw(tmp_path / "four" / split, ["aa", "ab", "b", "c"], 8, seed + 40)
    return settings(tmp_path / "four", 4, epochs=1, warmup_epochs=0, lr_max=1e-12, lr_init=0)


def head(run, file="last.ckpt"):
    return checkpoint.read(Path(run) / "checkpoints" / file).head


def test_rows_of_known_classes_are_kept_by_name(parent, four, inside):
    """With next to no learning rate the rows can be compared."""
    result = start.incremental(four, parent)
    old, new = head(parent, "best.ckpt")["classifier.weight"], head(result.run)["classifier.weight"]
    assert np.allclose(new[2], old[1]) and np.allclose(new[3], old[2])  # b and c
    assert not np.allclose(new[0], old[0]) and not np.allclose(new[1], old[1])
    assert "head: 2 of 4 classes reused by name; new: aa, ab; left out: a" in log(result.run)
    told = manifest(result.run)
    assert told["kind"] == "incremental" and told["class_names"] == ["aa", "ab", "b", "c"]
    assert told["parent"]["sha256"] == checkpoint.sha256(parent / "checkpoints" / "best.ckpt")


def test_the_same_classes_with_more_images_start_where_it_stood(parent, squares, inside):
    config = settings(squares / "three", 3, epochs=1, warmup_epochs=0, lr_max=1e-12, lr_init=0)
    result = start.incremental(config, parent)
    assert "head: 3 of 3 classes reused by name" in log(result.run)
    assert np.allclose(head(result.run)["classifier.weight"], head(parent, "best.ckpt")["classifier.weight"])


def test_what_it_cannot_go_on_from(parent, four, inside):
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
    with pytest.raises(CheckpointError, match=r"'\(\(' is no regular expression"):
        mslab.transfer(config, backbone=parent, only="((")
    with pytest.raises(ConfigError, match=r"layer2 would be frozen at random weights: --only"):
        mslab.transfer(config | {"freeze": "all"}, backbone=parent, only=r"^(conv1|bn1|layer1)\.")
    with pytest.raises(ConfigError, match=r"head would be frozen at random weights: the head is new"):
        mslab.transfer(config | {"freeze_layer_pattern": "classifier"}, backbone=parent)
    assert len(list((inside / "runs").iterdir())) == 1  # no folder of a run that could not begin


@pytest.fixture
def stopped_at_once(parent, four, inside, monkeypatch):
    """A run of that kind that ended before its first epoch, its parent, and the whole run where it is wanted."""

    def stop(*_):
        raise KeyboardInterrupt

    def begin(kind, whole=True):
        copy = Path(shutil.copytree(parent, inside / "parent"))
        work = start.incremental if kind == "incremental" else start.transfer
        complete = work(four, copy, name="whole") if whole else None
        with monkeypatch.context() as patch:
            patch.setattr(start, "fit", stop)
            with pytest.raises(KeyboardInterrupt):
                work(four, copy, name="stopped")
        return newest("stopped-*"), copy, complete

    return begin


@pytest.mark.parametrize("kind", ["incremental", "transfer"])
def test_a_resume_before_the_first_epoch_begins_from_the_same_parent(kind, stopped_at_once):
    run, _, whole = stopped_at_once(kind)
    start.resume(run)
    assert weights(run, "last.ckpt") == weights(whole.run, "last.ckpt") and figures(run) == figures(whole.run)


def test_a_parent_that_is_gone_is_named(stopped_at_once):
    run, parent, _ = stopped_at_once("transfer", whole=False)
    (parent / "checkpoints" / "best_backbone.ckpt").unlink()
    with pytest.raises(RunError, match=r"which is missing \(looked up from"):
        start.resume(run)
