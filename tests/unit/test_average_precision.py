"""Average precision beside hand computations, scikit-learn and COCO's rules."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from mslab.tasks.average_precision import Detections, average_precision, coco, oks, overlaps, voc


def detections(*rows, ignored=None):
    """Each row: left, top, right, bottom, score, class."""
    table = np.array(rows, float).reshape(-1, 6)
    none = None if ignored is None else np.array(ignored, bool)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(int), none)


def test_average_precision_by_hand():
    assert average_precision([0.9, 0.8, 0.7], [1, 0, 1], 2) == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    assert average_precision([0.9, 0.8, 0.7], [0, 1, 1], 3) == pytest.approx(1 / 3 * 1 / 2 + 1 / 3 * 2 / 3)
    assert average_precision([0.9, 0.8, 0.7], [0, 1, 1], 3, envelope=True) == pytest.approx(2 / 3 * 2 / 3)
    assert average_precision([0.5, 0.5], [1, 0], 1) == 0.5  # equal scores have no order
    assert average_precision([], [], 2) == 0 and np.isnan(average_precision([0.5], [0], 0))


def test_average_precision_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores, tags = rng.integers(0, 6, 30) / 5, rng.integers(0, 2, 30)
        assert average_precision(scores, tags, tags.sum()) == pytest.approx(average_precision_score(tags, scores))


def test_overlaps_by_hand():
    a, b = np.array([[0.0, 0, 2, 2], [0, 0, 1, 1]]), np.array([[1.0, 1, 3, 3], [0, 0, 2, 2], [5, 5, 6, 6]])
    np.testing.assert_allclose(overlaps(a, b), [[1 / 7, 1, 0], [0, 1 / 4, 0]])


def test_voc_by_hand():
    there = [detections((0, 0, 10, 10, 1, 0), (20, 0, 30, 10, 1, 0)), detections((0, 0, 10, 10, 1, 1))]
    found = [
        detections((0, 0, 10, 10, 0.9, 0), (0, 0, 10, 9, 0.8, 0), (20, 0, 30, 9, 0.7, 0)),
        detections((0, 0, 10, 4, 0.9, 1), (0, 0, 10, 10, 0.5, 0)),
    ]
    # class 0: hit, duplicate, hit, false one: precision 1, then 2/3; class 1: overlap 0.4 is too little
    assert voc(found, there, 3) == pytest.approx((1 / 2 + 1 / 2 * 2 / 3 + 0) / 2)
    assert voc(found, there, 3, 0.4) == pytest.approx((1 / 2 + 1 / 2 * 2 / 3 + 1) / 2)


def test_ignored_objects_are_neither_found_nor_missed():
    there = [detections((0, 0, 10, 10, 1, 0), (20, 0, 30, 10, 1, 0), ignored=[False, True])]
    found = [detections((20, 0, 30, 10, 0.9, 0), (0, 0, 10, 10, 0.8, 0))]
    assert voc(found, there, 1) == 1
    assert coco(found, there)["coco_map"] == pytest.approx(1)


def test_nothing_found_and_nothing_to_find():
    none, one = detections(), detections((0, 0, 10, 10, 1, 0))
    assert voc([none], [one], 1) == 0 and np.isnan(voc([none], [none], 1)) and np.isnan(voc([one], [none], 1))
    assert coco([none], [one])["coco_map"] == 0 and np.isnan(coco([one], [none])["coco_map"])


def test_coco_by_hand(capsys):
    there = [detections((0, 0, 10, 10, 1, 0)), detections((0, 0, 10, 10, 1, 0))]
    found = [detections((0, 0, 10, 10, 0.9, 0)), detections((0, 0, 10, 7.2, 0.8, 0))]
    # an overlap of 0.72 counts at 0.50 to 0.70, five of ten thresholds: AP 1 there, else 0.5 (recall levels 0 to 0.5)
    figures = coco(found, there)
    assert figures["coco_map_50"] == pytest.approx(1) and figures["coco_map_75"] == pytest.approx(51 / 101)
    assert figures["coco_map"] == pytest.approx((5 + 5 * 51 / 101) / 10)
    assert figures["coco_ar"] == pytest.approx(0.75) and capsys.readouterr().out == ""


def test_oks_by_hand():
    boxes = np.array([[0.0, 0, 10, 10], [0, 0, 10, 10]])
    truth = [np.array([[5.0, 5, 2], [0, 0, 0]]), np.array([[5.0, 5, 1], [2, 2, 2]])]
    exact = [np.array([[5.0, 5, 0.9], [9, 9, 0.1]]), np.array([[5.0, 5, 0.9], [2, 2, 0.9]])]
    assert oks(exact, [0.9, 0.8], truth, boxes)["oks_ap"] == pytest.approx(1)
    # exp(-d² / (2 area (2 sigma)²)) = exp(-d² / 2) for area 100 and sigma 0.05: 1 pixel off is 0.607
    off = [exact[0] + [1, 0, 0], exact[1]]
    figures = oks(off, [0.9, 0.8], truth, boxes)
    # right at 0.50, 0.55, 0.60; beyond, the surer one is wrong: precision 1/2 up to a recall of 1/2
    assert figures["oks_ap"] == pytest.approx((3 + 7 * 51 / 101 / 2) / 10) and figures["oks_ap_50"] == pytest.approx(1)
