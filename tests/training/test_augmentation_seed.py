"""The augmentation of an image follows from the seed and the epoch, as does its position in the order."""

import numpy as np

from mslab.check import check_dataset
from mslab.config import load_settings
from mslab.data import batching, sources


def test_the_seed_and_the_epoch_decide_what_happens_to_each_image(three):
    """The order is the same: only cropping, flipping and colours are random."""
    images = sources.images_of(check_dataset(three["train_data"]), "")

    def pixels(seed, epoch=0, rank=0):
        config = load_settings(three | {"seed": seed})
        batches = list(batching.augmented(images, config, epoch, np.arange(16), rank))
        assert [list(labels) for _, labels in batches] == [list(images.labels[:8]), list(images.labels[8:16])]
        return np.concatenate([x for x, _ in batches])

    first = pixels(1)
    assert np.array_equal(first, pixels(1))
    for different in (pixels(2), pixels(1, epoch=1), pixels(1, rank=1)):
        changed = np.abs(first - different).reshape(16, -1).max(axis=1) > 0.1
        assert changed.sum() >= 12  # of 16: nearly every image is another one
