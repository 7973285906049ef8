"""Learning rate per step, against values worked out by hand."""

import numpy as np
import pytest

from mslab.schedule import warmup_cosine


def test_values_by_hand():
    assert warmup_cosine(3, 2, 1, 0.0, 1.0) == pytest.approx([0, 0.5, 1, 0.75, 0.25, 0])


def test_warmup_rises_at_every_step_and_is_not_zero_for_an_epoch():
    rates = warmup_cosine(10, 7, 3, 0.01, 0.1)
    assert (np.diff(rates[: 3 * 7 + 1]) > 0).all()  # MindSpore's nn.warmup_lr is a staircase that starts at 0
    assert rates[0] == pytest.approx(0.01) and rates[21] == pytest.approx(0.1) == rates.max()
    assert (np.diff(rates[21:]) < 0).all() and rates[-1] == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(
    "epochs,steps,warmup", [(1, 1, 0), (1, 1, 1), (1, 5, 1), (2, 1, 1), (12, 90, 2), (3, 4, 9), (4, 10, 0.3)]
)
def test_as_long_as_the_run_and_within_bounds(epochs, steps, warmup):
    rates = warmup_cosine(epochs, steps, warmup, 0.01, 0.1, 0.001)
    assert rates.shape == (epochs * steps,) and rates.dtype == np.float32
    assert rates.min() >= 0.001 - 1e-7 and rates.max() <= 0.1 + 1e-7


def test_a_part_of_an_epoch_is_a_warmup_too():
    assert warmup_cosine(2, 4, 0.5, 0.0, 1.0)[:4] == pytest.approx([0, 0.5, 1, (1 + np.cos(np.pi / 5)) / 2])
