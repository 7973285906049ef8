"""Average precision of scores, of boxes (PASCAL VOC and COCO) and of key points (COCO).

COCO's figures are pycocotools', the reference; it is given arrays that were checked here, and no file.
"""

import contextlib
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mslab.tasks.sample import areas

OKS_SIGMA = 0.05  # of every key point; COCO measured its own for people, from 0.025 (eyes) to 0.107 (hips)


class Detections(NamedTuple):
    """What was found in one image, or is there: then the scores are 1 and `ignored` says what is no mistake."""

    boxes: np.ndarray  # (n, 4) left, top, right, bottom in pixels
    scores: np.ndarray  # (n,)
    classes: np.ndarray  # (n,)
    ignored: np.ndarray | None = None  # (n,) bool, of the truth only


def average_precision(scores: np.ndarray, correct: np.ndarray, positives: int, envelope: bool = False) -> float:
    """Area under the precision-recall curve: the sum over its steps of recall gained times precision.

    Equal scores make one step. `positives`: all that were to be found. With `envelope` the precision of a step is the
    highest from there on, as in VOC since 2010 and in COCO; without, as in scikit-learn. NaN without positives.
    """
    # average_precision([0.9, 0.8, 0.7], [1, 0, 1], 2) -> 1/2 * 1/1 + 1/2 * 2/3 = 0.833
    if not positives:
        return float("nan")
    order = np.argsort(-np.asarray(scores), kind="stable")
    scores, true = np.asarray(scores)[order], np.cumsum(np.asarray(correct, float)[order])
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if len(scores) else np.zeros(0, int)
    precision, recall = true[ends] / (ends + 1), true[ends] / positives
    if envelope:
        precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0) * precision).sum())


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of all pairs of boxes, (n, 4), (m, 4) -> (n, m)."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    inner = np.maximum(sides, 0).prod(-1)
    return inner / np.maximum(areas(a)[:, None] + areas(b) - inner, 1e-12)


class Matches(NamedTuple):
    """The boxes of one class that count: found with these scores, correct or not, of `positives` that are there."""

    scores: np.ndarray
    correct: np.ndarray
    positives: int


def match(own: Detections, there: Detections, label: int, threshold: float) -> Matches:
    """What was found of a class in one image, the surest first.

    A box is correct if it overlaps the best box of its class by at least the threshold and is the first that does;
    boxes on ignored ones count for nothing.
    """
    boxes = there.boxes[there.classes == label]
    ignored = np.zeros(len(boxes), bool) if there.ignored is None else there.ignored[there.classes == label]
    chosen = np.flatnonzero(own.classes == label)
    chosen, taken = chosen[np.argsort(-own.scores[chosen], kind="stable")], np.zeros(len(boxes), bool)
    scores: list[float] = []
    correct: list[bool] = []
    for score, row in zip(own.scores[chosen], overlaps(own.boxes[chosen], boxes), strict=True):
        best = int(row.argmax()) if len(boxes) else -1
        hit = best >= 0 and bool(row[best] >= threshold)
        if hit and ignored[best]:
            continue
        scores.append(float(score))
        correct.append(hit and not taken[best])
        if hit:
            taken[best] = True
    return Matches(np.array(scores), np.array(correct, bool), int((~ignored).sum()))


def matches(
    found: Sequence[Detections], truth: Sequence[Detections], class_num: int, threshold: float
) -> list[Matches]:
    """Those of each class, over all images."""
    rows: list[list[Matches]] = [[] for _ in range(class_num)]
    for own, there in zip(found, truth, strict=True):
        for label in np.union1d(own.classes, there.classes).astype(int).tolist():
            rows[label].append(match(own, there, label, threshold))
    return [
        Matches(
            np.concatenate([np.zeros(0), *(row.scores for row in own)]),
            np.concatenate([np.zeros(0, bool), *(row.correct for row in own)]),
            sum(row.positives for row in own),
        )
        for own in rows
    ]


def voc(found: Sequence[Detections], truth: Sequence[Detections], class_num: int, threshold: float = 0.5) -> float:
    """VOC's mean average precision over the classes that are there (Everingham et al. 2010), all points."""
    values = [average_precision(*own, envelope=True) for own in matches(found, truth, class_num, threshold)]
    there = [value for value in values if not np.isnan(value)]
    return float(np.mean(there)) if there else float("nan")


def coco(found: Sequence[Detections], truth: Sequence[Detections]) -> dict[str, float]:
    """COCO's AP over overlaps of 0.50 to 0.95, at 0.5 and at 0.75, and AR of 100 boxes an image, by pycocotools."""
    real = [entry(i, *row) for i, there in enumerate(truth) for row in rows(there)]
    made = [entry(i, *row) for i, own in enumerate(found) for row in rows(own)]
    stats = coco_stats("bbox", real, made, len(truth))
    return {"coco_map": stats[0], "coco_map_50": stats[1], "coco_map_75": stats[2], "coco_ar": stats[8]}


def oks(
    found: Sequence[np.ndarray], scores: Sequence[float], truth: Sequence[np.ndarray], boxes: np.ndarray
) -> dict[str, float]:
    """COCO's AP of key points, each object with its own crop: (K, 3), score, (K, 3), boxes (n, 4).

    An image has one object, so a prediction is compared with its own object only.
    """
    flat = [np.where(points[:, 2:] > 0, points, 0).astype(float) for points in truth]
    real, made = [], []
    for i, (own, score, there) in enumerate(zip(found, scores, flat, strict=True)):
        counted = int((there[:, 2] > 0).sum())
        extra = {"keypoints": there.ravel().tolist(), "num_keypoints": counted}
        real.append(entry(i, boxes[i], 1.0, 0, not counted) | extra)
        made.append(entry(i, boxes[i], float(score), 0, False) | {"keypoints": own.astype(float).ravel().tolist()})
    points = len(truth[0]) if truth else 0
    stats = coco_stats("keypoints", real, made, len(truth), np.full(points, OKS_SIGMA))
    return {"oks_ap": stats[0], "oks_ap_50": stats[1]}


def rows(image: Detections) -> list[tuple[np.ndarray, float, int, bool]]:
    ignored = np.zeros(len(image.boxes), bool) if image.ignored is None else image.ignored
    values = zip(image.boxes, image.scores, image.classes, ignored, strict=True)
    return [(box, float(score), int(label), bool(none)) for box, score, label, none in values]


def entry(image: int, box: np.ndarray, score: float, label: int, ignored: bool) -> dict[str, Any]:
    """COCO's entry of one object."""
    left, top, right, bottom = (float(value) for value in box)
    shape = {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
    return {"image_id": image + 1, "category_id": label + 1, "iscrowd": int(ignored), "score": score, **shape}


def coco_stats(
    kind: str, real: list[dict[str, Any]], made: list[dict[str, Any]], images: int, sigmas: np.ndarray | None = None
) -> list[float]:
    """COCOeval's figures; NaN if nothing was to be found, zeros if nothing was found."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    if not any(not row["iscrowd"] for row in real):
        return [float("nan")] * 12
    if not made:  # loadRes fails on an empty list
        return [0.0] * 12
    labels = sorted({row["category_id"] for row in real + made})
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        data = COCO()
        data.dataset = {
            "images": [{"id": i + 1} for i in range(images)],
            "categories": [{"id": label} for label in labels],
            "annotations": [{"id": i, **row} for i, row in enumerate(real, 1)],
        }
        data.createIndex()
        run = COCOeval(data, data.loadRes(made), kind)
        if sigmas is not None:
            run.params.kpt_oks_sigmas = sigmas
        run.evaluate()
        run.accumulate()
        run.summarize()
    return [float(value) for value in run.stats]
