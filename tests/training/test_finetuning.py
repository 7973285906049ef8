"""Transfer: the right weights in the right places, frozen if they should be, and clear messages otherwise."""

from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from helpers import STAGES, draw, log, manifest

import mslab
from mslab import checkpoint, files, model
from mslab.config import load_settings
from mslab.config.resolve import Machine, resolve
from mslab.errors import CheckpointError, DatasetError
from mslab.training import finetuning, freezing


def backbone_of(run):
    return checkpoint.read(Path(run) / "checkpoints" / "best_backbone.ckpt").tensors


def test_a_fresh_head_on_the_saved_backbone(parent, inside, two, caplog, capfd):
    result = mslab.transfer(two | {"epochs": 1}, backbone=parent / "checkpoints" / "best_backbone.ckpt")
    file = parent / "checkpoints" / "best_backbone.ckpt"
    recorded = manifest(result.run)
    assert recorded["kind"] == "transfer" and recorded["parent"]["sha256"] == files.sha256(file)
    text = log(result.run)
    assert f"backbone: 45 of 45 tensors from {file}; head: new (2 classes)" in text and "frozen: none" in text
    before, after = backbone_of(parent), backbone_of(result.run)
    assert not np.array_equal(before["conv1.weight"], after["conv1.weight"])
    assert mslab.load_network(result.run).class_names == ["left", "right"]


def test_frozen_means_that_nothing_in_the_backbone_moves(parent, inside, two):
    """Also if images and not their features are fed, through BatchNorm in the backbone."""
    for views in (1, 0):
        run = Path(mslab.transfer(two | {"freeze": "all", "feature_views": views}, backbone=parent).run)
        before, after = backbone_of(parent), backbone_of(run)
        assert all(np.array_equal(before[name], after[name]) for name in before)  # BatchNorm's statistics too
        last = checkpoint.read(run / "checkpoints" / "last.ckpt")
        assert all(np.array_equal(before[name], last.backbone[name]) for name in before)
        head = last.head["classifier.weight"]
        assert head.shape == (2, 32) and np.abs(last.head["classifier.bias"]).max() > 0  # which begins at 0


def test_requires_grad_alone_would_let_batchnorm_move(two):
    ms.set_context(mode=ms.PYNATIVE_MODE)  # a compiled network has the flags that it was compiled with
    network = model.ResNet50(model.resnet50_backbone(STAGES), model.resnet50_head(2, 32))
    for parameter in network.backbone.get_parameters():
        parameter.requires_grad = False
    x = ms.Tensor(np.random.default_rng(0).normal(3, 1, (8, 3, 32, 32)).astype(np.float32))
    mean = network.backbone.bn1.moving_mean
    network.set_train()  # the guard is freezing.apply, which excludes the backbone again
    network(x)
    moved = mean.asnumpy().copy()
    assert np.abs(moved).max() > 0
    names = [parameter.name for parameter in network.get_parameters()]
    freezing.apply(network, freezing.frozen(names, load_settings(two | {"freeze": "all"})))
    network(x)
    assert np.array_equal(mean.asnumpy(), moved)


def test_the_backbones_own_normalisation_is_used_and_reported(parent, inside, two):
    result = mslab.transfer(two | {"epochs": 1, "mean": [0.5, 0.5, 0.5], "image_size": 48}, backbone=parent)
    config = load_settings(Path(result.run) / "config.yaml")
    assert config.mean == [0.485, 0.456, 0.406] and config.image_size == 48
    text = log(result.run)
    assert "mean: the backbone was trained with [0.485, 0.456, 0.406]; this replaces the config's [0.5" in text
    assert "the backbone was trained on 32 pixels, this run on 48" in text
    assert checkpoint.read(Path(result.run) / "checkpoints" / "best.ckpt").info["mean"] == [0.485, 0.456, 0.406]


def test_a_complete_network_is_used_and_reported(parent, inside, two):
    complete = parent / "checkpoints" / "best.ckpt"
    run = mslab.transfer(two | {"epochs": 1, "warmup_epochs": 0}, backbone=complete).run
    assert "is a complete network (3 classes): its head is left out" in log(run)


def test_the_labs_prefixed_file_and_a_plain_one_work(parent, inside, two):
    entries = [{"name": f"backbone.{name}", "data": ms.Tensor(value)} for name, value in backbone_of(parent).items()]
    ms.save_checkpoint(entries, "lab.ckpt")
    weights = finetuning.read_backbone("lab.ckpt")
    config, notes = resolve(load_settings(two), 100, weights, Machine("cpu", 2))
    assert notes == [] and config.stages == STAGES  # from names and shapes
    backbone = model.resnet50_backbone(config.stages, config.network_profile())
    text = checkpoint.load_exactly(backbone.parameters_dict(), weights.backbone, weights.path, "backbone")
    assert text == "backbone: 45 of 45 tensors from lab.ckpt"


def test_another_stage_table_than_the_files_is_refused(parent, inside, two):
    with pytest.raises(CheckpointError) as caught:
        mslab.transfer(two | {"stages": [[1, 8, 1]]}, backbone=parent)
    assert "was trained with stages [[1, 8, 1], [1, 8, 2]], the config sets [[1, 8, 1]]" in str(caught.value)
    assert "stages=null" in str(caught.value) and not (inside / "runs").exists()


def test_files_that_are_no_backbone(parent, inside, two):
    with pytest.raises(CheckpointError, match=r"There is no file nowhere.ckpt"):
        mslab.transfer(two, backbone="nowhere.ckpt")
    ms.save_checkpoint([{"name": "classifier.weight", "data": ms.Tensor(np.zeros((2, 4), np.float32))}], "head.ckpt")
    with pytest.raises(CheckpointError, match="has no backbone: 1 head"):
        mslab.transfer(two, backbone="head.ckpt")
    Path("text.ckpt").write_text("no weights")
    with pytest.raises(CheckpointError, match=r"text\.ckpt is a text file"):
        mslab.transfer(two, backbone="text.ckpt")
    ms.save_checkpoint([{"name": "features.0.weight", "data": ms.Tensor(np.zeros(3, np.float32))}], "other.ckpt")
    with pytest.raises(
        CheckpointError, match=r"other\.ckpt does not contain a ResNet: it has 1 tensors, such as features\.0\.weight"
    ):
        mslab.transfer(two | {"stages": None}, backbone="other.ckpt")


def test_a_backbone_alone_cannot_be_evaluated(parent, squares):
    with pytest.raises(CheckpointError, match="is a backbone without a head"):
        mslab.evaluate(parent / "checkpoints" / "best_backbone.ckpt", squares / "three" / "val")


def test_three_folders_in_a_two_class_set(parent, inside, two, squares):
    draw(inside / "train", ["left", "right", "up"], 2)
    with pytest.raises(DatasetError) as caught:
        mslab.transfer(two | {"train_data": "train"}, backbone=parent)
    text = str(caught.value)
    assert "has 3 class folders (left, right, up), class_num is 2" in text and "class-extra" not in text
    assert "expected" in text and "fix" in text
