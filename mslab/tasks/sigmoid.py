"""The sigmoid, for any size of logits: in NumPy for decoding, and its logarithm in MindSpore for losses."""

import numpy as np
from mindspore import Tensor, ops


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), float64 of the same shape."""
    e = np.exp(-np.abs(logits.astype(np.float64)))
    return np.where(logits >= 0, 1, e) / (1 + e)


def negative_log_sigmoid(x: Tensor) -> Tensor:
    """-log(1 / (1 + exp(-x))) = max(-x, 0) + log(1 + exp(-|x|)): no intermediate value overflows."""
    # by log1p: ops.log rounds the elements at the end of a thread's part of the tensor otherwise than those before,
    # and MindSpore times several numbers of threads and changes to the fastest while a process runs
    return ops.relu(-x) + ops.log1p(ops.exp(-ops.abs(x)))
