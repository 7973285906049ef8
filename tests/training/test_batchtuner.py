"""The largest batch that fits: real steps in separate processes, and a process that uses too much memory."""

import pytest

from mslab.config import load_settings
from mslab.errors import MslabError
from mslab.experiments import batch_tuner


@pytest.fixture
def config(three):
    return load_settings(three | {"stages": [[1, 8, 1]], "image_size": 16})


def pretend(most):
    """attempt(), with batches above `most` that do not fit."""

    def attempt(settings):
        fits = settings.batch_size <= most
        speed = min(settings.batch_size, 40.0)
        return {"fits": fits, "why": "" if fits else "too much", "images_per_s": speed * fits, "memory": 2**30}

    return attempt


@pytest.mark.parametrize(
    "limit,most,tried,largest",
    [
        (1000, 64, [8, 16, 32, 64], 64),
        (1000, 50, [8, 16, 32, 50], 50),
        (40, 1024, [8, 16, 32, 64, 48, 40], 40),
        (63, 1024, [8, 16, 32, 64, 48, 56], 56),
        (9, 1024, [8, 16, 12, 10], 8),
        (4, 4, [4], 4),
    ],
)
def test_the_search(config, monkeypatch, limit, most, tried, largest):
    monkeypatch.setattr(batch_tuner, "attempt", pretend(limit))
    messages = []
    result = batch_tuner.tune_batch(config, most, messages.append)
    assert [int(line.split()[1].rstrip(":")) for line in messages] == tried and result["largest"] == largest
    assert [row["batch_size"] for row in result["tried"]] == sorted(tried)
    text = batch_tuner.table(result)
    assert f"largest that fits: batch_size={largest}" in text and ("too much" in text) == (limit < max(tried))


def test_it_is_an_error_if_nothing_fits(config, monkeypatch):
    monkeypatch.setattr(batch_tuner, "attempt", pretend(1))
    with pytest.raises(MslabError, match=r"Not even batch_size 8 fits: too much(?s:.*)a smaller image_size"):
        batch_tuner.tune_batch(config, 64)


def test_from_which_batch_on_it_is_hardly_faster():
    rows = [{"batch_size": size, "images_per_s": speed} for size, speed in ((8, 20), (16, 39), (32, 40), (64, 0))]
    assert "from batch_size=16 on" in batch_tuner.fastest(rows)


def test_a_process_that_uses_too_much_is_killed_and_reported(config, monkeypatch):
    monkeypatch.setattr(batch_tuner, "MEMORY_FRACTION", 1e-3)
    row = batch_tuner.attempt(config)
    assert not row["fits"] and "uses more than 0.0 GiB, 0% of the free memory" in row["why"]
    assert row["memory"] > 10 * 2**20


def test_a_process_that_dies_is_reported(config):
    row = batch_tuner.attempt(config.model_copy(update={"optimizer": "none such"}))
    assert not row["fits"] and "Error" in row["why"] and row["images_per_s"] == 0
