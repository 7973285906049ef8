"""The linear model as a baseline for networks."""

from helpers import draw, settings

import mslab


def test_the_linear_model_is_fitted_on_training_images_and_scored_on_the_others(inside):
    """In val the classes look like each other's training images: a model fitted to those is always wrong there."""
    draw(inside / "set" / "train", ["a", "b"], 8, seed=1)
    draw(inside / "set" / "val", ["b", "a"], 6, seed=2)
    result = mslab.train(settings(inside / "set", 2, epochs=1, warmup_epochs=0))
    assert result.linear_acc == 0.0
