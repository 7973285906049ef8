"""Small feature maps on a CPU: several images side by side as one, so that a 1x1 convolution is one large product.

oneDNN multiplies image by image, and with 2x2 or 4x4 maps reads all weights anew for each. The layers that follow a
stage's entry see the batch as a few tall images, one a core; values are the same but for rounding. Nothing of model.py
changes: cells are put between, and parameters keep their names.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops


def overwrite(parameter: ms.Parameter, value: np.ndarray | ms.Tensor) -> None:
    """Copy the value into the parameter where it lies.

    Parameter.set_data gives it other memory. In PYNATIVE an optimizer that has run once goes on with the old memory, so
    that nothing it does reaches the network any more, without a word.
    """
    ops.assign(parameter, ms.Tensor(value, parameter.dtype))


@contextmanager
def names_kept(network: nn.Cell) -> Iterator[None]:
    """What is done to the network's cells meanwhile renames no parameter. MindSpore prefixes them at each setting."""
    names = {id(parameter): parameter.name for parameter in network.get_parameters()}
    yield
    for parameter in network.get_parameters():
        parameter.name = names[id(parameter)]


def replace_cells(network: nn.Cell, wanted: Callable[[nn.Cell], bool], make: Callable[[nn.Cell], nn.Cell]) -> None:
    """Put make(cell) in the place of every cell inside that is wanted. `make` takes over the cell's parameters."""
    with names_kept(network):
        for _, parent in list(network.cells_and_names()):
            for name, cell in list(parent.name_cells().items()):
                if not wanted(cell):
                    continue
                if isinstance(parent, nn.SequentialCell):
                    parent[int(name)] = make(cell)
                else:
                    setattr(parent, name, make(cell))


LARGEST = 7  # pixels, side of the maps that are folded; measured: from 8x8 on it gains nothing


class Fold(nn.Cell):
    """(N, C, H, W) -> (G, C, N/G * H, W): N/G images below each other in each of G. N must be a multiple of G."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def construct(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        each = n // self.groups
        x = x.reshape(self.groups, each, c, h * w).transpose(0, 2, 1, 3)
        return x.reshape(self.groups, c, each * h, w)


class Unfold(nn.Cell):
    """(G, C, N/G * W, W) -> (N, C, W, W): what Fold has made of square maps."""

    def construct(self, x: Tensor) -> Tensor:
        groups, c, rows, w = x.shape
        x = x.reshape(groups, c, rows // w, w * w).transpose(0, 2, 1, 3)
        return x.reshape(groups * (rows // w), c, w, w)


class PerImage(nn.Cell):
    """A convolution that looks at neighbouring pixels: image by image, between folded layers."""

    def __init__(self, conv: nn.Conv2d, groups: int) -> None:
        super().__init__(auto_prefix=False)
        self.unfold, self.conv, self.fold = Unfold(), conv, Fold(groups)

    def construct(self, x: Tensor) -> Tensor:
        return self.fold(self.conv(self.unfold(x)))


class Side(nn.Cell):
    """Layers that work on folded maps, between two that do not. (N, C, H, W) -> (N, C', H', W')."""

    def __init__(self, layers: list[nn.Cell], groups: int) -> None:
        super().__init__(auto_prefix=False)
        self.fold, self.layers, self.unfold = Fold(groups), nn.SequentialCell(layers), Unfold()

    def construct(self, x: Tensor) -> Tensor:
        return self.unfold(self.layers(self.fold(x)))


def stack_small_maps(backbone: nn.Cell, batch_size: int, image_size: int, cores: int) -> int:
    """Fold the backbone's last stages, those with maps of at most LARGEST. Returns how many; for square images only."""
    groups = max(g for g in range(1, min(cores, batch_size) + 1) if batch_size % g == 0)
    if groups == batch_size:
        return 0
    stages, size = (
        list(backbone.layers),
        image_size if backbone.pool is None else -(-image_size // 4),
    )  # behind the stem
    folded = 0
    for stage in stages:
        convolutions = [cell for _, cell in stage.cells_and_names() if isinstance(cell, nn.Conv2d)]
        before, size = size, -(-size // max(conv.stride[0] for conv in convolutions))
        if size <= LARGEST:
            set_apart(stage, groups, before)
            folded += 1
    if folded:
        with names_kept(backbone):
            backbone.layers = (*stages[:-folded], Side(stages[-folded:], groups))
    return folded


def set_apart(stage: nn.Cell, groups: int, size: int) -> None:
    """Put PerImage around the convolutions that mix pixels, or, on maps of odd `size`, leave some out."""

    def mixes(cell: nn.Cell) -> bool:
        return isinstance(cell, nn.Conv2d) and (cell.kernel_size[0] > 1 or size % cell.stride[0] > 0)

    replace_cells(stage, mixes, lambda conv: PerImage(conv, groups))
