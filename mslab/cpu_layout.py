"""Small feature maps on a CPU: several images are stacked into one, so that a convolution is one large product.

oneDNN multiplies image by image, and with 2x2 or 4x4 maps it reads all weights again for each image. The layers after a
stage's entry therefore process the batch as a few wide images, one per core; values are equal up to rounding. The
max-pool is replaced by an equal one whose padding costs less. model.py does not change: cells are inserted, and
parameter names are preserved.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops


def overwrite(parameter: ms.Parameter, value: np.ndarray | ms.Tensor) -> None:
    """Copy the value into the parameter's memory.

    Parameter.set_data gives the parameter other memory. In PYNATIVE an optimizer that has run once continues with the
    old memory, so its updates no longer reach the network, and nothing reports it.
    """
    ops.assign(parameter, ms.Tensor(value, parameter.dtype))


@contextmanager
def preserve_names(network: nn.Cell) -> Iterator[None]:
    """Preserve parameter names while cells are replaced: MindSpore adds a prefix each time a cell is set."""
    names = {id(parameter): parameter.name for parameter in network.get_parameters()}
    yield
    for parameter in network.get_parameters():
        parameter.name = names[id(parameter)]


def replace_cells(network: nn.Cell, matches: Callable[[nn.Cell], bool], make: Callable[[nn.Cell], nn.Cell]) -> None:
    """Replace every inner cell that `matches` by make(cell). `make` reuses the cell's parameters."""
    with preserve_names(network):
        for _, parent in list(network.cells_and_names()):
            for place, (name, cell) in enumerate(list(parent.name_cells().items())):
                if not matches(cell):
                    continue
                if isinstance(parent, nn.SequentialCell):
                    parent[place] = make(cell)
                else:
                    setattr(parent, name, make(cell))


LARGEST = 7  # pixels, side of the largest maps that are stacked; measured: 8x8 and larger gain nothing


class Stack(nn.Cell):
    """(N, C, H, W) -> (G, C, H, W * N/G): N/G images in each of G, interleaved. N must be a multiple of G.

    Column w of image i becomes column w * N/G + i: neighbouring pixels of an image are N/G columns apart.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def construct(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = x.reshape(self.groups, n // self.groups, c, h * w).transpose(0, 2, 3, 1)
        return x.reshape(self.groups, c, h, w * (n // self.groups))


class Unstack(nn.Cell):
    """(G, C, W, W * N/G) -> (N, C, W, W): the inverse of Stack for square maps."""

    def construct(self, x: Tensor) -> Tensor:
        groups, c, side, columns = x.shape
        images = columns // side
        return x.reshape(groups, c, side * side, images).transpose(0, 3, 1, 2).reshape(groups * images, c, side, side)


class PerImage(nn.Cell):
    """A convolution over neighbouring pixels, applied image by image between stacked layers."""

    def __init__(self, conv: nn.Conv2d, groups: int) -> None:
        super().__init__(auto_prefix=False)
        self.unstack, self.conv, self.stack = Unstack(), conv, Stack(groups)

    def construct(self, x: Tensor) -> Tensor:
        return self.stack(self.conv(self.unstack(x)))


class Dilated(nn.Cell):
    """A 3x3 convolution of stride 1 on stacked maps, whose neighbouring pixels are as many columns apart as images.

    (G, C, W, W * N/G) -> (G, C', W, W * N/G).
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(auto_prefix=False)
        self.conv = conv

    def construct(self, x: Tensor) -> Tensor:
        apart, conv = x.shape[3] // x.shape[2], self.conv
        pad, dilation = (1, 1, apart, apart), (1, 1, 1, apart)
        # not ops.conv2d, whose checks MindSpore compiles as well
        return ops.Conv2D(conv.out_channels, 3, 1, "pad", pad, 1, dilation, conv.group)(x, conv.weight)


class Tall(nn.Cell):
    """A convolution on stacked maps that skips pixels: (G, C, W, W * N/G) -> (G, C', W/stride, W/stride * N/G).

    The images of a group are laid below each other; for a 3x3 kernel rows of zeros after each image keep its neighbours
    out of its windows. W must be a multiple of the stride.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(auto_prefix=False)
        self.conv, self.stride, self.concat = conv, conv.stride[0], ops.Concat(2)  # ops.pad is far slower
        self.zeros = self.stride if conv.kernel_size[0] > 1 else 0

    def construct(self, x: Tensor) -> Tensor:
        groups, c, w, columns = x.shape
        images, side = columns // w, w // self.stride
        x = x.reshape(groups, c, w * w, images)
        if self.zeros:
            x = self.concat((x, ops.fill(ms.float32, (groups, c, self.zeros * w, images), 0.0)))
        x = self.conv(x.transpose(0, 1, 3, 2).reshape(groups, c, images * (w + self.zeros), w))
        c, rows = x.shape[1], side + self.zeros // self.stride
        x = x.reshape(groups, c, images, rows * side).transpose(0, 1, 3, 2)
        if self.zeros:
            x = x[:, :, : side * side]
        return x.reshape(groups, c, side, side * images)


class PaddedPool(nn.Cell):
    """Max-pool 3x3 of stride 2 with padding 1: (N, C, H, W) -> (N, C, (H + 1) // 2, (W + 1) // 2).

    MindSpore's own pool with this padding has a kernel that takes several times as long as a pool without padding.
    """

    LOWEST = float(np.finfo(np.float32).min)  # no maximum

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.rows, self.columns, self.pool = ops.Concat(2), ops.Concat(3), nn.MaxPool2d(3, 2)

    def construct(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        border = ops.fill(ms.float32, (n, c, 1, w), self.LOWEST)
        x = self.rows((border, x, border) if h % 2 else (border, x))  # windows of an even map end within it
        border = ops.fill(ms.float32, (n, c, x.shape[2], 1), self.LOWEST)
        return self.pool(self.columns((border, x, border) if w % 2 else (border, x)))


def replace_pool(backbone: nn.Cell) -> None:
    """Replace the pool after the stem by PaddedPool, if it is MindSpore's with the same windows."""
    if is_pool(backbone.pool, nn.MaxPool2d(3, 2, pad_mode="pad", padding=1)):
        backbone.pool = PaddedPool()


def is_pool(cell: nn.Cell | None, pool: nn.MaxPool2d) -> bool:
    """Whether the cell is a pool of MindSpore with the same windows, padding and outputs."""
    if cell is None or type(cell) is not nn.MaxPool2d:
        return False
    return (cell.max_pool.attrs, cell.return_indices) == (pool.max_pool.attrs, pool.return_indices)


ONE = ((1, 1), (1, 1))  # kernel and stride of a convolution that takes each pixel by itself


class StackedLayers(nn.Cell):
    """Layers that process stacked maps, between layers that do not. (N, C, H, W) -> (N, C', H', W')."""

    def __init__(self, layers: list[nn.Cell], groups: int) -> None:
        super().__init__(auto_prefix=False)
        self.stack, self.layers, self.unstack = Stack(groups), nn.SequentialCell(layers), Unstack()

    def construct(self, x: Tensor) -> Tensor:
        return self.unstack(self.layers(self.stack(x)))


def stack_small_maps(
    backbone: nn.Cell, batch_size: int, image_sizes: Collection[int], cores: int, most: int | None = None
) -> int:
    """Stack the maps of the last stages, those of at most LARGEST. Returns the number of stages; square images only.

    `image_sizes`: every size that the network receives; `most`: stages that are stacked, at most.
    """
    groups = max(g for g in range(1, min(cores, batch_size) + 1) if batch_size % g == 0)
    if groups == batch_size:
        return 0
    stages = list(backbone.layers)
    sizes = [size if backbone.pool is None else -(-size // 4) for size in image_sizes]  # after the stem
    stacked = 0
    for number, stage in enumerate(stages):
        convolutions = [cell for _, cell in stage.cells_and_names() if isinstance(cell, nn.Conv2d)]
        stride = max(conv.stride[0] for conv in convolutions)
        before, sizes = sizes, [-(-size // stride) for size in sizes]
        if max(sizes) <= LARGEST and (most is None or number >= len(stages) - most):
            wrap_spatial(stage, groups, before)
            stacked += 1
    if stacked:
        with preserve_names(backbone):
            backbone.layers = (*stages[:-stacked], StackedLayers(stages[-stacked:], groups))
    return stacked


def wrap_spatial(stage: nn.Cell, groups: int, sizes: Collection[int]) -> None:
    """Wrap convolutions that mix pixels or skip some."""

    def wrap(conv: nn.Conv2d) -> nn.Cell:
        if any(size % conv.stride[0] for size in sizes):
            return PerImage(conv, groups)
        if conv.kernel_size == (1, 1):
            return Tall(conv)
        padded = conv.pad_mode == "same" or conv.padding == 1
        if (conv.kernel_size, conv.dilation, conv.has_bias, padded) == ((3, 3), (1, 1), False, True):
            return Dilated(conv) if conv.stride == (1, 1) else Tall(conv)
        return PerImage(conv, groups)

    replace_cells(stage, lambda cell: isinstance(cell, nn.Conv2d) and (cell.kernel_size, cell.stride) != ONE, wrap)
