"""The engines beside MindSpore: the same logits and features for every network, the same bits again, clear messages."""

import logging
import re
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from helpers import PROJECT
from plans import SIZE, write_checkpoint

from mslab import checkpoint, model
from mslab.checkpoint import dialects
from mslab.errors import CheckpointError, ConfigError, DeviceError
from mslab.evaluation import engines, measuring, models
from mslab.evaluation.engines import Engine
from mslab.inference import predicting
from mslab.runtime import devices

ENGINES = ["onnxruntime", "openvino"]
PROFILES = [
    {},
    {"padding": "same"},
    {"pool": "same"},
    {"stem": "small", "padding": "same"},
    {"block": "basic"},
    {"block": "basic", "padding": "same", "pool": "same"},
    {"eps": 1e-2, "outer_eps": 1e-1},
]
TABLES = [  # strides of 1 and 3, maps of odd sides, a single block, five stages
    [[1, 4, 1]],
    [[1, 4, 2], [2, 8, 3]],
    [[1, 4, 1], [1, 8, 2], [1, 8, 2], [1, 16, 2], [1, 16, 2]],
]
RESNETS = {18: ("basic", (2, 2, 2, 2)), 34: ("basic", (3, 4, 6, 3)), 101: ("bottleneck", (3, 4, 23, 3))}
RESNETS |= {152: ("bottleneck", (3, 8, 36, 3))}


def images(count: int, side: int = SIZE) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(count, 3, side, side)).astype(np.float32)


def compare(source: Path, engine: str, side: int) -> None:
    """Logits and features of five images, in batches of two, beside MindSpore's."""
    devices.start("cpu", "pynative", seed=1)
    weights, x = checkpoint.read(source), images(5, side)
    own = models.of_weights(weights, "cpu", engines.choose(engine), 2).runner
    network = measuring.load_network(source).network
    maps = network.backbone(ms.Tensor(x))
    expected = {"logits": network.head(maps).asnumpy(), "features": ms.ops.mean(maps, (2, 3)).asnumpy()}
    found = [own(x[start : start + 2]) for start in (0, 2, 4)]
    for name, values in expected.items():
        rows = np.concatenate([outputs[name] for outputs in found])
        assert rows.shape == values.shape and rows.dtype == np.float32
        assert np.abs(rows - values).max() <= 1e-5 * np.abs(values).max(), name


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_every_profile_has_the_logits_of_mindspore(profile, engine, inside):
    compare(write_checkpoint(inside / "x.ckpt", hidden=6 if "pool" in profile else 0, **profile), engine, SIZE)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("side", [33, 40])
@pytest.mark.parametrize("table", TABLES, ids=str)
def test_every_table_of_stages_has_the_logits_of_mindspore(table, side, engine, inside):
    compare(write_checkpoint(inside / "x.ckpt", table, side, padding="same"), engine, side)


def small(layers: int) -> list[list[int]]:
    """The table of a ResNet of so many layers with an eighth of the channels."""
    return [[blocks, 8 * 2**stage, 1 if stage == 0 else 2] for stage, blocks in enumerate(RESNETS[layers][1])]


@pytest.mark.parametrize("layers", RESNETS)
def test_resnets_of_18_to_152_layers(layers, inside):
    compare(write_checkpoint(inside / "x.ckpt", small(layers), 32, block=RESNETS[layers][0]), "onnxruntime", 32)
