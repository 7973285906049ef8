"""The rule of --threshold, what it is told on the command line, and what a recall costs."""

import math
import re

import numpy as np
import pytest

from mslab.errors import ConfigError
from mslab.evaluation import metrics, thresholds

NAMES = ["edible", "poisonous", "fly agaric", "a=b", "3"]


def decided(probabilities, **limits):
    names = "abc"[: len(probabilities)]
    return thresholds.decide(np.array([probabilities]), np.array([limits.get(name, math.nan) for name in names]))[0]


@pytest.mark.parametrize(
    ("probabilities", "limits", "answer"),
    [
        ([0.7, 0.3, 0.0], {"b": 0.2}, 1),  # it reaches its threshold, whatever is more probable
        ([0.7, 0.2, 0.1], {"b": 0.2}, 1),  # also exactly
        ([0.9, 0.1, 0.0], {"b": 0.2}, 0),
        ([0.3, 0.6, 0.1], {"b": 0.9}, 0),  # a high one: the class is answered only there
        ([0.5, 0.3, 0.2], {"b": 0.2, "c": 0.1}, 1),  # of several, the most probable
        ([0.5, 0.1, 0.4], {"b": 0.2, "c": 0.4}, 2),
        ([0.3, 0.6, 0.1], {"a": 0.9, "b": 0.9, "c": 0.9}, 1),  # every class has one, none reaches it
        ([0.8, 0.1, 0.1], {"b": 0.0}, 1),
        ([0.8, 0.1, 0.1], {"b": 1.0}, 0),
    ],
)
def test_the_rule(probabilities, limits, answer):
    assert decided(probabilities, **limits) == answer


def test_without_thresholds_and_with_one_of_half_for_two_classes_it_is_the_most_probable():
    probabilities = np.random.default_rng(0).dirichlet([1, 1], 100)
    for limits in ([math.nan, math.nan], [0.5, math.nan], [math.nan, 0.5]):
        assert (thresholds.decide(probabilities, np.array(limits)) == probabilities.argmax(axis=1)).all()


def test_a_class_may_have_any_name():
    texts = ["fly agaric=0.2", "a=b=1", "3=0", "poisonous=1e-3"]
    assert thresholds.parse(texts, NAMES) == {"fly agaric": 0.2, "a=b": 1, "3": 0, "poisonous": 0.001}


@pytest.mark.parametrize(
    ("texts", "rows", "fix"),
    [
        (["poisonus=0.2"], ["'poisonus' is no class of the network; did you mean 'poisonous'?"], "poisonous=0.2"),
        (["Poisonous =0.2"], ["did you mean 'poisonous'?"], "poisonous=0.2"),
        (["toadstool=0.2"], ["'toadstool' is no class of the network\n"], "edible=0.2"),
        (["edible=0,2"], ["'0,2' is no number from 0 to 1; write 0.2"], "edible=0.2"),
        (["edible=20%"], ["'20%' is no number from 0 to 1; write 0.2"], "edible=0.2"),
        (["edible=20"], ["'20' is no number from 0 to 1; write 0.2"], "edible=0.2"),
        (["edible=1.5"], ["'1.5' is no number from 0 to 1"], "edible=0.5"),
        (["edible=-0.1"], ["'-0.1' is no number from 0 to 1"], "edible=0.5"),
        (["edible=nan"], ["'nan' is no number from 0 to 1"], "edible=0.5"),
        (["edible=inf"], ["'inf' is no number from 0 to 1"], "edible=0.5"),
        (["edible="], ["'' is no number from 0 to 1"], "edible=0.5"),
        (["edible"], ["is not CLASS=NUMBER", "'edible' is no number"], "edible=0.5"),
        (["=0.2"], ["is not CLASS=NUMBER"], "edible=0.2"),
        (["edible=0.2", "edible=0.3"], ["'edible' has a threshold already: 0.2"], "edible=0.2"),
        (["edibel=2x", "3=0.1"], ["did you mean 'edible'?", "'2x' is no number"], "edible=0.5 --threshold 3=0.1"),
    ],
)
def test_what_is_wrong_is_told_all_at_once_with_what_to_write(texts, rows, fix):
    with pytest.raises(ConfigError) as error:
        thresholds.parse(texts, NAMES)
    text = str(error.value)
    assert all(row in text for row in rows), text
    assert re.search("expected +CLASS=NUMBER", text) and "edible, poisonous, fly agaric, a=b, 3" in text
    assert re.search(f"fix +--threshold {fix}$", text)
    words = text.rsplit("--threshold ", text.count("--threshold ") - 1)[1:]
    assert thresholds.parse([word.strip().strip("'") for word in words], NAMES)


def test_the_counts_are_those_of_all_batches():
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(50, 3)), rng.integers(0, 3, 50)
    counting = thresholds.Thresholds({"b": 0.2}, ["a", "b", "c"], 2.0)
    for start in range(0, 50, 16):
        counting.add(logits[start : start + 16], labels[start : start + 16])
    found = counting.figures()
    probabilities = metrics.probabilities(logits, 2.0)
    answers = np.where(probabilities[:, 1] >= 0.2, 1, np.where(probabilities[:, 0] > probabilities[:, 2], 0, 2))
    assert found["confusion"] == metrics.confusion(labels, answers, 3).tolist()
    assert found["accuracy"] == pytest.approx((answers == labels).mean()) and found["values"] == {"b": 0.2}
    assert found["changed"] == (answers != probabilities.argmax(axis=1)).sum() > 0


def test_each_row_of_the_costs_is_what_its_threshold_does():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 300)
    logits = rng.normal(size=(300, 3)) + 2 * np.eye(3)[labels]
    probabilities = metrics.probabilities(logits)
    rows = thresholds.costs(probabilities, labels, 1)
    assert [row["recall"] >= wanted for row, wanted in zip(rows, thresholds.RECALLS, strict=True)] == [True] * 4
    for row in rows:
        counting = thresholds.Thresholds({"b": row["threshold"]}, ["a", "b", "c"], 1.0)
        counting.add(logits, labels)
        own = counting.figures()["per_class"]["b"]
        assert own["recall"] == pytest.approx(row["recall"]) and own["precision"] == pytest.approx(row["precision"])
        assert row["false_alarms"] == sum(line[1] for line in counting.figures()["confusion"]) - sum(
            counting.figures()["confusion"][i][1] for i in (1,)
        )
    assert thresholds.costs(probabilities, np.zeros(300, int), 1) == []
    assert thresholds.costs(probabilities, np.ones(300, int), 1) == []


def test_a_threshold_is_rounded_down_so_that_what_reached_it_still_does():
    nearly = np.nextafter(np.arange(1, 1000) * 1e-7, 0)
    for value in [*np.random.default_rng(3).random(500), *nearly, 1.0, 0.1, 0.999, 1e-9, 0.0, 5e-324]:
        rounded = thresholds.rounded_down(float(value))
        assert 0 <= rounded <= value and float(f"{rounded:g}") == rounded
