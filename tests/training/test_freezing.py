"""Freezing, unfreezing and lr_scale: exact from the first step to the last, and after a resume."""

import gc
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import figures, log, newest, settings, stopped_after, weights

import mslab
from mslab import checkpoint, model
from mslab.config import load_settings
from mslab.errors import ConfigError
from mslab.report.show import show_network
from mslab.training import freezing, start
from mslab.training.trainer import Trainer

TABLE = [[1, 8, 1], [1, 8, 2], [1, 8, 2]]


@pytest.fixture(scope="module")
def parent(squares, finished):
    """A finished run on three classes. Not to be changed."""
    return finished(settings(squares / "three", 3, epochs=1, stages=TABLE)).run


@pytest.fixture
def quick(squares):
    return settings(squares / "two", 2, stages=None, epochs=4, batch_size=16)


@pytest.fixture(scope="module")
def names():
    backbone = model.resnet50_backbone(TABLE)
    network = model.ResNet50(backbone, model.resnet50_head(2, backbone.channels))
    return [parameter.name for parameter in network.get_parameters()]


def moved(parent, run, file="last.ckpt"):
    """The parts of which a tensor differs from the parent's backbone."""
    before = checkpoint.read(parent / "checkpoints" / "best_backbone.ckpt").backbone
    after = checkpoint.read(Path(run) / "checkpoints" / file).backbone
    return {freezing.part_of(name) for name in before if not np.array_equal(before[name], after[name])}


def test_parts_and_groups(names, quick):
    assert freezing.part_of("conv1.weight") == freezing.part_of("bn1.gamma") == "stem"
    assert freezing.part_of("layer2.0.down_sample.1.moving_mean") == "layer2"
    assert freezing.part_of("classifier.bias") == "head"

    def parts(**options):
        frozen_names = freezing.frozen(names, load_settings(quick | options))
        return sorted({freezing.part_of(name) for name in frozen_names})

    assert parts() == [] and parts(freeze="all") == ["layer1", "layer2", "layer3", "stem"]
    assert parts(layers_to_freeze=2) == ["layer1", "stem"]  # Azure's count: (conv1, bn1) is the first group
    assert parts(freeze_layer_pattern=r"^(conv1|bn1|layer1)\.") == ["layer1", "stem"]
    assert parts(freeze_layer_pattern="^layer2") == ["layer2"]
    betas = freezing.frozen(names, load_settings(quick | {"freeze_layer_pattern": r"^bn1\.beta"}))
    assert betas == {"bn1.beta", "bn1.moving_mean", "bn1.moving_variance"}  # statistics are frozen with their weights
    configs = [load_settings(quick | options) for options in ({"freeze": "all"}, {"layers_to_freeze": 4})]
    assert all(freezing.is_frozen_throughout(names, config) for config in configs)
    assert not freezing.is_frozen_throughout(names, load_settings(quick | {"layers_to_freeze": 3}))
    assert not freezing.is_frozen_throughout(names, load_settings(quick | {"freeze": "all", "unfreeze": {4: "layer3"}}))


def test_unfreezing_by_epoch(names, quick):
    config = load_settings(quick | {"freeze": "all", "unfreeze": {3: "layer3", 4: "backbone"}})
    assert config.unfreeze == {"3": "layer3", "4": "backbone"}

    def parts(epoch):
        return {freezing.part_of(name) for name in freezing.frozen(names, config, epoch)}

    assert parts(0) == parts(1) == {"stem", "layer1", "layer2", "layer3"}  # epochs 1 and 2
    assert parts(2) == {"stem", "layer1", "layer2"} and parts(3) == set()


@pytest.mark.parametrize(
    "options,expected",
    [
        ({"layers_to_freeze": 2}, {"layer2", "layer3"}),
        ({"freeze": "all", "feature_views": 0}, set()),
        ({"freeze": "all", "unfreeze": {2: "layer3"}}, {"layer3"}),
    ],
)
def test_what_is_frozen_does_not_move_statistics_included(options, expected, parent, quick, inside):
    """Through evaluation after each epoch."""
    result = mslab.transfer(quick | options | {"epochs": 2}, backbone=parent)
    assert moved(parent, result.run) == expected


def test_a_pattern_on_single_parameters(parent, quick, inside):
    """Convolutions train; BatchNorm and its statistics are frozen."""
    result = mslab.transfer(quick | {"freeze_layer_pattern": r"(bn\d|down_sample\.1)\."}, backbone=parent)
    before = checkpoint.read(parent / "checkpoints" / "best_backbone.ckpt").backbone
    after = checkpoint.read(Path(result.run) / "checkpoints" / "last.ckpt").backbone
    for name in before:
        norm = re.search(r"(bn\d|down_sample\.1)\.", name)
        assert np.array_equal(before[name], after[name]) == bool(norm), name


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_unfreezing_is_exact_on_resume(stop, parent, quick, finished, inside):
    """Stopped before, at and after the epoch in which something is unfrozen."""
    config = quick | {"freeze": "all", "unfreeze": {3: "layer3"}, "lr_scale": {"backbone": 0.1}, "optimizer": "adam"}
    config |= {"lr_max": 0.01, "lr_init": 0.001}
    uninterrupted = finished(config, parent).run
    assert "epoch 3: 20 tensors unfrozen, 45 still frozen" in log(uninterrupted)
    assert moved(parent, uninterrupted) == {"layer3"}
    with stopped_after(stop):
        mslab.transfer(config, backbone=parent)
    start.resume(newest())
    assert weights(newest(), "last.ckpt") == weights(uninterrupted, "last.ckpt")
    assert figures(newest()) == figures(uninterrupted) and len(figures(uninterrupted)) == 4


def test_a_part_with_a_smaller_rate_moves_less(parent, quick, inside):
    options = {"epochs": 1, "warmup_epochs": 0, "lr_scale": {"backbone": 0.01, "layer1": 1.0}}
    result = mslab.transfer(quick | options, backbone=parent)
    before = checkpoint.read(parent / "checkpoints" / "best_backbone.ckpt").backbone
    after = checkpoint.read(Path(result.run) / "checkpoints" / "last.ckpt").backbone
    far = {n: float(np.abs(after[n] - before[n]).mean()) for n in before if n.endswith("down_sample.0.weight")}
    assert far["layer1.0.down_sample.0.weight"] > 10 * far["layer2.0.down_sample.0.weight"] > 0


@pytest.mark.parametrize(
    "options,text",
    [
        ({"freeze_layer_pattern": "^features"}, "'^features' matches none of conv1.weight"),
        ({"freeze_layer_pattern": "moving_"}, "'moving_' matches none of conv1.weight"),
        ({"freeze_layer_pattern": "."}, "matches everything: nothing would be trained"),
        ({"layers_to_freeze": 5}, "5: at most 4 are possible: stem, layer1, layer2, layer3"),
        ({"unfreeze": {2: "layer1"}}, "layer1 is not frozen: there is nothing to unfreeze"),
        ({"freeze": "all", "unfreeze": {2: "layer4"}}, "layer4: this network has stem, layer1, layer2, layer3, head"),
        ({"freeze": "all", "unfreeze": {9: "layer1"}}, "epoch 9 is never reached: epochs is 4"),
        ({"lr_scale": {"layer4": 0.1}}, "layer4: this network has"),
        (
            {"freeze": "all", "lr_scale": {"backbone": 0.1}},
            "no effect; leave it out, or write lr_scale: null",
        ),
    ],
)
def test_settings_that_do_not_fit_the_network(options, text, parent, quick, inside):
    with pytest.raises(ConfigError) as caught:
        mslab.transfer(quick | options, backbone=parent)
    assert text in str(caught.value) and "parts of this network: stem" in str(caught.value)
    assert not (inside / "runs").exists()
    with pytest.raises(ConfigError, match=re.escape(text)):
        show_network(quick | options | {"stages": TABLE})


@pytest.mark.parametrize("options", [{"freeze": "all"}, {"layers_to_freeze": 1}, {"freeze_layer_pattern": "bn"}])
def test_freezing_from_scratch_is_refused(options, quick, inside):
    with pytest.raises(
        ConfigError, match=f"{next(iter(options))}: .* in training from scratch would freeze random weights"
    ):
        mslab.train(quick | options)
    assert not (inside / "runs").exists()


def test_an_unfrozen_network_is_compiled_once_and_what_is_frozen_in_its_graphs_does_not_move(
    parent, quick, inside, monkeypatch
):
    """A cell that is collected removes MindSpore's record of its shapes; the step would be compiled once more."""
    compiled, batches = [], Trainer.batches

    def collecting(self, epoch):
        gc.collect()  # the step of the epochs before goes now, between compiling and the first call of the new one
        yield from batches(self, epoch)
        compiled.append(len(self.compiled.step.compile_cache))

    monkeypatch.setattr(Trainer, "batches", collecting)
    gc.disable()  # and not before
    try:
        result = mslab.transfer(
            quick | {"freeze": "all", "unfreeze": {2: "layer3"}, "mode": "graph", "epochs": 2}, backbone=parent
        )
    finally:
        gc.enable()
    assert compiled == [1, 1]
    assert moved(parent, result.run) == {"layer3"}
