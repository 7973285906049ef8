"""Layers of training and evaluation on a CPU, compiled from operators.c.

MindSpore's own BatchNorm and max-pool (oneDNN 2.2) compute number by number there, and its 1x1 convolutions read large
weights in an order that suits no cache. With these a training step of ResNet-50 takes 0.9 of the time or less, and an
evaluation 0.7. Values and gradients are equal up to rounding, the pool's bits for finite numbers are the same.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mindspore as ms
from mindspore import Tensor, nn, ops
from mindspore.ops import signature
from mindspore.ops.operations import _grad_ops

from mslab.check import cores
from mslab.cpu_layout import PaddedPool, is_pool, preserve_names, replace_cells
from mslab.runtime import compiling
from mslab.runtime.compiling import CompiledFile

SIGNATURE = (
    *map(signature.make_sig, ("x", "gamma", "beta")),
    signature.make_sig("running_mean", signature.sig_rw.RW_WRITE),
    signature.make_sig("running_variance", signature.sig_rw.RW_WRITE),
    signature.make_sig("settings"),
)


class BatchNormOperator(ops.Custom):
    """(x, gamma, beta, running mean, running variance, settings) -> (y, mean, deviation), (N, C, H, W) and (C,).

    It updates the running mean and variance in place. MindSpore is told so, as with its own BatchNorm: other operators
    of a graph read them (EMA), before or after. `settings`: eps, part of the batch in them, threads, 1 for ReLU on y,
    1 for evaluation: then it takes the running mean and variance, and changes nothing.
    """

    __mindspore_signature__, FUNCTION = SIGNATURE, "batch_norm"

    def __init__(self, library: Path) -> None:
        def like(x: Any, gamma: Any, *others: Any) -> tuple[Any, Any, Any]:
            return x, gamma, gamma  # shapes, or types

        super().__init__(f"{library}:{self.FUNCTION}", like, like, "aot", bprop=self.gradient_by(library))
        self.add_prim_attr("side_effect_mem", True)

    def gradient_by(self, library: Path) -> Callable[..., tuple[Tensor, ...]]:
        """Its gradient, by the same library."""

        def like(x: Any, dy: Any, gamma: Any, *others: Any) -> tuple[Any, Any, Any]:
            return x, gamma, gamma

        operator = ops.Custom(f"{library}:{self.FUNCTION}_gradient", like, like, "aot")

        def bprop(x, gamma, beta, running_mean, running_variance, settings, out, dout):  # type: ignore[no-untyped-def]
            y, mean, deviation = out
            gradients = operator(x, dout[0], gamma, mean, deviation, settings, y)
            return *gradients, ops.zeros_like(running_mean), ops.zeros_like(running_variance), ops.zeros_like(settings)

        return bprop


class BatchNormAddOperator(BatchNormOperator):
    """The same with one more input, a shortcut (N, C, H, W), which is added to y."""

    __mindspore_signature__, FUNCTION = (*SIGNATURE, signature.make_sig("shortcut")), "batch_norm_add"

    def gradient_by(self, library: Path) -> Callable[..., tuple[Tensor, ...]]:
        def like(x: Any, dy: Any, gamma: Any, *others: Any) -> tuple[Any, Any, Any, Any]:
            return x, gamma, gamma, x

        operator = ops.Custom(f"{library}:{self.FUNCTION}_gradient", like, like, "aot")

        def bprop(x, gamma, beta, running_mean, running_variance, settings, shortcut, out, dout):  # type: ignore
            y, mean, deviation = out
            dx, dgamma, dbeta, dshortcut = operator(x, dout[0], gamma, mean, deviation, settings, y)
            zeros = ops.zeros_like(running_mean), ops.zeros_like(running_variance), ops.zeros_like(settings)
            return dx, dgamma, dbeta, *zeros, dshortcut

        return bprop


class CompiledBatchNorm(nn.Cell):
    """An nn.BatchNorm2d by runtime/operators.c. (N, C, H, W) -> (N, C, H, W), float32."""

    RELU, OPERATOR = 0, BatchNormOperator

    def __init__(self, norm: nn.BatchNorm2d, library: Path) -> None:
        super().__init__(auto_prefix=False)
        self.norm, self.operator = norm, self.OPERATOR(library)
        self.moving_mean, self.moving_variance = norm.moving_mean, norm.moving_variance  # where others look for them
        self.gamma, self.beta = norm.gamma, norm.beta
        self.of_batch, self.fixed = (
            Tensor([norm.eps, norm.momentum, cores(), self.RELU, fixed], ms.float32) for fixed in (0, 1)
        )

    def construct(self, x: Tensor) -> Tensor:
        return self.compute(x)

    def compute(self, x: Tensor, *shortcut: Tensor) -> Tensor:
        settings = self.of_batch if self.norm.training else self.fixed
        return self.operator(x, self.gamma, self.beta, self.moving_mean, self.moving_variance, settings, *shortcut)[0]


class NormReLU(CompiledBatchNorm):
    """A BatchNorm, then ReLU."""

    RELU = 1


class NormAddReLU(CompiledBatchNorm):
    """A BatchNorm, to which a shortcut is added, then ReLU. Two times (N, C, H, W) -> (N, C, H, W)."""

    RELU, OPERATOR = 1, BatchNormAddOperator

    def construct(self, x: Tensor, shortcut: Tensor) -> Tensor:  # type: ignore[override]
        return self.compute(x, shortcut)


class CompiledBlock(nn.Cell):
    """A block of model.py whose BatchNorm, sum and ReLU are one pass over the maps. (N, C, H, W) -> (N, C', H', W')."""

    def __init__(self, block: nn.Cell, library: Path) -> None:
        super().__init__(auto_prefix=False)
        *inner, last = (getattr(block, f"bn{number}").norm for number in range(1, depth(block) + 1))
        layers = [(getattr(block, f"conv{i}"), NormReLU(norm, library)) for i, norm in enumerate(inner, start=1)]
        with preserve_names(block):
            self.layers = nn.SequentialCell([*sum(layers, ()), getattr(block, f"conv{depth(block)}")])
        self.last, self.down_sample = NormAddReLU(last, library), block.down_sample

    def construct(self, x: Tensor) -> Tensor:
        short = x if self.down_sample is None else self.down_sample(x)
        return self.last(self.layers(x), short)


def depth(block: nn.Cell) -> int:
    """The number of its convolutions, without the shortcut's."""
    return sum(name.startswith("conv") for name in block.name_cells())


def is_block(cell: nn.Cell) -> bool:
    """Whether it has compiled BatchNorm and computes what a block of model.py does, however that is written.

    It has no other cells or parameters, which would be lost.
    """
    cells, count = dict(cell.name_cells()), depth(cell)
    if type(cells.pop("relu", None)) is not nn.ReLU or not hasattr(cell, "down_sample"):
        return False
    names = [f"{kind}{number}" for number in range(1, count + 1) for kind in ("conv", "bn")]
    all_names = names if cell.down_sample is None else [*names, "down_sample"]
    if list(cells) != all_names or list(cell.get_parameters(expand=False)):
        return False
    if any(type(cells[name]) is not CompiledBatchNorm for name in names[1::2]):
        return False
    text = "x"
    for number in range(1, count):
        text = f"relu(bn{number}(conv{number}({text})))"
    short = "x" if cell.down_sample is None else "down_sample(x)"
    return computed_by(cell) == f"relu((bn{count}(conv{count}({text})) + {short}))"


class Traced:
    """Stands for a tensor: what was computed, as text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __add__(self, other: "Traced") -> "Traced":
        return Traced(f"({self.text} + {other.text})")


class Parts:
    """Stands for a cell: its inner cells add their names to what they are called with. It has nothing else but None."""

    def __init__(self, cell: nn.Cell) -> None:
        vars(self)["_cell"] = cell

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._cell, name)
        if found is None:
            return None
        if not isinstance(found, nn.Cell):  # such as `training`; hasattr would take an AttributeError for "no"
            raise TypeError(name)
        return lambda x: Traced(f"{name}({x.text})")

    def __setattr__(self, name: str, value: Any) -> None:
        raise TypeError(name)


def computed_by(cell: nn.Cell) -> str:
    """What its construct computes of x, such as "relu(bn1(conv1(x)))"; "" if it takes more than its cells and sums."""
    if "construct" in vars(cell) or hasattr(cell, "bprop"):
        return ""
    try:
        return str(type(cell).construct(Parts(cell), Traced("x")).text)
    except Exception:  # whatever operators do with what is no tensor
        return ""


class MaxPool(ops.Custom):
    """(x, settings) -> y: max-pool 3x3 of stride 2, (N, C, H, W) -> (N, C, (H + 1) // 2, (W + 1) // 2).

    The gradient goes to the first of a window's largest pixels, as in MindSpore. What is not a number stays.
    `settings`: 1 for one pixel of padding on every side, 0 for pad_mode "same"; threads.
    """

    def __init__(self, library: Path) -> None:
        def half(x: Sequence[int], settings: Sequence[int]) -> tuple[int, ...]:
            return (*x[:2], (x[2] + 1) // 2, (x[3] + 1) // 2)

        def like(x: Any, *others: Any) -> Any:  # shapes, or types
            return x

        gradient = ops.Custom(f"{library}:max_pool_gradient", like, like, "aot")

        def bprop(x, settings, out, dout):  # type: ignore[no-untyped-def]
            return gradient(x, dout, settings), ops.zeros_like(settings)

        super().__init__(f"{library}:max_pool", half, like, "aot", bprop=bprop)


class CompiledMaxPool(nn.Cell):
    """A max-pool 3x3 of stride 2, by runtime/operators.c. (N, C, H, W) -> (N, C, (H + 1) // 2, (W + 1) // 2)."""

    def __init__(self, pool: nn.Cell, library: Path) -> None:
        super().__init__(auto_prefix=False)
        self.pool = MaxPool(library)
        self.settings = Tensor([isinstance(pool, PaddedPool), cores()], ms.float32)

    def construct(self, x: Tensor) -> Tensor:
        return self.pool(x, self.settings)


PAGE = 1024  # numbers in 4 KiB: a cache keeps few addresses that are multiples of it apart


class Transpose(ops.Custom):
    """(w, threads) -> w for the opposite direction, (out, in, 1, 1) -> (in, out, 1, 1). MindSpore's own is slower."""

    def __init__(self, library: Path) -> None:
        def turned(w: Sequence[int], threads: Sequence[int]) -> tuple[int, ...]:
            return (w[1], w[0], 1, 1)

        super().__init__(f"{library}:transpose", turned, lambda w, threads: w, "aot")


class PointwiseProduct(nn.Cell):
    """1x1 convolution of stride 1: (N, C, H, W), (out, C, 1, 1) -> (N, out, H, W).

    The gradient of x is a convolution with the transposed weights: oneDNN, which transposes them as it goes, takes
    twice as long with a multiple of PAGE channels.
    """

    def __init__(self, channels: int, out: int, library: Path) -> None:
        super().__init__(auto_prefix=False)
        self.shape = (out, channels, 1, 1)
        self.forward, self.backward, self.transpose = ops.Conv2D(out, 1), ops.Conv2D(channels, 1), Transpose(library)
        self.of_weights = _grad_ops.Conv2DBackpropFilter(out, 1)
        self.threads = Tensor([cores()], ms.float32)

    def construct(self, x: Tensor, w: Tensor) -> Tensor:
        return self.forward(x, w)

    def bprop(self, x: Tensor, w: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
        return self.backward(dout, self.transpose(w, self.threads)), self.of_weights(dout, x, self.shape)


class CompiledPointwise(nn.Cell):
    """An nn.Conv2d of 1x1, whose gradient is a PointwiseProduct's."""

    def __init__(self, conv: nn.Conv2d, library: Path) -> None:
        super().__init__(auto_prefix=False)
        self.weight, self.product = conv.weight, PointwiseProduct(conv.in_channels, conv.out_channels, library)

    def construct(self, x: Tensor) -> Tensor:
        return self.product(x, self.weight)


def reads_pages(cell: nn.Cell) -> bool:
    """Whether it is a 1x1 convolution of stride 1 and nothing else, with a multiple of PAGE channels, in float32."""
    if type(cell) is not nn.Conv2d or cell.in_channels % PAGE or cell.has_bias or cell.weight.dtype != ms.float32:
        return False
    return (cell.kernel_size, cell.stride, cell.group) == ((1, 1), (1, 1), 1) and cell.padding in (0, (0, 0, 0, 0))


def replace_layers(network: nn.Cell) -> CompiledFile:
    """Replace BatchNorm, blocks, pools and convolutions by compiled ones where they fit, if there is a library.

    In a graph on a CPU only: MindSpore's device and mode have to be set before.
    """
    if ms.get_context("device_target") != "CPU" or ms.get_context("mode") != ms.GRAPH_MODE:
        return CompiledFile(None)
    library = compiling.library()
    if library.file is not None:
        replace_cells(network, plain, functools.partial(CompiledBatchNorm, library=library.file))
        replace_cells(network, is_block, functools.partial(CompiledBlock, library=library.file))
        replace_cells(network, pools_padded, functools.partial(CompiledMaxPool, library=library.file))
        replace_cells(network, reads_pages, functools.partial(CompiledPointwise, library=library.file))
    return library


def pools_padded(cell: nn.Cell) -> bool:
    """Whether it is a max-pool 3x3 of stride 2 with cpu_layout's padding, or with pad_mode "same"."""
    return isinstance(cell, PaddedPool) or is_pool(cell, nn.MaxPool2d(3, 2, "same"))


def plain(cell: nn.Cell) -> bool:
    """Whether it takes the batch's statistics in training and its own otherwise, in float32."""
    return type(cell) is nn.BatchNorm2d and cell.use_batch_statistics is None and cell.gamma.dtype == ms.float32
