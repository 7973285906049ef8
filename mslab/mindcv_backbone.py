"""A classifier of mindcv behind the face of model.py's Backbone: all of it but its last layer, in one class.

It computes what mindcv's network passes to its last layer, so a published file gives the published features. Parameter
names are mindcv's own, without a prefix. Nothing in it is random: dropout and stochastic depth are left out, so that
runs repeat and resume bit for bit; `dropout` in a config adds one in front of the last layer.
"""

from typing import Any

import numpy as np
from mindspore import Tensor, nn, ops

from mslab.cpu_layout import replace_cells

OUTPUTS = 1009  # classes that mindcv's network is built for: a prime number, by which its last layer is found
# module of mindcv: the cells up to the last feature map, and those from it to the last layer
CELLS = {
    "convnext": ("feature", "mean norm classifier"),
    "efficientnet": ("features", "avgpool mlp_head"),
    "googlenet": (
        "conv1 maxpool1 conv2 conv3 maxpool2 inception3a inception3b maxpool3 inception4a inception4b inception4c "
        "inception4d inception4e maxpool4 inception5a inception5b",
        "pool classifier",
    ),
    "inceptionv3": (
        "conv1a conv2a conv2b maxpool1 conv3b conv4a maxpool2 inception5b inception5c inception5d inception6a "
        "inception6b inception6c inception6d inception6e inception7a inception7b inception7c",
        "pool classifier",
    ),
}
# modules whose forward_features gives maps (N, C, h, w), which forward_head takes
METHODS = (
    "densenet ghostnet inceptionv4 mixnet mnasnet mobilenetv1 mobilenetv2 mobilenetv3 nasnet "
    "pnasnet regnet res2net resnest resnet resnetv2 rexnet senet shufflenetv1 shufflenetv2 sknet squeezenet vgg "
    "xception"
)


class Mean(nn.Cell):
    """(N, C, H, W) -> (N, C)."""

    def construct(self, x: Tensor) -> Tensor:
        return ops.mean(x, (2, 3))


class MindcvBackbone(nn.Cell):
    """Everything of a mindcv network but its last layer. (N, 3, H, W) -> (N, C, 1, 1), already pooled.

    `maps` gives its last feature map (N, C', h, w), and `pooled` the rest; has_maps says whether there is one.
    """

    def __init__(self, name: str) -> None:
        super().__init__(auto_prefix=False)  # otherwise every name would begin with "network."
        network, module = create(name)
        last = [cell for _, cell in network.cells_and_names() if is_last(cell)]
        self.channels = last[-1].in_channels
        self.published_head = last[-1].weight.name.removesuffix(".weight")  # squeezenet has it under two names
        replace_cells(network, lambda cell: is_last(cell) or is_random(cell), lambda cell: nn.Identity())
        self.constants = {p.name for p in network.get_parameters() if not p.requires_grad and "moving_" not in p.name}
        self.network = network
        self.has_maps = module in CELLS or module in METHODS.split()
        self.first = self.rest = None
        if module in CELLS:
            cells = dict(network.name_cells()) | {"mean": Mean()}
            self.first, self.rest = ([cells[key] for key in part.split()] for part in CELLS[module])

    def construct(self, x: Tensor) -> Tensor:
        return self.pooled(self.maps(x))  # (N, 3, H, W) -> (N, C', h, w) -> (N, C, 1, 1)

    def maps(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, C', h, w); without a feature map (N, C)."""
        if self.first is not None:
            for cell in self.first:
                x = cell(x)
            return x
        return self.network.forward_features(x) if self.has_maps else self.network(x)

    def pooled(self, x: Tensor) -> Tensor:
        """What `maps` gives -> (N, C, 1, 1)."""
        if self.rest is not None:
            for cell in self.rest:
                x = cell(x)
        elif self.has_maps:
            x = self.network.forward_head(x)
        return x.reshape(-1, self.channels, 1, 1)  # -1: an exported graph takes any number of images


def create(name: str) -> tuple[nn.Cell, str]:
    """(the network of mindcv with OUTPUTS classes and without auxiliary outputs, its module)."""
    from mindcv.models import registry  # an extra: pip install 'mslab[mindcv]'

    module = registry._model_to_module[name]
    network = registry.model_entrypoint(name)(pretrained=False, num_classes=OUTPUTS, in_channels=3)
    if hasattr(network, "aux"):  # inception_v3, which takes no aux_logits=False
        network.aux_logits = False
        del network.aux
    return network, module


def is_last(cell: nn.Cell) -> bool:
    return isinstance(cell, nn.Dense | nn.Conv2d) and cell.out_channels == OUTPUTS


def is_random(cell: nn.Cell) -> bool:
    return type(cell).__name__ in ("Dropout", "Dropout2d", "DropPath")


SIDES = (32, 64, 96, 128, 160, 192, 224, 240, 256, 299, 384)  # pixels that are tried where an image's do not work


def describe(name: str, side: int = 0) -> dict[str, Any]:
    """The backbone's channels, tensors {name: shape}, has_maps and published_head.

    With a `side` one image of so many pixels runs through it, and the result has `problem`, "" if that works, else why
    it does not, and `works`, the nearest size that does, 0 if none.
    """
    backbone = MindcvBackbone(name)
    backbone.set_train(False)
    about: dict[str, Any] = {key: getattr(backbone, key) for key in ("channels", "has_maps", "published_head")}
    about["tensors"] = {parameter.name: list(parameter.shape) for parameter in backbone.get_parameters()}
    if side:
        about["problem"] = problem = problem_with(backbone, side)
        near = sorted(SIDES, key=lambda other: abs(other - side))
        about["works"] = next((other for other in near if not problem_with(backbone, other)), 0) if problem else side
    return about


def problem_with(backbone: MindcvBackbone, side: int) -> str:
    """Why the backbone cannot take an image of so many pixels; "" if it can."""
    try:
        shape = backbone(Tensor(np.zeros((1, 3, side, side), np.float32))).shape
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if any(map(str.isalpha, line))]
        return next(iter(lines), type(error).__name__)[:200].rstrip(".")
    return "" if shape == (1, backbone.channels, 1, 1) else f"its features have the shape {shape}"
