"""Settings that lower the rate of a run: in PYNATIVE mode in quick tests, in graph mode in slow ones."""

from pathlib import Path

import mindspore as ms
import numpy as np
from helpers import manifest
from mindspore import nn

import mslab
from mslab import checkpoint
from mslab.training.train_step import TrainStep

SLOW = {"lr_init": 1e-7, "lr_max": 1e-7}  # nothing is learned: no evaluation is better than the first
SMALL = {"stages": [[1, 8, 1]], "image_size": 16}


def last(run):
    return checkpoint.read(Path(run) / "checkpoints" / "last.ckpt").tensors


def loss_becomes(value, step, monkeypatch):
    """Replace the loss of this step, counted from 1 over all epochs, once."""
    call, steps = nn.Cell.__call__, iter(range(1, 10_000))

    def replaced(self, images, labels):
        loss, logits = call(self, images, labels)
        return (ms.Tensor(np.float32(value)) if next(steps) == step else loss), logits

    monkeypatch.setattr(TrainStep, "__call__", replaced)


def plateau_changes(base):
    """Compare two runs that differ in how far plateau lowers the rate."""
    config = base | {"epochs": 3, "lr_scheduler": "plateau", "plateau_patience": 1, "warmup_epochs": 0}
    config |= {"optimizer": "sgd", "lr_max": 1e-7, "weight_decay": 0.0}
    first, second = (last(mslab.train(config | {"lr_scheduler_factor": factor}).run) for factor in (0.9, 1e-6))
    assert not np.array_equal(first["conv1.weight"], second["conv1.weight"])


def begins_exactly(base, monkeypatch):
    """Compare a rollback with a run whose schedule has a tenth of the rate from that epoch on."""
    common = base | {"epochs": 2, "on_nan": "rollback", "optimizer": "adam", "ema_decay": 0.5}
    expected = last(mslab.train(common | {"learning_rate_strategy": "1:0.01,2:0.001"}).run)
    loss_becomes("inf", 10, monkeypatch)
    run = mslab.train(common | {"learning_rate_strategy": "2:0.01"}).run
    assert manifest(run)["rollbacks"] and set(last(run)) == set(expected)
    for name, value in last(run).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-7, err_msg=name)
