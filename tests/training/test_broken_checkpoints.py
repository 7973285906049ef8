"""Weights that are not finite are refused before any of them is assigned."""

import numpy as np
import pytest
from helpers import STAGES

from mslab import checkpoint, model
from mslab.errors import CheckpointError


def test_weights_that_are_not_finite_leave_the_network_unchanged(tmp_path):
    network = model.ResNet50(model.resnet50_backbone(STAGES), model.resnet50_head(3, 32))
    before = {name: p.asnumpy().copy() for name, p in network.parameters_dict().items()}
    checkpoint.save(list(network.get_parameters()), tmp_path / "x.ckpt", {"class_names": ["a", "b", "c"]})
    weights = checkpoint.read(tmp_path / "x.ckpt")
    tensors = {name: value.copy() for name, value in weights.tensors.items()}
    tensors["conv1.weight"] += 1  # a finite tensor that would be assigned first
    tensors["layer2.0.conv2.weight"][0, 0, 0, 0] = np.nan
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_exactly(network.parameters_dict(), tensors, tmp_path / "x.ckpt", "network")
    assert "not finite" in str(caught.value) and "layer2.0.conv2.weight contains NaN or infinity" in str(caught.value)
    assert "from before the loss diverged" in str(caught.value)
    assert all(np.array_equal(before[name], p.asnumpy()) for name, p in network.parameters_dict().items())
