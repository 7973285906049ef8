"""Compare a network with stacked small maps with the same network without them."""

import mindspore as ms
import numpy as np
from mindspore import nn

from mslab import cpu_layout, model

TABLE = [[2, 8, 1], [2, 8, 2], [1, 8, 2]]
CASES = [  # batch, image size, cores, stages that are stacked, profile
    (8, 32, 2, 2, {}),
    (6, 40, 4, 2, {"block": "basic"}),
    (4, 28, 3, 3, {"padding": "same", "pool": "same"}),
    (8, 112, 2, 1, {}),
    (6, 8, 2, 3, {}),  # maps of 2, 1 and 1 pixels
    (9, 12, 2, 3, {}),  # of 3, 2 and 1; 9 images for 2 cores
    (9, 12, 3, 3, {"padding": "same"}),
    (6, 52, 2, 2, {"block": "basic", "padding": "same"}),  # of 13, 7 and 4: stride 2 on an odd size
    (6, 32, 4, 2, {"padding": "same", "block": "basic"}),
]


def build(profile: dict, stacked: tuple[int, set[int], int] | None):
    """(network, how many of its stages are stacked)."""
    ms.set_seed(3)
    backbone = model.resnet50_backbone(TABLE, profile)
    network = model.ResNet50(backbone, model.resnet50_head(3, backbone.channels))
    for _, cell in network.cells_and_names():
        if isinstance(cell, nn.BatchNorm2d):
            cell.gamma.set_data(ms.ops.ones_like(cell.gamma))  # otherwise a block's last gamma is zero
    if stacked:
        cpu_layout.replace_pool(backbone)
    count = cpu_layout.stack_small_maps(backbone, *stacked) if stacked else 0
    return network, count


class Weighted(nn.Cell):
    """A scalar in which every logit has another weight."""

    def __init__(self, network: nn.Cell, weights: ms.Tensor) -> None:
        super().__init__(auto_prefix=False)
        self.network, self.weights = network, weights

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return (self.network(x) * self.weights).sum()


def check_stacked(batch: int, size: int, cores: int, stages: int, profile: dict) -> None:
    """Compare names, values, gradients and statistics of the stacked network with those of the plain one."""
    plain, _ = build(profile, None)
    stacked, count = build(profile, (batch, {size}, cores))
    assert count == stages
    assert [p.name for p in stacked.get_parameters()] == [p.name for p in plain.get_parameters()]
    rng = np.random.default_rng(0)
    x = ms.Tensor(rng.normal(size=(batch, 3, size, size)), ms.float32)
    w = ms.Tensor(rng.normal(size=(batch, 3)), ms.float32)
    results = []
    for network in (plain, stacked):
        network.set_train()
        value, gradients = ms.value_and_grad(Weighted(network, w), None, list(network.trainable_params()))(x)
        after = network.set_train(False)(x).asnumpy()
        statistics = [p.asnumpy() for p in network.get_parameters() if "moving" in p.name]
        results.append([value.asnumpy(), after, *[g.asnumpy() for g in gradients], *statistics])
    for expected, actual in zip(*results, strict=True):
        assert np.allclose(expected, actual, rtol=1e-3, atol=1e-4 * max(1.0, float(np.abs(expected).max())))
