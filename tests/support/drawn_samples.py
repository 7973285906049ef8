"""Samples whose labels can be read off their pixels: rectangles of one colour a class on a grey ground."""

import numpy as np

from mslab.tasks.sample import Sample

COLOURS = np.array([[128, 128, 128], [250, 40, 40], [40, 250, 40], [40, 40, 250]], np.uint8)  # ground, classes


def rectangles(width, height, boxes, classes, ignored=None):
    """Key points of each object: near its left upper corner, near its right lower corner, its middle."""
    boxes, classes = np.array(boxes, np.float32).reshape(-1, 4), np.array(classes, np.int32)
    mask = np.zeros((height, width), np.uint8)
    for (left, top, right, bottom), label in zip(boxes.astype(int), classes, strict=True):
        mask[top:bottom, left:right] = label + 1
    near, far = boxes[:, :2] + 1.5, boxes[:, 2:] - 1.5
    points = np.full((len(boxes), 3, 3), 2, np.float32)
    points[..., :2] = np.stack([near, far, (near + far) / 2], 1)
    tags = np.isin(np.arange(3), classes).astype(np.uint8)
    none = np.zeros(len(boxes), bool) if ignored is None else np.array(ignored, bool)
    return Sample(COLOURS[mask], boxes, classes, none, points, mask, tags)


def random_sample(rng, width=64, height=64, most=3):
    """Up to `most` rectangles that do not overlap."""
    taken, boxes = np.zeros((height, width), bool), []
    for _ in range(int(rng.integers(0, most + 1))):
        w, h = rng.integers(12, 29, 2)
        left, top = rng.integers(0, width - w + 1), rng.integers(0, height - h + 1)
        if not taken[top : top + h, left : left + w].any():
            taken[top : top + h, left : left + w] = True
            boxes.append((left, top, left + w, top + h))
    return rectangles(width, height, boxes, rng.integers(0, 3, len(boxes)))
