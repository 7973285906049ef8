"""No setting is accepted and ignored: each is set here, and something differs, or a test that is named shows it."""

import hashlib
import json
import re
from functools import cache

import mindspore as ms
import numpy as np
import pytest
from helpers import PROJECT, STAGES, settings

from mslab import check, data, evaluation, loss, runtime, schedule, training
from mslab.config import FIELDS, load_config
from mslab.progress import Meter
from mslab.steps import Plan

BASE = {"stages": STAGES[:1], "epochs": 3, "warmup_epochs": 1, "image_size": 16, "batch_size": 6, "class_num": 3}
BASE |= {"mode": "pynative"}
ADAM = {"optimizer": "adam", "lr_init": 1e-3, "lr_max": 1e-3}
SEEN = {"lr_scheduler": "step"}

RATES = {  # setting: (another value, what it is set beside)
    "epochs": (4, {}),
    "lr_scheduler": ("constant", {}),
    "warmup_epochs": (2, {}),
    "lr_init": (0.02, {}),
    "lr_max": (0.2, {}),
    "lr_end": (0.01, {}),
    "cosine_cycles": (1.5, {}),
    "step_lr_gamma": (0.25, {"lr_scheduler": "step", "step_lr_step_size": 1}),
    "step_lr_step_size": (2, {"lr_scheduler": "step"}),
    "lr_scheduler_step": ("2", {}),
    "lr_scheduler_factor": (0.5, {"lr_scheduler_step": "2"}),
    "learning_rate_strategy": ("1:0.1->0.2,3:0.2~>0.01", {}),
}
BATCHES = {
    "image_size": (32, {}),
    "train_crop_size": (24, {}),
    "batch_size": (4, {}),
    "label_balance": (True, {}),
    "crop_scale": (1.0, {}),
    "flip": (False, {}),
    "vertical_flip": (True, {}),
    "color_jitter": (0.0, {}),
    "auto_augment": ("randaugment", {}),
    "random_erasing": (1.0, {}),
    "mixup_alpha": (0.4, {}),
    "cutmix_alpha": (1.0, {}),
    "transform_normalize": (False, {}),
    "mean": ([0.5, 0.5, 0.5], {}),
    "std": ([0.5, 0.5, 0.5], {}),
    "seed": (2, {}),
}
MEASURED = {"valid_resize_size": (20, {}), "valid_crop_size": (16, {"valid_resize_size": 32, "image_size": 32})}
WEIGHTS = {
    "stages": ([[1, 16, 1]], {}),
    "profile": ({"eps": 0.01}, {}),
    "stem": ("small", {}),
    "head_hidden": (8, {}),
    "dropout": (0.5, {}),
    "optimizer": ("adam", {}),
    "momentum": (0.5, {}),
    "nesterov": (True, {}),
    "beta1": (0.5, ADAM),
    "beta2": (0.9, ADAM),
    "amsgrad": (True, ADAM | {"beta2": 0.5}),
    "weight_decay": (0.1, {}),
    "clip_grad_norm": (0.01, {}),
    "grad_accumulation_step": (2, {}),
    "label_smoothing": (0.2, {}),
    "weighted_loss": (2, {}),
    "focal_gamma": (2.0, {}),
    "ohem_top_ratio": (0.5, {}),
    "lr_scale": ({"backbone": 0.1}, {}),
}
ELSEWHERE = {  # setting: a test that sees what it does
    "train_data": "test_training.py::test_wrong_data_stops_before_a_run_folder_is_made",
    "val_data": "test_config.py::test_contradictions_and_ranges",
    "class_num": "test_training.py::test_wrong_data_stops_before_a_run_folder_is_made",
    "validation_batch_size": "test_controls.py::test_a_smaller_batch_for_measuring_gives_the_same_figures",
    "rescale_train_batch_size_factor": "test_controls.py::test_a_batch_is_at_most_a_share_of_the_images",
    "data_workers": "test_packing.py::",
    "cache": "test_cache.py::",
    "freeze": "test_freezing.py::",
    "layers_to_freeze": "test_freezing.py::",
    "freeze_layer_pattern": "test_freezing.py::",
    "unfreeze": "test_freezing.py::",
    "feature_views": "test_features.py::",
    "plateau_patience": "test_controls.py::test_plateau_lowers_the_rate_while_it_trains",
    "lr_floor": "test_stopping.py::test_plateau_lowers_the_rate_and_ends_at_the_floor",
    "ema_decay": "test_controls.py::test_the_running_mean_is_measured_and_kept_and_resumes",
    "do_eval_along_train": "test_controls.py::test_epochs_that_are_not_measured",
    "evaluation_frequency": "test_controls.py::test_epochs_that_are_not_measured",
    "checkpoint_frequency": "test_controls.py::test_last_ckpt_every_so_many_epochs",
    "early_stopping": "test_controls.py::test_early_stopping_ends_the_run_and_says_why",
    "early_stopping_patience": "test_stopping.py::test_early_stopping_counts_evaluations_without_a_better_one",
    "early_stopping_delay": "test_stopping.py::test_delay_min_epochs_and_tolerance_hold_it_back_or_bring_it_on",
    "early_stopping_min_epochs": "test_stopping.py::test_delay_min_epochs_and_tolerance_hold_it_back_or_bring_it_on",
    "early_stopping_tolerance": "test_stopping.py::test_delay_min_epochs_and_tolerance_hold_it_back_or_bring_it_on",
    "target_accuracy": "test_controls.py::test_a_target_ends_the_run",
    "target_loss": "test_stopping.py::test_targets_end_it",
    "max_training_time": "test_controls.py::test_time_that_is_up_leaves_a_run_to_go_on_with",
    "on_nan": "test_controls.py::test_a_rollback_goes_on_at_a_tenth_of_the_rate",
    "log_to": "test_eventlog.py::test_nothing_else_changes_and_without_it_nothing_is_imported",
    "device": "test_training.py::test_a_device_that_is_not_there_leaves_a_message_and_exit_1",
    "sync_bn": "test_workers.py::",
    "lr_scaling": "test_workers.py::",
    "amp_level": "test_workers.py::",
    "deterministic": "test_determinism.py::",
    "jit_level": "test_workers.py::",
    "max_device_memory": "test_workers.py::",
    "mode": "test_training.py::test_pynative_learns_the_same",
    "max_to_keep": "test_training.py::",
}


def test_every_setting_is_in_one_of_these_lists():
    listed = [*RATES, *BATCHES, *MEASURED, *WEIGHTS, *ELSEWHERE]
    assert sorted(listed) == sorted(FIELDS)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_the_tests_that_are_named_set_it(name):
    file, _, test = ELSEWHERE[name].partition("::")
    text = (PROJECT / "tests" / file).read_text()
    assert f"def {test}" in text if test else True
    assert re.search(rf"\b{name}\b", text), f"{file} does not mention {name}"


def both(name, row, squares):
    value, beside = row
    plain = settings(squares / "three", 3) | BASE | beside
    assert plain.get(name, FIELDS[name].default) != value
    return load_config(plain), load_config(plain | {name: value})


@pytest.mark.parametrize("name", RATES)
def test_it_changes_the_rates(name, squares):
    before, after = (schedule.rates(config, 5) for config in both(name, RATES[name], squares))
    assert len(before) != len(after) or not np.array_equal(before, after)


@cache
def images(root):
    report = check.check_dataset(root / "train", root / "val")
    return evaluation.images_of(report, "train"), evaluation.images_of(report, "val")


def digest(batches):
    found = hashlib.sha256()
    for x, y in batches:
        found.update(x.tobytes() + y.tobytes())
    return found.hexdigest()


@pytest.mark.parametrize("name", BATCHES)
def test_it_changes_the_batches(name, squares):
    train, _ = images(squares / "three")
    before, after = (digest(data.train_batches(train, c, 0)) for c in both(name, BATCHES[name], squares))
    assert before != after


@pytest.mark.parametrize("name", MEASURED)
def test_it_changes_what_is_measured(name, squares):
    before, after = (
        digest(data.ImageFeed(*images(squares / "three"), c).val()) for c in both(name, MEASURED[name], squares)
    )
    assert before != after


@pytest.mark.parametrize("name", WEIGHTS)
def test_it_changes_the_weights(name, squares):
    before, after = (trained(config, squares / "three") for config in both(name, WEIGHTS[name], squares))
    assert before != after


TRAINED = {}  # what is compared with is the same for most settings


def trained(config, root):
    """sha256 of a network's parameters after four steps."""
    key = json.dumps(config, sort_keys=True)
    if key not in TRAINED:
        TRAINED[key] = train(config, root)
    return TRAINED[key]


def train(config, root):
    training.settle(config)
    runtime.start("cpu", "pynative", seed=1)  # nothing to compile
    network = training.new_network(config)
    feed = data.ImageFeed(*images(root), config)
    rates = schedule.rates(config, 4)
    counts = np.array([24, 8, 2])  # so that classes weigh differently
    plan = Plan(network, network, feed, rates, loss.build(config, counts), config)
    with Meter(4) as meter:
        step = plan.step(0, [], meter)
    for x, y in plan.batches(0):
        step(ms.Tensor(x), ms.Tensor(y))
    found = hashlib.sha256()
    for parameter in network.get_parameters():
        found.update(parameter.asnumpy().tobytes())
    return found.hexdigest()
