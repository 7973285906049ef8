"""Variants of the network: small stem, wider head, dropout; from settings to checkpoint and back."""

import json
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from helpers import STAGES, log, newest, settings, stopped_after
from trainings import wider_head

import mslab
from mslab import checkpoint, model
from mslab.checkpoint import converting
from mslab.errors import CheckpointError, ConfigError
from mslab.evaluation import measuring
from mslab.runtime import devices
from mslab.training import freezing, start


@pytest.fixture(scope="module")
def wider(squares, finished):
    """A finished run of that network. Do not change it."""
    return finished(wider_head(squares)).run


@pytest.fixture(autouse=True)
def device():
    devices.start("cpu", "pynative", 1)


def test_shapes_and_names():
    small = model.resnet50_backbone(STAGES, {"stem": "small"})
    x = ms.Tensor(np.zeros((2, 3, 16, 16), np.float32))
    assert small.conv1.weight.shape == (64, 3, 3, 3) and small.pool is None
    assert small.relu(small.bn1(small.conv1(x))).shape == (2, 64, 16, 16)
    assert small(x).shape == (2, 32, 8, 8)  # one of two stages halves it; the standard stem divides by four
    assert model.resnet50_backbone(STAGES)(x).shape == (2, 32, 2, 2)
    head = model.resnet50_head(3, 32, 12, 0.25)
    assert {name: p.shape for name, p in head.parameters_dict().items()} == {
        "hidden.weight": (12, 32),
        "hidden.bias": (12,),
        "classifier.weight": (3, 12),
        "classifier.bias": (3,),
    }


def test_a_wider_head_by_hand():
    head = model.resnet50_head(3, 8, 5, 0.5)
    head.set_train(False)
    x = np.random.default_rng(0).normal(size=(4, 8, 2, 2)).astype(np.float32)
    w = {name: p.asnumpy() for name, p in head.parameters_dict().items()}
    hidden = np.maximum(x.mean((2, 3)) @ w["hidden.weight"].T + w["hidden.bias"], 0)
    expected = hidden @ w["classifier.weight"].T + w["classifier.bias"]
    np.testing.assert_allclose(head(ms.Tensor(x)).asnumpy(), expected, atol=1e-5)


def test_dropout_is_active_in_training_only():
    head = model.resnet50_head(3, 8, 0, 0.5)
    x = ms.Tensor(np.ones((4, 8, 2, 2), np.float32))
    head.set_train(False)
    assert np.array_equal(head(x).asnumpy(), head(x).asnumpy())
    head.set_train(True)
    assert not np.array_equal(head(x).asnumpy(), head(x).asnumpy())


def test_a_checkpoint_rebuilds_its_network(wider, squares):
    loaded = mslab.load_network(wider)
    assert loaded.info["profile"]["stem"] == "small" and loaded.network.head.hidden is not None
    written = json.loads((wider / "eval.json").read_text())
    result = measuring.evaluate(wider, squares / "three" / "val")
    assert result["accuracy"] == written["accuracy"] and result["loss"] == pytest.approx(written["loss"], abs=1e-5)


def test_a_transfer_inherits_the_stem_and_has_its_own_head(wider, squares, inside):
    config = settings(squares / "two", 2, epochs=1, image_size=16, freeze="all")
    run = mslab.transfer(config, backbone=wider)
    weights = checkpoint.read(Path(run.run) / "checkpoints" / "best.ckpt")
    assert weights.profile["stem"] == "small" and weights.hidden == 0
    assert np.array_equal(
        weights.backbone["conv1.weight"],
        checkpoint.read(wider / "checkpoints" / "best_backbone.ckpt").backbone["conv1.weight"],
    )
    with pytest.raises(CheckpointError, match="was trained with stem small, the config sets imagenet"):
        mslab.transfer(config | {"stem": "imagenet"}, backbone=wider)


def test_a_new_wider_head_cannot_be_frozen(wider, squares, inside):
    config = settings(squares / "two", 2, epochs=1, image_size=16, head_hidden=4, freeze_layer_pattern=r"^hidden\.")
    with pytest.raises(ConfigError, match="head would be frozen at random weights: the head is new"):
        mslab.transfer(config, backbone=wider)
    assert freezing.part_of("hidden.weight") == "head"


def test_incremental_training_needs_the_same_head(wider, squares, inside):
    config = settings(squares / "three", 3, epochs=1, image_size=16, warmup_epochs=0, lr_init=0, lr_max=1e-12)
    with pytest.raises(CheckpointError, match="has a head with head_hidden: 12, the config sets 0"):
        start.incremental(config, wider)
    run = start.incremental(config | {"head_hidden": 12, "batch_size": 8}, wider)
    old = checkpoint.read(wider / "checkpoints" / "best.ckpt").head
    new = checkpoint.read(Path(run.run) / "checkpoints" / "last.ckpt").head
    for name in old:
        np.testing.assert_allclose(new[name], old[name], atol=1e-7, err_msg=name)


def test_conversion_to_torchvisions_names_reports_what_torchvision_lacks(wider, inside):
    lines = converting.convert(wider / "checkpoints" / "best.ckpt", "x.safetensors")
    assert "stem: small, head_hidden: 12; torchvision's is not" in lines[-1]
    back = checkpoint.read("x.safetensors")
    assert back.hidden == 12 and back.profile["stem"] == "small"
    converting.convert("x.safetensors", "y.ckpt")
    again, first = checkpoint.read("y.ckpt").tensors, checkpoint.read(wider / "checkpoints" / "best.ckpt").tensors
    assert set(again) == set(first) and all(np.array_equal(again[name], first[name]) for name in first)


def test_a_resume_reports_that_dropout_draws_again(inside, squares):
    """On a CPU dropout draws from a stream that starts with the process and can be neither read nor set."""
    config = settings(squares / "three", 3, epochs=2, image_size=16, dropout=0.5, stages=STAGES[:1])
    with stopped_after(1):
        mslab.train(config)
    run = newest()
    start.resume(run)
    assert "note: dropout now leaves out other features" in log(run)
    uninterrupted = Path(mslab.train(config).run)
    last = [checkpoint.read(p / "checkpoints" / "last.ckpt").tensors["classifier.weight"] for p in (run, uninterrupted)]
    assert not np.array_equal(*last), "once they are equal, the note can go"
