"""Every optimizer in graph mode, with all its settings."""

import pytest
from formulas import NAMES, UPDATES, check_copied, check_formula, check_still

from mslab.runtime import devices


@pytest.fixture(autouse=True)
def graph():
    devices.start("cpu", "graph", 1)


@pytest.mark.parametrize("options", UPDATES, ids=str)
def test_updates_are_the_published_formula_in_a_graph(options):
    check_formula(options)


@pytest.mark.parametrize("name", NAMES)
def test_weights_that_get_no_gradient_move_by_decay_alone_in_a_graph(name):
    check_still(name)


@pytest.mark.parametrize("name", NAMES)
def test_state_copied_into_a_fresh_optimizer_continues_in_a_graph(name):
    check_copied({"optimizer": name})
