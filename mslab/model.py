"""The complete ResNet-50 in one file: a table of stages, one block, a backbone and a head.

Deep Residual Learning (He et al. 2015), with the stride on the 3x3 convolution, as in torchvision and mindcv.
Parameter names are mindcv's. Edit STAGES here or set `stages` in a config; show, train, transfer and eval use it.

The first of four files to read, each on its own: model.py, schedule.py, training/loop.py, training/train_step.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mindspore import Tensor, nn, ops
from mindspore.common.initializer import HeNormal, Normal

from mslab.stages import stage_table

STAGES = [  # blocks, width, stride     output for (N, 3, 224, 224)
    (3, 64, 1),  #                      (N,  256, 56, 56)
    (4, 128, 2),  #                     (N,  512, 28, 28)
    (6, 256, 2),  #                     (N, 1024, 14, 14)
    (3, 512, 2),  #                     (N, 2048,  7,  7)
]
STEM = 64  # channels after the first convolution
PROFILE: dict[str, Any] = {  # how projects differ, apart from names; a checkpoint stores its own
    "block": "bottleneck",  # or "basic": two 3x3 convolutions, ResNet-18 and 34
    "padding": "symmetric",  # of strided convolutions; "same" pads right and bottom more
    "pool": "symmetric",  # or "same", as above
    "stem": "imagenet",  # or "small": one 3x3 convolution and no pooling, for small images (He et al. 2015, CIFAR-10)
    "eps": 1e-5,  # of BatchNorm in a block
    "outer_eps": 1e-5,  # of BatchNorm in stem and shortcuts
}


def conv(channels: int, out: int, kernel: int, stride: int = 1, padding: str = "symmetric") -> nn.Conv2d:
    """Convolution without bias. (N, channels, H, W) -> (N, out, H/stride, W/stride)."""
    init = HeNormal(mode="fan_out", nonlinearity="relu")
    pad = {"pad_mode": "same"} if padding == "same" else {"pad_mode": "pad", "padding": kernel // 2}
    return nn.Conv2d(channels, out, kernel, stride, weight_init=init, **pad)


def shortcut(channels: int, out: int, stride: int, profile: Mapping[str, Any]) -> nn.SequentialCell | None:
    """1x1 convolution if a block changes the shape, else None: the shortcut is the input itself."""
    if stride == 1 and channels == out:
        return None
    return nn.SequentialCell(conv(channels, out, 1, stride), nn.BatchNorm2d(out, profile["outer_eps"]))


class Bottleneck(nn.Cell):
    """1x1 reduces, 3x3, 1x1 expands; added to the shortcut. (N, C, H, W) -> (N, 4 * width, H/stride, W/stride)."""

    EXPANSION = 4  # the output has four times the channels of the 3x3 convolution

    def __init__(self, channels: int, width: int, stride: int, profile: Mapping[str, Any]) -> None:
        super().__init__()
        out, eps = width * self.EXPANSION, profile["eps"]
        self.conv1, self.bn1 = conv(channels, width, 1), nn.BatchNorm2d(width, eps)
        self.conv2, self.bn2 = conv(width, width, 3, stride, profile["padding"]), nn.BatchNorm2d(width, eps)
        # the last gamma starts at zero: every block begins as its shortcut (Goyal et al. 2017)
        self.conv3, self.bn3 = conv(width, out, 1), nn.BatchNorm2d(out, eps, gamma_init="zeros")
        self.relu, self.down_sample = nn.ReLU(), shortcut(channels, out, stride, profile)

    def construct(self, x: Tensor) -> Tensor:
        short = x if self.down_sample is None else self.down_sample(x)
        x = self.relu(self.bn1(self.conv1(x)))  # (N, width, H, W)
        x = self.relu(self.bn2(self.conv2(x)))  # (N, width, H/stride, W/stride)
        x = self.bn3(self.conv3(x))  #            (N, 4 * width, H/stride, W/stride)
        return self.relu(x + short)


class BasicBlock(nn.Cell):
    """Block of ResNet-18 and 34: two 3x3 convolutions, shortcut. (N, C, H, W) -> (N, width, H/stride, W/stride)."""

    EXPANSION = 1

    def __init__(self, channels: int, width: int, stride: int, profile: Mapping[str, Any]) -> None:
        super().__init__()
        eps = profile["eps"]
        self.conv1, self.bn1 = conv(channels, width, 3, stride, profile["padding"]), nn.BatchNorm2d(width, eps)
        self.conv2, self.bn2 = conv(width, width, 3), nn.BatchNorm2d(width, eps, gamma_init="zeros")
        self.relu, self.down_sample = nn.ReLU(), shortcut(channels, width, stride, profile)

    def construct(self, x: Tensor) -> Tensor:
        short = x if self.down_sample is None else self.down_sample(x)
        x = self.relu(self.bn1(self.conv1(x)))  # (N, width, H/stride, W/stride)
        return self.relu(self.bn2(self.conv2(x)) + short)


BLOCKS: dict[str, Any] = {"bottleneck": Bottleneck, "basic": BasicBlock}


class Backbone(nn.Cell):
    """Stem and stages. (N, 3, H, W) -> (N, C, H/32, W/32), small stem: H/8; C is 2048 for the standard table."""

    def __init__(self, stages: Sequence[Sequence[int]], profile: Mapping[str, Any]) -> None:
        super().__init__()
        small = profile["stem"] == "small"
        self.conv1 = conv(3, STEM, 3) if small else conv(3, STEM, 7, 2, profile["padding"])
        self.bn1, self.relu = nn.BatchNorm2d(STEM, profile["outer_eps"]), nn.ReLU()
        # padded by the pool itself: nn.ZeroPad2d before a plain pool hung in the backward pass on CPU (2.8.0)
        pad = {"pad_mode": "same"} if profile["pool"] == "same" else {"pad_mode": "pad", "padding": 1}
        self.pool = None if small else nn.MaxPool2d(3, 2, **pad)
        self.channels = STEM
        block, layers = BLOCKS[profile["block"]], []
        for number, (blocks, width, stride) in enumerate(stage_table(stages), start=1):
            layer = []
            for index in range(blocks):
                layer.append(block(self.channels, width, stride if index == 0 else 1, profile))
                self.channels = width * block.EXPANSION
            layers.append(nn.SequentialCell(layer))
            setattr(self, f"layer{number}", layers[-1])  # the attribute's name becomes the parameters' prefix
        self.layers = tuple(layers)

    def construct(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))  # (N, 3, 224, 224) -> (N, 64, 112, 112)
        x = x if self.pool is None else self.pool(x)  #    -> (N, 64, 56, 56)
        for layer in self.layers:  #              (N, 64, 56, 56) -> ... -> (N, 2048, 7, 7)
            x = layer(x)
        return x


class Head(nn.Cell):
    """Global average pool, flatten, project. (N, C, h, w) -> logits (N, class_num).

    `hidden`: width of one more layer before the last, 0 = none. `dropout`: fraction of the last layer's inputs that
    each training step drops (Srivastava et al. 2014).
    """

    def __init__(self, class_num: int, channels: int, hidden: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.hidden = nn.Dense(channels, hidden, HeNormal(nonlinearity="relu"), activation="relu") if hidden else None
        self.dropout = nn.Dropout(p=dropout) if dropout else None
        self.classifier = nn.Dense(hidden or channels, class_num, weight_init=Normal(0.01), bias_init="zeros")

    def construct(self, x: Tensor) -> Tensor:
        x = ops.mean(x, (2, 3))  #                           (N, 2048, 7, 7) -> (N, 2048)
        x = x if self.hidden is None else self.hidden(x)  #  (N, 2048) -> (N, hidden)
        x = x if self.dropout is None else self.dropout(x)
        return self.classifier(x)


class ResNet50(nn.Cell):
    """Backbone and head joined. Normalised float32 (N, 3, H, W) -> logits (N, class_num)."""

    def __init__(self, backbone: nn.Cell, head: nn.Cell) -> None:
        super().__init__(auto_prefix=False)  # otherwise MindSpore renames the backbone's parameters to "backbone. ..."
        self.backbone = backbone
        self.head = head

    def construct(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


def resnet50_backbone(stages: Sequence[Sequence[int]] = STAGES, profile: Mapping[str, Any] = PROFILE) -> Backbone:
    """A new backbone with these stages. The standard table gives 265 tensors and 23,508,032 trainable weights."""
    return Backbone(stages, PROFILE | dict(profile))


def resnet50_head(class_num: int, channels: int = 2048, hidden: int = 0, dropout: float = 0.0) -> Head:
    """A new head. `channels` is the backbone's `.channels`; class_num * (channels + 1) weights without `hidden`."""
    return Head(class_num, channels, hidden, dropout)
