"""Figures of each class, point and tag, and one image's answer beside its labels: computed by hand."""

import math

import numpy as np
import pytest

from mslab.tasks.average_precision import Detections
from mslab.tasks.keypoints import Points
from mslab.tasks.labels import IGNORED
from mslab.tasks.registry import task_of

NAMES = ["cap", "stem", "ring"]
DETECT = {
    "task": "detect",
    "class_names": NAMES,
    "options": {"box_score_thresh": 0.3, "validation_metric_type": "voc", "validation_iou_threshold": 0.5},
}


def boxes(*rows, ignored=None):
    """Rows of (left, score, class): squares of 10 pixels."""
    left, scores, classes = (np.array(column) for column in zip(*rows, strict=True)) if rows else [np.zeros(0)] * 3
    corners = np.stack([left, 0 * left, left + 10, 0 * left + 10], 1).reshape(-1, 4).astype(np.float32)
    return Detections(corners, scores.astype(float), classes.astype(int), ignored)


def test_boxes_missed_and_invented_are_counted_at_the_threshold_of_an_answer():
    task = task_of(DETECT)
    truth = [boxes((0, 1, 0), (50, 1, 0), (80, 1, 1)), boxes()]
    found = [boxes((0, 0.9, 0), (20, 0.8, 0), (50, 0.2, 0), (80, 0.7, 1)), boxes((0, 0.6, 1), (0, 0.1, 2))]
    rows = task.by_name(found, truth)
    # cap: right, wrong, right below the threshold: ap = 1/2 * 1 + 1/2 * 2/3
    assert rows["cap"] == {"ap": pytest.approx(1 / 2 + 1 / 3), "objects": 2, "missed": 1, "invented": 1}
    assert rows["stem"] == {"ap": 1.0, "objects": 1, "missed": 0, "invented": 1}
    assert math.isnan(rows["ring"].pop("ap")) and rows["ring"] == {"objects": 0, "missed": 0, "invented": 0}
    figures = task.figures(found, truth)
    assert figures["voc_map"] == pytest.approx((5 / 6 + 1) / 2) and figures["by_name"]["stem"] == rows["stem"]

    first, second = (task.compare(*pair) for pair in zip(found, truth, strict=True))
    assert (first.missed, first.invented) == (["cap"], ["cap"]) and first.score == pytest.approx(2 * 2 / (2 * 2 + 2))
    assert (second.missed, second.invented, second.score) == ([], ["stem"], 0.0)
    assert task.compare(boxes(), boxes()).score == 1
    crowd = boxes((0, 1, 0), ignored=np.array([True]))
    assert task.compare(boxes((0, 0.9, 0)), crowd) == (1.0, [], [], {})


def test_the_overlap_of_each_class_of_pixels():
    task = task_of({"task": "segment", "class_names": NAMES, "options": {}})
    truth = np.array([[0, 0, 1, 1], [0, 0, 1, IGNORED], [2, 2, 2, 2]], np.uint8)
    found = np.array([[0, 0, 1, 0], [0, 3, 1, 1], [0, 0, 0, 0]], np.uint8)
    rows = task.by_name([found], [truth])
    # ground: 3 right, of 4 there and 8 answered; cap: 2 of 3; stem: none of 4; ring: answered only
    assert rows["cap"] == {"iou": pytest.approx(2 / 3), "share": pytest.approx(3 / 11)}
    assert rows["stem"]["iou"] == 0 and rows["ring"] == {"iou": 0.0, "share": 0.0}
    figures = task.figures([found], [truth])
    assert figures["ground_iou"] == pytest.approx(3 / 9)
    assert figures["miou"] == pytest.approx((3 / 9 + 2 / 3) / 4) and figures["by_name"] == rows
    compared = task.compare(found, truth)
    assert (compared.missed, compared.invented) == (["stem"], ["ring"])
    assert compared.parts == {"cap": pytest.approx(2 / 3)} and compared.score == pytest.approx(figures["miou"])
    nothing = task.compare(found, np.full_like(truth, IGNORED))
    assert math.isnan(nothing.score) and not nothing.missed and not nothing.invented


def test_the_error_of_each_point():
    task = task_of({"task": "keypoints", "class_names": NAMES, "options": {}, "skeleton": []})
    there = np.array([[[0, 0, 2], [10, 0, 2], [0, 0, 0]], [[0, 20, 2], [0, 0, 0], [0, 0, 0]]], float)
    sides = np.array([[0, 0, 20, 10], [0, 0, 10, 40]], float)
    found = np.array([[[2, 0, 0.9], [10, 5, 0.9], [7, 7, 0.9]], [[0, 20, 0.9], [9, 9, 0.9], [9, 9, 0.9]]], float)
    answer, truth = Points(found, sides), Points(there, sides)
    rows = task.by_name([answer], [truth])
    assert rows["cap"] == {"pck": 1.0, "nme": pytest.approx((2 / 20 + 0) / 2), "points": 2}
    assert rows["stem"] == {"pck": 0.0, "nme": 5 / 20, "points": 1}
    assert math.isnan(rows["ring"]["pck"]) and rows["ring"]["points"] == 0
    figures = task.figures([answer], [truth])
    assert figures["by_name"]["cap"] == rows["cap"] and figures["nme"] == pytest.approx((0.1 + 0.25 + 0) / 3)
    compared = task.compare(answer, truth)
    assert compared.missed == ["stem"] and compared.score == pytest.approx(-(0.1 + 0.25) / 3)
    assert compared.parts == {"cap": pytest.approx(0.05), "stem": pytest.approx(0.25)}
    none = Points(np.zeros((0, 3, 3)), np.zeros((0, 4)))
    assert math.isnan(task.compare(none, none).score)


def test_precision_f1_and_threshold_of_each_tag():
    info = {"task": "multilabel", "class_names": NAMES, "options": {}, "thresholds": [0.5, 0.6, 0.5]}
    task = task_of(info)
    p = [np.array([0.9, 0.5, 0.1]), np.array([0.2, 0.7, 0.1]), np.array([0.6, 0.65, 0.1])]
    tags = [np.array([1, 1, 0]), np.array([1, 1, 0]), np.array([0, 0, 0])]
    rows = task.by_name(p, tags)
    # cap: 0.9 right, 0.6 wrong, 0.2 right: 1/2 + 1/2 * 2/3; given twice, once rightly, of 2
    assert rows["cap"] == {"ap": pytest.approx(5 / 6), "f1": 0.5, "threshold": 0.5, "images": 2}
    assert rows["stem"] == {"ap": pytest.approx(5 / 6), "f1": 0.5, "threshold": 0.6, "images": 2}
    assert math.isnan(rows["ring"]["ap"]) and rows["ring"]["images"] == 0
    figures = task.figures(p, tags)
    assert figures["map"] == pytest.approx(5 / 6) and figures["by_name"]["stem"] == rows["stem"]
    compared = [task.compare(own, there) for own, there in zip(p, tags, strict=True)]
    assert [row.missed for row in compared] == [["stem"], ["cap"], []]
    assert [row.invented for row in compared] == [[], [], ["cap", "stem"]]
    assert [row.score for row in compared] == pytest.approx([2 / 3, 2 / 3, 1 / 3])


@pytest.mark.parametrize("name", ["detect", "segment", "keypoints", "multilabel"])
def test_an_answer_is_enlarged_with_its_image(name):
    task = task_of(DETECT | {"task": name})
    if name == "detect":
        assert task.scaled(boxes((10, 0.5, 1)), 2.0, (40, 40)).boxes.tolist() == [[20, 0, 40, 20]]
    elif name == "segment":
        assert task.scaled(np.array([[0, 1]], np.uint8), 2.0, (4, 2)).tolist() == [[0, 0, 1, 1]] * 2
    elif name == "keypoints":
        points = task.scaled(Points(np.array([[[1.0, 2.0, 0.5]]]), np.array([[0, 0, 4, 4]])), 3.0, (30, 30))
        assert points.points.tolist() == [[[3, 6, 0.5]]] and points.boxes.tolist() == [[0, 0, 12, 12]]
    else:
        assert task.scaled(np.array([0.5]), 2.0, (2, 2)).tolist() == [0.5]
