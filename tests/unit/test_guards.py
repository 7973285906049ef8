"""Each guard of the monitor fires on its problem, suggests a fix, and is silent otherwise."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import PROJECT, settings

from mslab.config import load_settings
from mslab.errors import ConfigError
from mslab.training import monitor
from mslab.training.callbacks import Step, Totals
from mslab.training.monitor import Monitor

NAMES = ["a", "b", "c"]


def make_monitor(warned=()):
    messages = {}
    return Monitor(NAMES, messages.__setitem__, warned), messages


def step(guard, number, loss, labels, rate=0.1):
    guard.step_end(Step(number, loss, np.zeros(0), np.array(labels), rate, Totals()))


def row(epoch, train_loss=1.0, train_acc=0.5, val_loss=1.0, val_acc=0.5, lr=0.1, seconds=1.0):
    return locals()


def test_a_loss_that_explodes_warns_and_one_that_is_high_or_jumps_once_does_not():
    guard, messages = make_monitor()
    for number, loss in enumerate([4.0] * 20 + [60.0] + [4.0] * 20):
        step(guard, number, loss, [0, 1])
    assert messages == {}
    for number in range(41, 51):
        step(guard, number, 20.0, [0, 1])
    assert (
        "13.6 over the last 10 steps (step 47, lr 0.1), 4 in the first" in messages["loss-explodes"]
    )  # 4 + 6 * 16 / 10
    assert "lower lr_max to a tenth or less (mslab lr-find CONFIG suggests one)" in messages["loss-explodes"]


def test_a_rate_that_is_too_high_from_the_first_step_on_warns_after_ten_steps_or_the_first_epoch():
    guard, messages = make_monitor()
    for number, loss in enumerate([1.1] + [20.0] * 8):  # the first loss is that of random weights
        step(guard, number, loss, [0, 1], rate=30)
    assert messages == {}
    step(guard, 9, 20.0, [0, 1], rate=30)
    assert "18.1 over the last 10 steps (step 10, lr 30), 1.1 in the first" in messages["loss-explodes"]
    guard, messages = make_monitor()
    for number, loss in enumerate([1.1, 9.0, 9.0]):
        step(guard, number, loss, [0, 1], rate=30)
    guard.explodes(3, 30)  # at the end of an epoch of three steps
    assert "6.37 over the last 3 steps (step 3, lr 30), 1.1 in the first" in messages["loss-explodes"]


def test_a_loss_that_stays_warns_and_one_that_moves_or_is_low_does_not():
    guard, messages = make_monitor()
    guard.still([row(1, train_loss=1.0)])
    guard.still([row(1, train_loss=1.0), row(2, train_loss=0.98)])
    guard.still([row(1, train_loss=0.01, train_acc=1.0), row(2, train_loss=0.01, train_acc=1.0)])
    guard.still([row(n) for n in range(1, 6)])  # it warns early or not at all
    assert messages == {}
    guard.still([row(1, train_loss=1.0, lr=0.02), row(2, train_loss=0.995, lr=0.01)])
    assert "the loss does not move: 1 in epoch 1, 0.995 in epoch 2" in messages["loss-still"]
    assert "at most 0.02 so far" in messages["loss-still"] and "mslab lr-find" in messages["loss-still"]


def test_one_class_for_all_images_warns_at_the_second_time_in_a_row():
    guard, messages = make_monitor()
    one_class = {"images": 9, "accuracy": 0.4, "confusion": [[0, 4, 0], [0, 3, 0], [0, 2, 0]]}
    two_classes = {"images": 9, "accuracy": 0.4, "confusion": [[0, 4, 0], [0, 3, 0], [0, 1, 1]]}
    for figures in (one_class, two_classes, one_class):
        guard.one_answer(figures)
    assert messages == {}
    guard.one_answer(one_class)
    text = messages["one-answer"]
    assert "all 9 validation images are classified as b, in two evaluations in a row: val_acc 0.400" in text


def test_an_epoch_that_waits_for_images_warns_and_one_that_waits_little_does_not():
    guard, messages = make_monitor()
    for waited, seconds in ((5.5, 10.0), (4.9, 5.0)):
        guard.data(row(1, seconds=seconds), waited)
    assert messages == {}
    guard.data(row(3, seconds=10.0), 7.0)
    assert "7 of 10 s of epoch 3 were spent waiting for images" in messages["waiting-for-data"]
    assert "cache=memory" in messages["waiting-for-data"]


def test_labels_that_are_all_the_same():
    guard, messages = make_monitor()
    step(guard, 0, 1.0, [1, 1])
    guard.labels()
    assert "every label of this epoch was b" in messages["one-label"]
    second, messages = make_monitor()
    step(second, 0, 1.0, [[0.9, 0.1, 0], [0, 0.2, 0.8]])
    second.labels()
    assert messages == {}


def test_accuracy_at_chance_warns_and_a_bad_start_does_not():
    guard, messages = make_monitor()
    guard.chance([row(n, train_acc=0.34, val_acc=0.33) for n in (1, 2)])
    guard.chance([row(1, train_acc=0.34, val_acc=0.33), row(2, train_acc=0.5, val_acc=0.33), row(3, train_acc=0.6)])
    assert messages == {}
    guard.chance([row(n, train_acc=0.34, val_acc=0.33) for n in (1, 2, 3)])
    assert "what guessing among 3 classes gives" in messages["chance"]


def test_overfitting_warns_and_a_gap_alone_does_not():
    guard, messages = make_monitor()
    guard.overfitting([row(n, train_acc=0.95, val_acc=0.6, val_loss=1.0) for n in (1, 2, 3)])  # a gap, and no worse
    assert messages == {}
    guard.overfitting([row(1)] + [row(n, train_acc=0.95, val_acc=0.6, val_loss=1.5) for n in (2, 3)])
    assert "train_acc 0.950, val_acc 0.600" in messages["overfitting"] and "mixup_alpha" in messages["overfitting"]


def test_a_batch_size_of_one_is_refused_with_the_reason(tmp_path):
    with pytest.raises(ConfigError, match="BatchNorm"):
        load_settings(settings(tmp_path, 3, batch_size=1))


def test_each_warning_is_given_once_also_after_a_resume():
    guard, messages = make_monitor(warned=["one-label"])
    step(guard, 0, 1.0, [1, 1])
    guard.labels()
    assert messages == {}
    count = []
    second = Monitor(NAMES, lambda code, text: count.append(code))
    for _ in range(3):
        second.overfitting([row(1)] + [row(n, train_acc=0.95, val_acc=0.6, val_loss=1.5) for n in (2, 3)])
    assert count == ["overfitting"]


def test_epochs_without_evaluation_are_skipped():
    guard, messages = make_monitor()
    guard.overfitting([row(1), row(2, val_acc=math.nan, val_loss=math.nan), row(3)])
    guard.chance([row(1, val_acc=math.nan), row(2), row(3)])
    assert messages == {}


def test_the_docs_page_has_a_row_for_each_warning():
    codes = re.findall(r'self\.warn\(\s*"([a-z-]+)"', Path(monitor.__file__).read_text())
    page = (PROJECT / "docs" / "controls.md").read_text(encoding="utf-8")
    assert set(codes) == set(re.findall(r"^\| `([a-z-]+)` \|", page[page.index("## Guards") :], re.MULTILINE))
