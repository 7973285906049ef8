"""Random numbers: a stream of its own for each purpose and epoch, so that using one changes nothing of another.

Weights come from MindSpore's own generator, which devices.start seeds with the same `seed`.
"""

import numpy as np

PURPOSES = ("order", "mixing", "erasing", "split")  # the place of each is part of its stream: new ones go to the end


def stream(purpose: str, seed: int, epoch: int = 0, rank: int = 0) -> np.random.Generator:
    """Random numbers for one purpose in one epoch of one worker; equal arguments give equal numbers."""
    return np.random.default_rng([seed, epoch, rank, PURPOSES.index(purpose)])


def augmentation_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """What MindSpore's random image operators are seeded with, which take one number below 2**31."""
    return (seed * 100_003 + epoch + rank * 1_000_003) % 2**31
