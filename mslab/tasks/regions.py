"""The segmentation of an object in COCO's JSON: polygons, or run lengths as numbers or as a string."""

from collections.abc import Hashable
from typing import Any

import numpy as np

from mslab.tasks.labels import Problems
from mslab.tasks.rle import MOST_POINTS, Region, RegionError, check_counts, from_string

FARTHEST = 1e6  # pixels
OVERLAP = 0.5  # of a box and the box of its mask, as intersection over union


def read_region(
    key: Hashable, value: Any, image: tuple[str, int, int], box: tuple[float, ...], problems: Problems
) -> Region | None:
    """The region, or None if there is none or it cannot be read. `image`: its file, width and height."""
    file, width, height = image
    if value in (None, [], {}) or not width:
        return None
    try:
        region = region_of(value, width, height)
    except RegionError as error:
        problems.add("mask-region", "error", file, f"(the mask of the object {key!r} cannot be read: {error})")
        return None
    bounds = region.bounds
    if bounds is None:
        problems.add("mask-region", "error", file, f"(the mask of the object {key!r} is empty)")
        return None
    if overlap(bounds, box) < OVERLAP:
        inner = ", ".join(f"{side:g}" for side in bounds)
        outer = ", ".join(f"{side:g}" for side in box)
        text = (
            f"(the mask of the object {key!r} is not where its box is: {inner} and {outer} (left, top, right, bottom))"
        )
        problems.add("box-mask", "warning", file, text)
    return region


def region_of(value: Any, width: int, height: int) -> Region:
    """Raises RegionError."""
    if isinstance(value, list):
        return Region(height, width, None, polygons_of(value))
    counts, size = (value.get("counts"), value.get("size")) if isinstance(value, dict) else (None, None)
    if size != [height, width]:
        raise RegionError(f"its size is {str(size)[:40]}, and not [{height}, {width}] (height, width)")
    if isinstance(counts, str):
        runs = from_string(counts)
    elif isinstance(counts, list) and all(type(run) is int and 0 <= run <= height * width for run in counts):
        runs = np.array(counts, np.int64)
    else:
        raise RegionError("its run lengths are neither a string nor whole numbers of pixels")
    check_counts(runs, height, width)
    return Region(height, width, runs)


def polygons_of(value: list[Any]) -> tuple[np.ndarray, ...]:
    """Raises RegionError."""
    found, total = [], 0
    for flat in value:
        sound = isinstance(flat, list) and all(type(x) in (int, float) and abs(x) <= FARTHEST for x in flat)
        if not sound:
            raise RegionError("a polygon has something else than numbers of pixels")
        if len(flat) < 6 or len(flat) % 2:
            raise RegionError(f"a polygon of {len(flat)} numbers, and not x and y of at least three points")
        total += len(flat) // 2
        if total > MOST_POINTS:
            raise RegionError(f"polygons of more than {MOST_POINTS:,} points")
        found.append(np.array(flat, np.float64).reshape(-1, 2))
    return tuple(found)


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inner = max(width, 0.0) * max(height, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner
    return inner / union if union > 0 else 0.0
