"""Random numbers: one stream for each purpose and epoch, so that drawing from one does not change another.

Weights come from MindSpore's own generator, which devices.start seeds with the same `seed`.
"""

import numpy as np

PURPOSES = (
    "order",
    "mixing",
    "erasing",
    "split",
    "labels",
)  # the index is part of the seed: append new ones at the end


def stream(purpose: str, seed: int, epoch: int = 0, rank: int = 0) -> np.random.Generator:
    """Random generator for one purpose in one epoch of one worker. Equal arguments give equal numbers."""
    return np.random.default_rng([seed, epoch, rank, PURPOSES.index(purpose)])


def augmentation_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """Seed for MindSpore's random image operators, which take one integer below 2**31."""
    return (seed * 100_003 + epoch + rank * 1_000_003) % 2**31
