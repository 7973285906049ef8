"""Learning rates compared with MindSpore's own curves."""

import pytest
from mindspore import nn

from mslab.schedule import parse, step_decay, strategy_rates, warmup_cosine


@pytest.mark.parametrize("epochs,steps", [(1, 9), (3, 5), (10, 7)])
def test_mindspores_own_curves(epochs, steps):
    total = epochs * steps
    own = nn.cosine_decay_lr(0.01, 0.4, total - 1, 1, total - 1)  # its last step is one after the run
    assert warmup_cosine(epochs, steps, 0, 0.0, 0.4, 0.01)[:-1] == pytest.approx(own, rel=1e-5)
    own = nn.piecewise_constant_lr([steps, total + 1], [0.4, 0.04])[:total]
    assert step_decay(epochs, steps, 0, 0.0, 0.4, [1], 0.1) == pytest.approx(own, rel=1e-5)
    own = nn.exponential_decay_lr(0.4, 0.1, total, 1, total - 1)
    assert strategy_rates(parse(f"{epochs}:0.4=>{0.4 * 0.1}"), steps) == pytest.approx(own, rel=1e-5)
    own = nn.polynomial_decay_lr(0.4, 0.01, total, 1, total - 1, 1.0)
    assert strategy_rates(parse(f"{epochs}:0.4->0.01"), steps) == pytest.approx(own, rel=1e-5)
