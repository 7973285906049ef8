"""A small network of mindcv: trained, resumed, evaluated, transferred, and taken from its published file by name."""

import hashlib
import json
import shutil
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from helpers import cli, draw, history, log, manifest, settings
from mirrors import Mirror, mirror, use_table

import mslab
from mslab import checkpoint, weights
from mslab.checkpoint import networks
from mslab.config import load_settings
from mslab.errors import ConfigError
from mslab.evaluation import models
from mslab.report import validation
from mslab.runs import finding
from mslab.runs.folder import RunFolder
from mslab.runtime import devices
from mslab.training import start
from mslab.weights import mindcv

NETWORK = "mindcv:mobilenet_v2_035_96"  # 52 convolutions, 0.4 million weights
assert mirror  # a fixture


@pytest.fixture(scope="module")
def small(once) -> Path:
    """two/{train,val} with classes left, right: one batch each."""

    def make(root: Path) -> None:
        for seed, part in enumerate(("train", "val")):
            draw(root / "two" / part, ["left", "right"], 4, seed)

    return once("eight-images", make)


def config(small: Path, **more: object) -> dict:
    return settings(small / "two", 2, epochs=1, warmup_epochs=0, stages=None, **more)


def test_it_trains_resumes_is_evaluated_and_transferred(small, inside):
    stopped = mslab.train(config(small, network=NETWORK) | {"epochs": 2, "max_training_time": 1e-6}).run
    assert len(history(stopped)) == 1
    run = Path(start.resume(stopped, overrides=["max_training_time=null"]).run)
    assert len(history(run)) == 2
    alone = shutil.copy(run / "checkpoints/best.ckpt", "x.ckpt")
    result = mslab.evaluate(alone, small / "two" / "val")
    assert abs(result["accuracy"] - max(float(row["val_acc"]) for row in history(run))) < 1e-6
    child = Path(mslab.transfer(config(small, layers_to_freeze=2, network=NETWORK), backbone=run).run)
    assert RunFolder.read(child).manifest["parent"]["network"] == NETWORK  # as the config says
    trained = models.open_weights(child, "cpu")
    before = validation.before_transfer(manifest(child)["parent"], trained, "cpu")  # for the report's map of features
    for name, value in checkpoint.read(run / "checkpoints/best_backbone.ckpt").backbone.items():
        assert before.weights.backbone[name].tobytes() == value.tobytes()
    assert before.weights.head.keys() == trained.weights.head.keys() and before.weights.network.title == NETWORK


@pytest.fixture
def published(mirror: Mirror, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mirror:
    """A server that has the file of NETWORK with 1000 classes and random weights, as mindcv would publish it."""
    from mindcv.models import create_model

    devices.start("cpu", "pynative", 1)
    theirs = create_model(NETWORK.removeprefix("mindcv:"), num_classes=1000)
    ms.save_checkpoint(theirs, str(tmp_path / "x.ckpt"))
    mirror.content = (tmp_path / "x.ckpt").read_bytes()
    mirror.theirs = theirs.set_train(False)
    digits = hashlib.sha256(mirror.content).hexdigest()[:8]
    monkeypatch.setattr(mindcv, "ROWS", f"\nmobilenet_v2_035_96 mobilenet/mobile-{digits}.ckpt 50 96/110 bilinear\n")
    use_table(monkeypatch, "")
    return mirror


def test_published_weights_of_a_network_by_name(published, small, inside):
    """The file's name is not the network's, as that of skresnet18 is not: the table says whose it is."""
    result = mslab.transfer(config(small, freeze="all", mean=[0.5, 0.5, 0.5]), backbone=NETWORK)
    run, text = Path(result.run), log(result.run)
    parent = manifest(run)["parent"]
    assert (parent["published"], parent["sha256"]) == (NETWORK, hashlib.sha256(published.content).hexdigest())
    own = load_settings(run / "config.yaml")
    assert (own.network, own.mean) == (NETWORK, [0.485, 0.456, 0.406])
    assert f"{NETWORK}, 1000 classes; published as {NETWORK}: top-1 50.000 % at 96 of 110 pixels" in text
    assert f"note: {NETWORK} was measured on 96 pixels; this run has image_size: 32" in text
    assert json.loads(cli("runs", "--json", "-").stdout)["runs"][0]["parent"] == NETWORK
    read = checkpoint.read(finding.find_network(NETWORK))
    assert (read.info["image_size"], read.info["resize_size"]) == (96, 110)
    x = ms.Tensor(np.random.default_rng(0).normal(size=(2, 3, 96, 96)).astype(np.float32))
    logits = mslab.load_network(weights.obtain(NETWORK)).network(x).asnumpy()
    np.testing.assert_allclose(logits, published.theirs(x).asnumpy(), atol=1e-4)
    assert len(published.requests) == 1


def test_a_worker_that_may_start_no_process_says_the_same(monkeypatch):
    monkeypatch.setattr(networks, "may_start_processes", False)
    with pytest.raises(ConfigError) as refused:
        networks.MindcvNetwork("mindcv:rexnet_09").facts()
    assert "network: mindcv:rexnet_09 cannot be built: RuntimeError: The Tensor" in refused.value.what
    assert refused.value.expected == "a network of mindcv that has one last layer"
    assert refused.value.fix == "use another network, such as network=mindcv:mobilenet_v2_100"
