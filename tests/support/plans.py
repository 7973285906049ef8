"""Checkpoints with any stage table, as lone files, for the tests of mslab export."""

from pathlib import Path

import mindspore as ms
import numpy as np

from mslab import checkpoint, model

SIZE = 40  # sizes at the strides are even, 40, 20, 10: there "same" and symmetric padding differ
STAGES = [[1, 8, 1], [2, 8, 2]]


def write_checkpoint(path: Path, stages=STAGES, size=SIZE, hidden=0, seed=0, **profile) -> Path:
    """Write a network with these stages, in which every vector differs from its initial value."""
    rng = np.random.default_rng(seed)
    backbone = model.resnet50_backbone(stages, profile)
    network = model.ResNet50(backbone, model.resnet50_head(3, backbone.channels, hidden))
    for parameter in network.get_parameters():
        if len(parameter.shape) == 1:
            parameter.set_data(ms.Tensor(rng.uniform(0.5, 1.5, parameter.shape).astype(np.float32)))
    info = {"class_names": ["a", "ü", "c"], "image_size": size, "resize_size": size + 3, "stages": stages}
    info |= {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25], "profile": model.PROFILE | profile}
    checkpoint.save(list(network.get_parameters()), path, info)
    return path
