"""`mslab export`: a network whose logits are NaN."""

import mindspore as ms
import numpy as np
import pytest
from helpers import STAGES

from mslab import checkpoint, model
from mslab.errors import CheckpointError
from mslab.evaluation import measuring
from mslab.inference import export


def test_a_graph_with_nan_logits_gets_no_name(inside):
    """Every weight is finite, but the head computes infinity minus infinity, in the network and in the graph."""
    backbone = model.resnet50_backbone(STAGES)
    network = model.ResNet50(backbone, model.resnet50_head(2, backbone.channels))
    head = network.head.classifier.weight
    values = np.where(np.arange(head.shape[1]) % 2, 3e38, -3e38)
    head.set_data(ms.Tensor(np.broadcast_to(values, head.shape), ms.float32))
    network.backbone.bn1.gamma.set_data(ms.Tensor(np.full(network.backbone.bn1.gamma.shape, 1e3), ms.float32))
    info = {"class_names": ["a", "b"], "image_size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
    info |= {"stages": STAGES, "profile": dict(model.PROFILE)}
    checkpoint.save(list(network.get_parameters()), inside / "x.ckpt", info)
    x = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32)
    assert np.isnan(measuring.load_network("x.ckpt").network(ms.Tensor(x)).asnumpy()).any()
    with pytest.raises(CheckpointError) as caught:
        export.export_run("x.ckpt", "onnx")
    assert "The graph for x.onnx does not reproduce x.ckpt" in str(caught.value)
    assert "logits differ by at most nan" in str(caught.value)
    assert [path.name for path in inside.iterdir()] == ["x.ckpt"]
