"""A network with small maps folded, held against the same one without."""

import mindspore as ms
import numpy as np
from mindspore import nn

from mslab import cpu_layout, model

TABLE = [[2, 8, 1], [2, 8, 2], [1, 8, 2]]
CASES = [  # batch, image size, cores, stages that are folded, profile
    (8, 32, 2, 2, {}),
    (6, 40, 4, 2, {"block": "basic"}),
    (4, 28, 3, 3, {"padding": "same", "pool": "same"}),
    (8, 112, 2, 1, {}),
]


def build(profile: dict, folded: tuple[int, int, int] | None):
    """(network, how many of its stages are folded)."""
    ms.set_seed(3)
    backbone = model.resnet50_backbone(TABLE, profile)
    network = model.ResNet50(backbone, model.resnet50_head(3, backbone.channels))
    for _, cell in network.cells_and_names():
        if isinstance(cell, nn.BatchNorm2d):
            cell.gamma.set_data(ms.ops.ones_like(cell.gamma))  # a block's last gamma begins at zero
    count = cpu_layout.stack_small_maps(backbone, *folded) if folded else 0
    return network, count


class Weighted(nn.Cell):
    """A number in which every logit counts differently."""

    def __init__(self, network: nn.Cell, weights: ms.Tensor) -> None:
        super().__init__(auto_prefix=False)
        self.network, self.weights = network, weights

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return (self.network(x) * self.weights).sum()


def check_folded(batch: int, size: int, cores: int, stages: int, profile: dict) -> None:
    """Hold names, values, gradients and statistics of the folded network against those of the plain one."""
    plain, _ = build(profile, None)
    folded, count = build(profile, (batch, size, cores))
    assert count == stages
    assert [p.name for p in folded.get_parameters()] == [p.name for p in plain.get_parameters()]
    rng = np.random.default_rng(0)
    x = ms.Tensor(rng.normal(size=(batch, 3, size, size)), ms.float32)
    w = ms.Tensor(rng.normal(size=(batch, 3)), ms.float32)
    found = []
    for network in (plain, folded):
        network.set_train()
        value, gradients = ms.value_and_grad(Weighted(network, w), None, list(network.trainable_params()))(x)
        after = network.set_train(False)(x).asnumpy()
        statistics = [p.asnumpy() for p in network.get_parameters() if "moving" in p.name]
        found.append([value.asnumpy(), after, *[g.asnumpy() for g in gradients], *statistics])
    for one, other in zip(*found, strict=True):
        assert np.allclose(one, other, rtol=1e-3, atol=1e-4 * max(1.0, float(np.abs(one).max())))
