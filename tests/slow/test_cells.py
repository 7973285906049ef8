"""The long tests of test_cells.py."""

import pytest
from helpers import figures


def test_training_with_a_running_mean_of_weights_is_equal_in_both_modes(three, finished):
    """After each epoch the mean is written into the network for evaluation, then the weights are restored."""
    graph, eager = (
        figures(finished(three | {"epochs": 3, "ema_decay": 0.5, "mode": mode}).run) for mode in ("graph", "pynative")
    )
    for row, expected in zip(graph, eager, strict=True):
        for name in ("train_loss", "val_loss"):
            assert float(row[name]) == pytest.approx(float(expected[name]), rel=1e-3), (row, expected)
