"""Small things: an image cut into overlapping tiles, boxes found in each, and joined afterwards.

With the names and the geometry of Azure AutoML for images: a grid "(3, 2)" is 3 tiles wide and 2 high, the tiles cover
the image exactly, and neighbours share tile_overlap_ratio of their sides. Network and loss know nothing of it: a tile
is a Sample like any other, in training too.
"""

import numpy as np

from mslab.tasks.sample import Box


def tile_boxes(size: tuple[int, int], tile_grid_size: tuple[int, int], tile_overlap_ratio: float = 0.25) -> list[Box]:
    """The tiles of an image of (width, height), row by row, rounded outwards to whole pixels."""
    # tile_boxes((100, 100), (2, 1), 0.0) -> [(0, 0, 50, 100), (50, 0, 100, 100)]
    spans = []
    for length, count in zip(size, tile_grid_size, strict=True):
        side = length / (tile_overlap_ratio + (1 - tile_overlap_ratio) * count)
        starts = [(1 - tile_overlap_ratio) * side * i for i in range(count)]
        spans.append([(int(start + 1e-6), min(length, int(np.ceil(start + side - 1e-6)))) for start in starts])
    return [(left, top, right, bottom) for top, bottom in spans[1] for left, right in spans[0]]
