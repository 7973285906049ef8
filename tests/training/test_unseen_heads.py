"""`mslab suspects`: no head judges images that it was fitted to."""

import numpy as np

from mslab.report import suspects


def test_random_labels_are_not_predicted_by_any_head():
    """More features than images, all of them noise: a head fitted to an image would predict its label nevertheless."""
    features = np.random.default_rng(0).normal(size=(60, 400)).astype(np.float32)
    labels = np.arange(60) % 3
    own = suspects.out_of_sample(features, labels, 5)[np.arange(60), labels]
    assert 0.2 < own.mean() < 0.45 and (own > 0.9).sum() <= 3  # a third, as by guessing
