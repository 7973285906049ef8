"""Stacked small maps and the replaced pool: the same values, gradients and names as without."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops
from stacks import CASES, build, check_stacked

from mslab import cpu_layout, model
from mslab.runtime import devices

PADDED = {"pad_mode": "pad", "padding": 1}


@pytest.fixture(autouse=True)
def start():
    devices.start("cpu", "pynative", 1)


@pytest.mark.parametrize("batch,size,cores,stages,profile", CASES)
def test_values_gradients_and_statistics_are_those_without(batch, size, cores, stages, profile):
    check_stacked(batch, size, cores, stages, profile)


@pytest.mark.parametrize("batch,size,cores", [(2, 32, 2), (8, 256, 2)])
def test_nothing_is_stacked_if_it_would_not_help(batch, size, cores):
    network, count = build({}, (batch, {size}, cores))
    assert count == 0 and not any(isinstance(cell, cpu_layout.PerImage) for _, cell in network.cells_and_names())


def kinds(convolutions, *sizes):
    """The cells that wrap_spatial puts around convolutions of a stage whose inputs have these sizes."""
    stage = nn.SequentialCell([nn.SequentialCell(conv) for conv in convolutions])
    cpu_layout.wrap_spatial(stage, 2, sizes)
    return [type(block[0]).__name__ for block in stage]


def test_only_ordinary_convolutions_of_3x3_stay_on_stacked_maps():
    ordinary = [nn.Conv2d(4, 4, 3, 1, **PADDED), nn.Conv2d(4, 4, 3, 2, **PADDED), nn.Conv2d(4, 4, 3, 2, "same")]
    others = [nn.Conv2d(4, 4, 5, 1, "pad", 2), nn.Conv2d(4, 4, 3, 1, "pad", 2, dilation=2)]
    others += [nn.Conv2d(4, 4, 3, 1, **PADDED, has_bias=True)]
    single = [nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1, 2)]
    assert kinds([*ordinary, *single, *others], 4) == ["Dilated", "Tall", "Tall", "Conv2d", "Tall"] + ["PerImage"] * 3
    for sizes in [(7,), (8, 7)]:  # an odd one
        assert kinds([*ordinary, *single], *sizes) == ["Dilated", "PerImage", "PerImage", "Conv2d", "PerImage"]


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel,padding", [(1, {}), (3, PADDED), (3, {"pad_mode": "same"})], ids=str)
def test_a_convolution_of_any_stride_is_the_same_on_stacked_maps(kernel, padding, stride):
    conv = nn.Conv2d(4, 6, kernel, stride, **padding)
    x = ms.Tensor(np.random.default_rng(0).normal(size=(6, 4, 12, 12)), ms.float32)
    stage = nn.SequentialCell([nn.SequentialCell(conv)])
    cpu_layout.wrap_spatial(stage, 2, [12])
    stacked = cpu_layout.StackedLayers([stage], 2)
    assert not any(isinstance(cell, cpu_layout.PerImage) for _, cell in stage.cells_and_names())
    np.testing.assert_allclose(stacked(x).asnumpy(), conv(x).asnumpy(), atol=1e-5)


def test_one_layout_serves_images_of_several_sizes():
    plain, _ = build({}, None)
    stacked, count = build({}, (4, {24, 32}, 2))
    assert count == 2
    for size in (24, 32):
        x = ms.Tensor(np.random.default_rng(0).normal(size=(4, 3, size, size)), ms.float32)
        np.testing.assert_allclose(stacked(x).asnumpy(), plain(x).asnumpy(), rtol=1e-4, atol=1e-5)


class SumOfSquares(nn.Cell):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def construct(self, x):
        return ops.square(self.inner(x)).sum()


POOLED = [(1, 1), (2, 2), (3, 3), (16, 16), (15, 15), (7, 12)]  # height and width


@pytest.mark.parametrize(
    "mode,height,width",
    [*(("pynative", *size) for size in POOLED), ("graph", 7, 12), ("graph", 12, 7)],  # each takes a second to compile
)
def test_the_replaced_pool_has_the_same_values_and_gradients(height, width, mode):
    devices.start("cpu", mode, 1)
    count = 2 * 3 * height * width  # all values are below 0: a border of zeros would be a maximum
    x = np.random.default_rng(0).permutation(count).reshape(2, 3, height, width) - float(count)
    results = []
    for pool in (nn.MaxPool2d(3, 2, **PADDED), cpu_layout.PaddedPool()):
        gradient = ms.value_and_grad(SumOfSquares(pool))
        for _ in range(25):  # after nn.ZeroPad2d, the same pool hung within ten steps
            value, slope = gradient(ms.Tensor(x, ms.float32))
            results.append((pool(ms.Tensor(x, ms.float32)).asnumpy(), value.asnumpy(), slope.asnumpy()))
    for actual in results:
        assert all(np.array_equal(*pair) for pair in zip(results[0], actual, strict=True))


def test_only_the_pool_with_these_windows_is_replaced():
    for pool in (None, nn.MaxPool2d(3, 2, "same"), nn.MaxPool2d(2, 2), nn.MaxPool2d(3, 2, "pad", 1, 2), nn.ReLU()):
        backbone = model.resnet50_backbone([(1, 4, 1)])
        backbone.pool = pool
        cpu_layout.replace_pool(backbone)
        assert backbone.pool is pool
