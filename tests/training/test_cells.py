"""Parameters overwritten while a network trains, in both of MindSpore's modes."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from mslab import cpu_layout

ONES = np.ones(2, np.float32)


def stepped(mode, put):
    """(weight, step counter) after three updates by -0.1, a reset to 1 by `put`, and one more update."""
    ms.set_context(mode=mode)
    weight = ms.Parameter(ms.Tensor(ONES), name="w")
    optimizer = nn.Momentum([weight], learning_rate=[0.1] * 8, momentum=0.0)
    for _ in range(3):
        optimizer((ms.Tensor(ONES),))
    for parameter, value in ((weight, ONES), (optimizer.global_step, np.array([1], np.int32))):
        put(parameter, value)
    assert np.array_equal(weight.asnumpy(), ONES) and optimizer.global_step.asnumpy() == [1]
    optimizer((ms.Tensor(ONES),))
    return weight.asnumpy(), optimizer.global_step.asnumpy()


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_an_overwritten_parameter_is_trained_on(mode):
    weight, step = stepped(mode, cpu_layout.overwrite)
    assert np.allclose(weight, 0.9) and step == [2]


def test_plain_mindspore_loses_an_optimizer_by_set_data():
    weight, step = stepped(ms.PYNATIVE_MODE, lambda parameter, value: parameter.set_data(ms.Tensor(value)))
    assert np.array_equal(weight, ONES) and step == [1]  # the update went elsewhere
