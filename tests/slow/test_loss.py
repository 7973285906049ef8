"""Every loss in graph mode."""

import pytest
from formulas import LABELS, LOSSES, SOFT_LABELS, check_loss

from mslab.runtime import devices


@pytest.mark.parametrize("options", LOSSES, ids=str)
@pytest.mark.parametrize("targets", [LABELS, SOFT_LABELS], ids=["classes", "soft labels"])
def test_loss_and_gradient_are_the_formulas_in_a_graph(options, targets):
    devices.start("cpu", "graph", 1)
    check_loss(options, targets)
