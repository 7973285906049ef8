"""Stacked small maps in graph mode, the mode in which training stacks them."""

import pytest
from stacks import CASES, check_stacked

from mslab.runtime import devices


@pytest.mark.parametrize("batch,size,cores,stages,profile", CASES[1:])
def test_values_gradients_and_statistics_are_those_without_in_a_graph(batch, size, cores, stages, profile):
    devices.start("cpu", "graph", 1)
    check_stacked(batch, size, cores, stages, profile)


def test_values_gradients_and_statistics_are_those_without_in_a_graph_too():
    devices.start("cpu", "graph", 1)
    check_stacked(*CASES[0])
