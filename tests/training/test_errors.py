"""Errors provoked in MindSpore and explained."""

import numpy as np
import pytest

from mslab.errors import explain


def test_a_rate_list_that_is_too_short_is_explained():
    import mindspore as ms
    from mindspore import nn, ops

    from mslab.runtime import devices

    devices.start("cpu", "pynative", 1)
    weight = ms.Parameter(ms.Tensor(np.ones(2, np.float32)), name="w")
    optimizer = nn.Momentum([weight], learning_rate=[0.1, 0.1], momentum=0.9)
    with pytest.raises(Exception) as caught:
        for _ in range(4):
            optimizer((ops.ones_like(weight),))
            weight.asnumpy()
    text = str(explain(caught.value, "runs/x/train.log"))
    assert "learning-rate list ended" in text and "expected" in text and "runs/x/train.log" in text
