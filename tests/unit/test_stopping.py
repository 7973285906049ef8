"""When a run is evaluated and stopped: decided from its history alone, so that a resumed run decides the same."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mslab.config import load_settings
from mslab.training import stopping

BASE = {"train_data": "a", "val_data": "b", "class_num": 9, "epochs": 20}


def rows(*accuracies, losses=None):
    losses = losses or [1.0] * len(accuracies)
    pairs = enumerate(zip(accuracies, losses, strict=True), start=1)
    return [{"epoch": n, "val_acc": math.nan if a is None else a, "val_loss": loss} for n, (a, loss) in pairs]


def reason(history, **more):
    return stopping.reason(history, load_settings(BASE | more), 0.1)


def test_nothing_ends_a_run_that_asks_for_nothing():
    assert reason([]) == "" and reason(rows(*[0.5] * 19)) == ""


def test_early_stopping_counts_evaluations_without_a_better_one():
    settings = {"early_stopping": True, "early_stopping_patience": 3}
    assert reason(rows(0.1, 0.5, 0.5, 0.4), **settings) == ""
    assert reason(rows(0.1, 0.5, 0.5, 0.4, 0.5), **settings) == (
        "early stopping: no better val_acc than 0.5 of epoch 2 in 3 evaluations"
    )
    assert reason(rows(0.1, 0.5, None, 0.4, None, 0.5), **settings) == ""  # epochs that were not measured do not count
    assert reason(rows(0.1, 0.5, 0.5, 0.4, 0.6), **settings) == ""


def test_delay_min_epochs_and_tolerance_delay_or_hasten_the_stop():
    settings, history = {"early_stopping": True, "early_stopping_patience": 2}, rows(0.5, 0.4, 0.4)
    assert "epoch 1 in 2 evaluations" in reason(history, **settings)
    assert reason(history, early_stopping_delay=1, **settings) == ""
    assert reason(history, early_stopping_min_epochs=4, **settings) == ""
    history = rows(0.50, 0.52, 0.53)
    assert reason(history, **settings) == ""
    assert "0.5 of epoch 1" in reason(history, early_stopping_tolerance=0.1, **settings)


def test_targets_end_it():
    assert reason(rows(0.5, 0.93), target_accuracy=0.93) == "val_acc 0.93 has reached target_accuracy: 0.93"
    assert reason(rows(0.5, 0.92), target_accuracy=0.93) == ""
    history = rows(0.5, 0.5, losses=[1.0, 0.25])
    assert reason(history, target_loss=0.3) == "val_loss 0.25 has reached target_loss: 0.3"
    assert reason(history[:1], target_loss=0.3) == "" and reason(rows(0.9, None), target_accuracy=0.5) == ""


def test_plateau_lowers_the_rate_and_ends_at_the_floor():
    config = load_settings(BASE | {"lr_scheduler": "plateau", "plateau_patience": 2, "lr_floor": 0.002})
    history = rows(0.5, 0.5, 0.5)
    assert stopping.rate_factor(history, config) == pytest.approx(0.1) and stopping.reason(history, config, 0.1) == ""
    history = rows(0.5, 0.5, 0.5, 0.4, 0.4)
    assert stopping.rate_factor(history, config) == pytest.approx(0.01)
    assert "would fall to 0.001, below lr_floor: 0.002" in stopping.reason(history, config, 0.1)
    assert stopping.rate_factor(history, load_settings(BASE)) == 1


def test_which_epochs_are_measured_and_saved():
    config = load_settings(BASE | {"epochs": 5, "evaluation_frequency": 2, "checkpoint_frequency": 3})
    assert [epoch for epoch in range(5) if stopping.is_measured(epoch, config)] == [1, 3, 4]
    assert [epoch for epoch in range(5) if stopping.is_saved(epoch, config)] == [2, 4]
    config = load_settings(BASE | {"epochs": 5, "do_eval_along_train": False})
    assert [epoch for epoch in range(5) if stopping.is_measured(epoch, config)] == [4]


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=19), st.integers(1, 5), st.integers(0, 5))
def test_early_stopping_never_comes_before_patience_and_delay(accuracies, patience, delay):
    stop = reason(rows(*accuracies), early_stopping=True, early_stopping_patience=patience, early_stopping_delay=delay)
    measured = [a for a in accuracies if a is not None]
    if stop:
        assert len(measured) > patience + delay
    if len(measured) > patience + delay and len(set(measured[delay:])) == 1:
        assert stop
