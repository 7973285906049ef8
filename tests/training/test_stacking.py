"""Stacked small maps: the same values, gradients and names as without, for all blocks, sizes and groups."""

import pytest
from stacks import CASES, build, check_stacked

from mslab import cpu_layout
from mslab.runtime import devices


@pytest.fixture(autouse=True)
def start():
    devices.start("cpu", "pynative", 1)


@pytest.mark.parametrize("batch,size,cores,stages,profile", CASES)
def test_values_gradients_and_statistics_are_those_without(batch, size, cores, stages, profile):
    check_stacked(batch, size, cores, stages, profile)


@pytest.mark.parametrize("batch,size,cores", [(2, 32, 2), (8, 256, 2)])
def test_nothing_is_stacked_if_it_would_not_help(batch, size, cores):
    network, count = build({}, (batch, size, cores))
    assert count == 0 and not any(isinstance(cell, cpu_layout.PerImage) for _, cell in network.cells_and_names())
