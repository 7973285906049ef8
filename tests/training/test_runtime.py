"""MindSpore's behaviour that mslab.runtime guards against."""

import pytest


def test_plain_mindspore_refuses_more_workers_than_cores():
    import mindspore.dataset as ds

    with pytest.raises(ValueError, match="exceeds the boundary"):
        ds.NumpySlicesDataset([1, 2]).map(lambda x: x, num_parallel_workers=10_000)
