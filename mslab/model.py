"""The whole ResNet-50, all of it in this file: a table of stages, one block, a backbone and a head.

Deep Residual Learning (He et al. 2015), with the stride on the 3x3 convolution as torchvision and mindcv have it.
Parameter names are mindcv's. Edit STAGES here, or give `stages` in a config, and show, train, transfer and eval follow.
"""

from collections.abc import Sequence

from mindspore import Tensor, nn, ops
from mindspore.common.initializer import HeNormal, Normal

STAGES = [  # blocks, width, stride     output for (N, 3, 224, 224)
    (3, 64, 1),  #                      (N,  256, 56, 56)
    (4, 128, 2),  #                     (N,  512, 28, 28)
    (6, 256, 2),  #                     (N, 1024, 14, 14)
    (3, 512, 2),  #                     (N, 2048,  7,  7)
]
EXPANSION = 4  # a block ends four times as wide as its 3x3 convolution
STEM = 64  # channels after the first convolution
PROFILE = {"padding": "symmetric", "pool": "symmetric", "eps": 1e-5}  # what a file's names do not tell; kept with it


def conv(channels: int, out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Convolution without bias. (N, channels, H, W) -> (N, out, H/stride, W/stride), padded alike on all sides."""
    init = HeNormal(mode="fan_out", nonlinearity="relu")
    return nn.Conv2d(channels, out, kernel, stride, pad_mode="pad", padding=kernel // 2, weight_init=init)


class Bottleneck(nn.Cell):
    """1x1 narrows, 3x3 works, 1x1 widens; added to the shortcut. (N, C, H, W) -> (N, 4 * width, H/stride, W/stride)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = width * EXPANSION
        self.conv1, self.bn1 = conv(channels, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
        # the last gamma starts at zero: every block begins as its shortcut (Goyal et al. 2017)
        self.conv3, self.bn3 = conv(width, out, 1), nn.BatchNorm2d(out, gamma_init="zeros")
        self.relu = nn.ReLU()
        self.down_sample = None
        if stride != 1 or channels != out:
            self.down_sample = nn.SequentialCell(conv(channels, out, 1, stride), nn.BatchNorm2d(out))

    def construct(self, x: Tensor) -> Tensor:
        shortcut = x if self.down_sample is None else self.down_sample(x)
        x = self.relu(self.bn1(self.conv1(x)))  # (N, width, H, W)
        x = self.relu(self.bn2(self.conv2(x)))  # (N, width, H/stride, W/stride)
        x = self.bn3(self.conv3(x))  #            (N, 4 * width, H/stride, W/stride)
        return self.relu(x + shortcut)


class Backbone(nn.Cell):
    """Stem and stages. (N, 3, H, W) -> (N, C, H/32, W/32); C is 2048 with the standard table."""

    def __init__(self, stages: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu = conv(3, STEM, 7, 2), nn.BatchNorm2d(STEM), nn.ReLU()
        # padded by the pool itself: nn.ZeroPad2d before a plain pool hung in the backward pass on CPU (2.8.0)
        self.pool = nn.MaxPool2d(3, 2, pad_mode="pad", padding=1)
        self.channels = STEM
        layers = []
        for number, (blocks, width, stride) in enumerate(stages, start=1):
            layer = []
            for block in range(blocks):
                layer.append(Bottleneck(self.channels, width, stride if block == 0 else 1))
                self.channels = width * EXPANSION
            layers.append(nn.SequentialCell(layer))
            setattr(self, f"layer{number}", layers[-1])  # the attribute's name becomes the parameters' prefix
        self.layers = tuple(layers)

    def construct(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))  # (N, 3, 224, 224) -> (N, 64, 112, 112)
        x = self.pool(x)  #                       (N, 64, 112, 112) -> (N, 64, 56, 56)
        for layer in self.layers:  #              (N, 64, 56, 56) -> ... -> (N, 2048, 7, 7)
            x = layer(x)
        return x


class Head(nn.Cell):
    """Global average pool, flatten, project. (N, C, h, w) -> logits (N, class_num)."""

    def __init__(self, class_num: int, channels: int) -> None:
        super().__init__()
        self.classifier = nn.Dense(channels, class_num, weight_init=Normal(0.01), bias_init="zeros")

    def construct(self, x: Tensor) -> Tensor:
        x = ops.mean(x, (2, 3))  # (N, 2048, 7, 7) -> (N, 2048)
        return self.classifier(x)


class ResNet50(nn.Cell):
    """Backbone and head joined. Normalised float32 (N, 3, H, W) -> logits (N, class_num)."""

    def __init__(self, backbone: nn.Cell, head: nn.Cell) -> None:
        super().__init__(auto_prefix=False)  # else MindSpore renames the backbone's parameters to "backbone. ..."
        self.backbone = backbone
        self.head = head

    def construct(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


def resnet50_backbone(stages: Sequence[Sequence[int]] = STAGES) -> Backbone:
    """A fresh backbone of this table. 265 tensors and 23,508,032 trainable weights for the standard one."""
    return Backbone(stages)


def resnet50_head(class_num: int, channels: int = 2048) -> Head:
    """A fresh head. `channels` is the backbone's `.channels`; class_num * (channels + 1) weights."""
    return Head(class_num, channels)
