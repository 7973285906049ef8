"""Equal settings give equal bytes, and random numbers of one purpose do not depend on another's."""

import os
from pathlib import Path

import numpy as np
import pytest
from helpers import STAGES, history, resolved, settings, weights
from trainings import RANDOM, compiled, same_training

import mslab
from mslab import check
from mslab.config import load_settings
from mslab.data import batching, sources
from mslab.runs import manifest
from mslab.runtime import devices
from mslab.training import build, start


@pytest.fixture(autouse=True)
def device():
    """Reset the mode that the previous test has set."""
    devices.start("cpu", "pynative", 1)


@pytest.mark.parametrize("threads", [1, 2])
def test_two_runs_are_equal_to_the_bit_also_after_another_one(threads, squares, finished, inside, request):
    config = compiled(squares)
    if threads == 2:  # which needs two cores
        request.getfixturevalue("all_cores")
        config |= {"data_workers": 2, "stages": STAGES[:1], "mode": "pynative"}  # the graph is that of one thread
    first = finished(config).run
    mslab.train(settings(squares / "two", 2, epochs=1, seed=9, optimizer="adam", dropout=0.5))
    same_training(first, mslab.train(config).run)


def test_another_seed_is_another_run(parent, squares, inside):
    different = mslab.train(settings(squares / "three", 3, epochs=1, seed=2)).run
    assert weights(parent) != weights(different)
    assert (parent / "steps.csv").read_bytes() != (Path(different) / "steps.csv").read_bytes()
    assert history(parent)[0]["train_loss"] != history(different)[0]["train_loss"]


def test_the_number_of_threads_is_recorded_as_it_was(squares, inside, caplog):
    """MindSpore augments differently with another number of threads: the config must have the number that was used."""
    own = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(own)})
        run = mslab.train(settings(squares / "three", 3, epochs=1, data_workers=2)).run
    finally:
        os.sched_setaffinity(0, own)
    assert "data_workers: 2 becomes 1, the number of cores of this machine" in caplog.text
    assert load_settings(Path(run) / "config.yaml").data_workers == 1
    assert manifest.load(Path(run))["environment"]["cpu"]["cores"] == 1


def test_a_resume_on_fewer_cores_reports_that_it_augments_differently(squares, inside, all_cores, caplog):
    run = mslab.train(settings(squares / "three", 3, epochs=2, data_workers=2, max_training_time=1e-9)).run
    assert "images are augmented differently" not in caplog.text
    own = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(own)})
        start.resume(run)
    finally:
        os.sched_setaffinity(0, own)
    assert (
        "note: data_workers: 2, but 1 cores here: images are augmented differently than in an uninterrupted run"
        in caplog.text
    )
    assert manifest.load(Path(run))["resumed"][0]["environment"]["cpu"]["cores"] == 1


def test_plain_mindspore_draws_differently_with_another_number_of_threads(squares, all_cores):
    images = sources.images_of(check.check_dataset(squares / "three" / "train"), "")
    config = load_settings(settings(squares / "three", 3, crop_scale=0.3, color_jitter=0.5))
    first, again, second = (
        np.concatenate([x for x, _ in batching.train_batches(images, config.replace(data_workers=n), 0)])
        for n in (1, 1, 2)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, second)


# --- streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{"random_erasing": 0.5}, {"mixup_alpha": 0.5}, {"cutmix_alpha": 1.0}])
def test_adding_one_purpose_leaves_the_others_unchanged(more, squares):
    images = sources.images_of(check.check_dataset(squares / "three" / "train"), "")
    config = load_settings(settings(squares / "three", 3, crop_scale=0.4, color_jitter=0.4))
    order = batching.order_of(images, config, 3)
    assert np.array_equal(order, batching.order_of(images, config.replace(**more), 3))
    plain = dict(zip(range(99), batching.augmented(images, config, 3, order), strict=False))
    touched = dict(zip(range(99), batching.train_batches(images, config.replace(**more), 3), strict=False))
    for number, (x, y) in touched.items():
        before, labels = plain[number]
        if "random_erasing" in more:  # the rest is unchanged
            assert ((x == before) | (x == 0)).all() and (x != before).any() and np.array_equal(y, labels)
    mixed = load_settings(settings(squares / "three", 3, crop_scale=0.4, color_jitter=0.4, **more))
    again = list(batching.augmented(images, mixed, 3, order))
    if "random_erasing" not in more:  # mixing comes after: the images it mixes are the same
        assert all(np.array_equal(x, plain[number][0]) for number, (x, _) in enumerate(again))


def test_weights_begin_alike_with_any_other_settings(squares, inside):
    values = []
    for more in ({}, RANDOM, {"batch_size": 4, "optimizer": "adam", "lr_max": 0.01, "data_workers": 1}):
        config = resolved(**settings(squares / "three", 3, **more))
        devices.start("cpu", "pynative", seed=config.seed)
        network = build.new_network(config)
        values.append({p.name: p.asnumpy().tobytes() for p in network.get_parameters()})
    assert values[0] == values[1] == values[2]


# --- seed: null, deterministic ---------------------------------------------------------------------------------------


def test_without_a_seed_one_is_drawn_reported_and_recorded(squares, inside, caplog):
    run = mslab.train(settings(squares / "three", 3, epochs=1, seed=None)).run
    seed = load_settings(Path(run) / "config.yaml").seed
    log = caplog.text
    assert isinstance(seed, int) and f"seed: null drew {seed}; seed={seed} repeats this" in log
    assert manifest.load(Path(run))["seed"] == seed
    same_weights = weights(mslab.train(settings(squares / "three", 3, epochs=1, seed=seed)).run)
    assert same_weights == weights(run)
    drawn = {load_settings(settings(squares / "three", 3), ["seed=null"]).seed for _ in range(4)}
    assert len(drawn) == 4
