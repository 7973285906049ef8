"""A feature pyramid on the backbone's stages, a head on its map, and the three joined to one network.

Feature Pyramid Networks (Lin et al. 2017): a 1x1 convolution brings every stage to the same few channels, each level is
added to the finer one below, and a 3x3 convolution smooths the sum. Then the levels are added up at the finest size, as
in the semantic branch of Panoptic FPN (Kirillov et al. 2019), so that segment, keypoints and detect all read one map.
"""

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.common.initializer import Normal

from mslab.model import Backbone, conv
from mslab.tasks.layout import CHANNELS, levels


def stage_shapes(backbone: Backbone) -> list[tuple[int, int]]:
    """(channels, stride) of the map after each stage."""
    # stage_shapes(resnet50_backbone()) -> [(256, 4), (512, 8), (1024, 16), (2048, 32)]
    shapes, stride = [], 1 if backbone.pool is None else 4
    for stage in backbone.layers:
        stride *= max(cell.stride[0] for _, cell in stage.cells_and_names() if isinstance(cell, nn.Conv2d))
        shapes.append((stage[-1].conv1.out_channels * stage[-1].EXPANSION, stride))
    return shapes


def enlarged(x: Tensor, like: Tensor) -> Tensor:
    """Repeat every cell until the map has the other's size. (N, C, h, w), (N, D, H, W) -> (N, C, H, W)."""
    return x if x.shape[2:] == like.shape[2:] else ops.interpolate(x, size=like.shape[2:], mode="nearest")


class Neck(nn.Cell):
    """The pyramid of some maps, added up at the first one's size. ((N, C, h, w), ...) -> (N, 64, h, w)."""

    def __init__(self, inputs: Sequence[int]) -> None:
        super().__init__()
        self.lateral = nn.CellList([normalised(channels, CHANNELS, 1) for channels in inputs])
        self.smooth = nn.CellList([normalised(CHANNELS, CHANNELS, 3) for _ in inputs])

    def construct(self, maps: tuple[Tensor, ...]) -> Tensor:
        merged = above = None
        for i in range(len(maps) - 1, -1, -1):  # from the coarsest level to the finest
            level = self.lateral[i](maps[i])  #                                    (N, C, h, w) -> (N, 64, h, w)
            above = level if above is None else level + enlarged(above, level)
            level = ops.relu(self.smooth[i](above))
            merged = level if merged is None else level + enlarged(merged, level)  # in the end (N, 64, H/4, W/4)
        return merged


def normalised(channels: int, out: int, kernel: int) -> nn.SequentialCell:
    return nn.SequentialCell(conv(channels, out, kernel), nn.BatchNorm2d(out))


class MapHead(nn.Cell):
    """3x3 convolution, then one number per cell and output. (N, 64, h, w) -> (N, outputs, h, w), before any sigmoid.

    bias: (outputs,), where the outputs start.
    """

    def __init__(self, outputs: int, bias: np.ndarray | None = None) -> None:
        super().__init__()
        self.hidden = normalised(CHANNELS, CHANNELS, 3)
        start = "zeros" if bias is None else Tensor(bias, ms.float32)
        self.output = nn.Conv2d(CHANNELS, outputs, 1, has_bias=True, weight_init=Normal(0.01), bias_init=start)

    def construct(self, x: Tensor) -> Tensor:
        return self.output(ops.relu(self.hidden(x)))


class MapNetwork(nn.Cell):
    """Backbone, neck and head. Normalised float32 (N, 3, H, W) -> (N, outputs, H/stride, W/stride), rounded up.

    It calls the backbone's parts and changes none: their parameters keep their names, the others are "neck. ..." and
    "head. ...". stride: pixels of the image per cell of the output. cpu_layout may stack the last stage, after this
    network is made, and no other one: between two stacked stages there is no map.
    """

    def __init__(self, backbone: Backbone, head: MapHead) -> None:
        super().__init__(auto_prefix=False)
        shapes = stage_shapes(backbone)
        used = levels(shapes)
        self.first, self.stride = len(shapes) - len(used), used[0][1]
        self.backbone, self.neck, self.head = backbone, Neck([channels for channels, _ in used]), head
        self.neck.update_parameters_name("neck.")
        self.head.update_parameters_name("head.")

    def construct(self, x: Tensor) -> Tensor:
        parts = self.backbone
        x = parts.relu(parts.bn1(parts.conv1(x)))
        x = x if parts.pool is None else parts.pool(x)
        maps: tuple[Tensor, ...] = ()
        for layer in parts.layers:
            x = layer(x)
            maps = (*maps, x)
        return self.head(self.neck(maps[self.first :]))  # (N, outputs, H/4, W/4)
