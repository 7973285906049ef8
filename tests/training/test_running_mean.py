"""ema_decay: evaluation uses the running mean, training continues with the weights."""

import mindspore as ms
import numpy as np
import pytest
from helpers import STAGES

from mslab import model
from mslab.check import check_dataset
from mslab.config import load_settings
from mslab.data import batching, sources
from mslab.runtime import devices
from mslab.training import learning_rates, losses
from mslab.training.trainer import Trainer


@pytest.fixture
def trainer(three):
    """A trainer after one epoch of training, so that the mean differs from the weights."""
    config = load_settings(three | {"ema_decay": 0.5, "warmup_epochs": 0})
    devices.start("cpu", "pynative", 1)
    report = check_dataset(config.train_data, config.val_data)
    train, val = (sources.images_of(report, name) for name in ("train", "val"))
    backbone = model.resnet50_backbone(STAGES)
    network = model.ResNet50(backbone, model.resnet50_head(3, backbone.channels))
    steps = batching.steps_per_epoch(train, config.batch_size)
    criterion = losses.build(config, np.bincount(train.labels))
    feed = batching.ImageFeed(train, val, config)
    trainer = Trainer(network, network, feed, learning_rates.rates_of(config, steps), criterion, config)
    trainer.begin_epoch(0, [])
    for images, labels in trainer.batches(0):
        trainer.step(ms.Tensor(images), ms.Tensor(labels))
    return trainer


def values(parameters):
    return {name: parameter.asnumpy().copy() for name, parameter in parameters.items()}


def equal(first, second):
    return [name for name in second if not np.array_equal(first[name], second[name])] == []


@pytest.mark.parametrize("stopped", [False, True])
def test_the_network_has_the_mean_during_evaluation_and_the_weights_afterwards(trainer, stopped):
    weights, means = values(trainer.network.parameters_dict()), values(trainer.averages())
    assert {"conv1.weight", "classifier.weight"} <= set(means) <= set(weights) and not equal(weights, means)
    try:
        with trainer.ema_weights():
            assert equal(values(trainer.network.parameters_dict()), means)
            if stopped:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert stopped
    assert equal(values(trainer.network.parameters_dict()), weights)
    assert equal(values(trainer.averages()), means)
