"""The sigmoid, for any size of logits: in NumPy for decoding, and its logarithm in MindSpore for losses."""

import numpy as np
from mindspore import Tensor, ops


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), float64 of the same shape."""
    e = np.exp(-np.abs(logits.astype(np.float64)))
    return np.where(logits >= 0, 1, e) / (1 + e)


def negative_log_sigmoid(x: Tensor) -> Tensor:
    """-log(1 / (1 + exp(-x))) = max(-x, 0) + log(1 + exp(-|x|)): no intermediate value overflows."""
    return ops.relu(-x) + ops.log(1 + ops.exp(-ops.abs(x)))
