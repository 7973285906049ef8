"""`mslab suspects`: each head judges only images that it was not fitted on."""

import numpy as np

from mslab.report import suspects


def test_no_head_can_predict_labels_of_noise():
    """More features than images, all of them noise: a head fitted on an image would predict its label anyway."""
    features = np.random.default_rng(0).normal(size=(60, 400)).astype(np.float32)
    labels = np.arange(60) % 3
    probability = suspects.out_of_sample(features, labels, 5)[np.arange(60), labels]  # of each image's label
    assert 0.2 < probability.mean() < 0.45 and (probability > 0.9).sum() <= 3  # a third, as by guessing
