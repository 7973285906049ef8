"""Masks as COCO stores them: run lengths, as numbers or as a string, and polygons.

pycocotools does the same in C. Its decoder trusts what it reads (counts beyond the image, a size of 100000x100000), so
nothing that has not been checked here may reach it; for average precision it can be used beside this.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

MOST_PIXELS = 1 << 28  # of a mask, as of an image (check.worker)
MOST_POINTS = 1 << 20  # of an object's polygons, and crossings of edges and rows that are computed at once
MOST_CROSSINGS = 1 << 24  # of a polygon's edges with rows of pixels


class RegionError(ValueError):
    """A mask that cannot be read."""


@dataclass(frozen=True)
class Region:
    """A part of an image: run lengths, or polygons. Decoded when it is asked for."""

    height: int
    width: int
    counts: np.ndarray | None = None  # run lengths down the columns: pixels outside, inside, outside …
    polygons: tuple[np.ndarray, ...] = ()  # each (n, 2) x, y in pixels

    def array(self) -> np.ndarray:
        """(height, width) bool."""
        if self.counts is not None:
            return decode(self.counts, self.height, self.width)
        mask = np.zeros((self.height, self.width), bool)
        for polygon in self.polygons:
            mask |= fill(polygon, self.height, self.width)
        return mask

    @cached_property
    def bounds(self) -> tuple[float, float, float, float] | None:
        """Left, top, right, bottom in pixels; None if it is empty. Run lengths are not decoded for it."""
        if self.counts is None:
            points = np.concatenate(self.polygons)
            (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
            return left, top, right, bottom
        ends = np.cumsum(self.counts)
        inside = np.flatnonzero(self.counts[1::2]) * 2 + 1
        if not len(inside):
            return None
        first, last = ends[inside - 1], ends[inside] - 1
        whole = first // self.height != last // self.height  # a run over two columns reaches top and bottom
        row = 0 if whole.any() else int((first % self.height).min())
        end = self.height if whole.any() else int((last % self.height).max()) + 1
        return float(first[0] // self.height), float(row), float(last[-1] // self.height + 1), float(end)


def check_size(height: int, width: int) -> None:
    if height < 1 or width < 1 or height * width > MOST_PIXELS:
        raise RegionError(f"a mask of {width}x{height} pixels")


def encode(mask: np.ndarray) -> np.ndarray:
    """Run lengths of a mask, (h, w) bool -> (n,) int64; the first is of pixels outside, and may be 0."""
    # encode([[False, True], [True, True]]) -> [1, 3], since it goes down the columns
    flat = np.concatenate([[False], np.asarray(mask, bool).ravel(order="F")])
    edges = np.flatnonzero(np.diff(flat)) if flat.size > 1 else np.zeros(0, np.int64)
    return np.diff(np.concatenate([[0], edges, [flat.size - 1]]))


def decode(counts: np.ndarray, height: int, width: int) -> np.ndarray:
    """(n,) run lengths -> (height, width) bool. Raises RegionError unless they fill the mask exactly."""
    check_counts(counts, height, width)
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T


def check_counts(counts: np.ndarray, height: int, width: int) -> None:
    check_size(height, width)
    if len(counts) > height * width + 1 or (len(counts) and counts.min() < 0):
        raise RegionError("run lengths below zero, or more of them than pixels")
    total = sum(counts.tolist())  # Python's integers do not overflow
    if total != height * width:
        raise RegionError(f"run lengths of {total:,} pixels in all, for {width}x{height} = {height * width:,}")


def to_string(counts: np.ndarray) -> str:
    """COCO's compressed form: each number, from the fourth on as the difference to the last but one, in base 32."""
    text = bytearray()
    for i, value in enumerate(counts.tolist()):
        value -= counts[i - 2].item() if i > 2 else 0
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text.append(bits + 32 * more + 48)
    return text.decode("ascii")


def from_string(text: str) -> np.ndarray:
    """The run lengths of a compressed string. Raises RegionError."""
    counts: list[int] = []
    value = shift = 0
    if not text.isascii():
        raise RegionError("run lengths in characters that COCO does not use")
    for byte in text.encode("ascii"):
        bits = byte - 48
        if not 0 <= bits < 64 or shift > 40:
            raise RegionError("run lengths in characters that COCO does not use")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise RegionError("run lengths that end in the middle of a number")
    if counts and not 0 <= min(counts) <= max(counts) <= MOST_PIXELS:
        raise RegionError("run lengths below zero or beyond every image")
    return np.array(counts, np.int64)


def fill(polygon: np.ndarray, height: int, width: int) -> np.ndarray:
    """(n, 2) x, y -> (height, width) bool: the pixels whose middle is inside, by the even-odd rule."""
    check_size(height, width)
    (x0, y0), (x1, y1) = polygon.T, np.roll(polygon, -1, axis=0).T
    first = np.clip(np.ceil(np.minimum(y0, y1) - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(y0, y1) - 0.5), 0, height).astype(np.int64)  # rows first to last - 1 are crossed
    toggles = np.zeros((height, width + 1), bool)
    numbers = last - first
    if numbers.sum() > MOST_CROSSINGS:
        raise RegionError(f"a polygon whose edges cross {numbers.sum():,} rows")
    edges = np.flatnonzero(numbers)
    for part in np.array_split(edges, 1 + int(numbers.sum()) // MOST_POINTS):
        edge = np.repeat(part, numbers[part])
        rows = np.arange(len(edge)) - np.repeat(np.cumsum(numbers[part]) - numbers[part], numbers[part]) + first[edge]
        x = x0[edge] + (rows + 0.5 - y0[edge]) * ((x1 - x0)[edge] / (y1 - y0)[edge])
        columns = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
        np.logical_xor.at(toggles, (rows, columns), True)
    return np.logical_xor.accumulate(toggles, axis=1)[:, :width]
