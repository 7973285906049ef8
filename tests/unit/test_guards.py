"""Each guard fires where its trouble is seen, says what helps, and is silent elsewhere."""

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


def watch(warned=()):
    said = {}
    return Monitor(NAMES, said.__setitem__, warned), said


def step(one, number, loss, labels, rate=0.1):
    one.step_end(Step(number, loss, np.zeros(0), np.array(labels), rate, Totals()))


def row(epoch, train_loss=1.0, train_acc=0.5, val_loss=1.0, val_acc=0.5, lr=0.1, seconds=1.0):
    return locals()


def test_a_loss_that_explodes_and_not_one_that_is_high_or_jumps_once():
    one, said = watch()
    for number, loss in enumerate([4.0] * 20 + [60.0] + [4.0] * 20):
        step(one, number, loss, [0, 1])
    assert said == {}
    for number in range(41, 51):
        step(one, number, 20.0, [0, 1])
    assert "13.6 over the last 10 steps (step 47, lr 0.1), 4 over the first" in said["loss-explodes"]  # 4 + 6 * 16 / 10
    assert "lower lr_max to a tenth" in said["loss-explodes"]


def test_a_loss_that_stays_and_not_one_that_moves_or_is_low_already():
    one, said = watch()
    one.still([row(1, train_loss=1.0)])
    one.still([row(1, train_loss=1.0), row(2, train_loss=0.98)])
    one.still([row(1, train_loss=0.01, train_acc=1.0), row(2, train_loss=0.01, train_acc=1.0)])
    one.still([row(n) for n in range(1, 6)])  # it is said early or not at all
    assert said == {}
    one.still([row(1, train_loss=1.0, lr=0.02), row(2, train_loss=0.995, lr=0.01)])
    assert "the loss does not move: 1 in epoch 1, 0.995 in epoch 2" in said["loss-still"]
    assert "at most 0.02 so far" in said["loss-still"] and "mslab lr-find" in said["loss-still"]


def test_one_answer_twice_in_a_row_and_not_once():
    one, said = watch()
    one_class = {"images": 9, "accuracy": 0.4, "confusion": [[0, 4, 0], [0, 3, 0], [0, 2, 0]]}
    two_classes = {"images": 9, "accuracy": 0.4, "confusion": [[0, 4, 0], [0, 3, 0], [0, 1, 1]]}
    for figures in (one_class, two_classes, one_class):
        one.one_answer(figures)
    assert said == {}
    one.one_answer(one_class)
    assert (
        "all 9 validation images are classified as b, in two evaluations in a row: val_acc 0.400" in said["one-answer"]
    )


def test_an_epoch_that_waits_for_images_and_not_one_that_waits_little():
    one, said = watch()
    for waited, seconds in ((5.5, 10.0), (4.9, 5.0)):
        one.data(row(1, seconds=seconds), waited)
    assert said == {}
    one.data(row(3, seconds=10.0), 7.0)
    assert "7 of 10 s of epoch 3 were spent waiting for images" in said["waiting-for-data"]
    assert "cache=memory" in said["waiting-for-data"]


def test_labels_that_are_all_the_same():
    one, said = watch()
    step(one, 0, 1.0, [1, 1])
    one.labels()
    assert "every label of this epoch was b" in said["one-label"]
    other, said = watch()
    step(other, 0, 1.0, [[0.9, 0.1, 0], [0, 0.2, 0.8]])
    other.labels()
    assert said == {}


def test_chance_and_not_a_bad_start():
    one, said = watch()
    one.chance([row(n, train_acc=0.34, val_acc=0.33) for n in (1, 2)])
    one.chance([row(1, train_acc=0.34, val_acc=0.33), row(2, train_acc=0.5, val_acc=0.33), row(3, train_acc=0.6)])
    assert said == {}
    one.chance([row(n, train_acc=0.34, val_acc=0.33) for n in (1, 2, 3)])
    assert "what guessing among 3 classes gives" in said["chance"]


def test_overfitting_and_not_a_gap_alone():
    one, said = watch()
    one.overfitting([row(n, train_acc=0.95, val_acc=0.6, val_loss=1.0) for n in (1, 2, 3)])  # a gap, and no worse
    assert said == {}
    one.overfitting([row(1)] + [row(n, train_acc=0.95, val_acc=0.6, val_loss=1.5) for n in (2, 3)])
    assert "train_acc 0.950, val_acc 0.600" in said["overfitting"] and "mixup_alpha" in said["overfitting"]


def test_a_batch_of_one_is_refused_with_the_reason(tmp_path):
    with pytest.raises(ConfigError, match="BatchNorm"):
        load_settings(settings(tmp_path, 3, batch_size=1))


def test_each_is_said_once_also_after_a_resume():
    one, said = watch(warned=["one-label"])
    step(one, 0, 1.0, [1, 1])
    one.labels()
    assert said == {}
    count = []
    two = Monitor(NAMES, lambda code, text: count.append(code))
    for _ in range(3):
        two.overfitting([row(1)] + [row(n, train_acc=0.95, val_acc=0.6, val_loss=1.5) for n in (2, 3)])
    assert count == ["overfitting"]


def test_epochs_that_were_not_measured_are_left_out():
    one, said = watch()
    one.overfitting([row(1), row(2, val_acc=math.nan, val_loss=math.nan), row(3)])
    one.chance([row(1, val_acc=math.nan), row(2), row(3)])
    assert said == {}


def test_the_page_has_a_row_for_each():
    codes = re.findall(r'self\.warn\(\s*"([a-z-]+)"', Path(monitor.__file__).read_text())
    page = (PROJECT / "docs" / "controls.md").read_text(encoding="utf-8")
    assert set(codes) == set(re.findall(r"^\| `([a-z-]+)` \|", page[page.index("## Guards") :], re.MULTILINE))
