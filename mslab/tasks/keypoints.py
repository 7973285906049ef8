"""Key points of objects: a heat map a point (Xiao et al. 2018), in a crop around the object's box (top-down).

A crop holds one object, so a map has one maximum, and an image of no or six mushrooms is no special case: its crops are
the data set. The boxes are the labels' own in training and validation, as Xiao et al. report too; detect's afterwards.
The maps come from the pyramid instead of their three transposed convolutions: one neck for all tasks.

Targets are float32 (N, K, h, w), a Gaussian around each point, -1 all over for a point that is not labelled. Outputs
are maps (N, K, h, w), without a sigmoid.
"""

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mslab.tasks import average_precision
from mslab.tasks.neck import MapHead
from mslab.tasks.sample import Box, Sample, cropped

SIGMA = 1.5  # cells; Xiao et al. have 2 on maps twice as large
MARGIN = 1.25  # of the crop's side to the longer one of the box; Xiao et al.'s
PCK = 0.2  # of the longer side of the box, within which a point is correct (Yang & Ramanan 2013)


def head(point_num: int) -> MapHead:
    return MapHead(point_num)


def crop_box(box: np.ndarray) -> Box:
    """The square of whole pixels around a box, MARGIN larger; it may leave the image."""
    (x, y), side = (box[:2] + box[2:]) / 2, max(box[2] - box[0], box[3] - box[1]) * MARGIN
    side = max(2, int(np.ceil(side)))
    left, top = round(float(x) - side / 2), round(float(y) - side / 2)
    return left, top, left + side, top + side


def crops(sample: Sample) -> list[tuple[Sample, Box]]:
    """A sample for each object that has a labelled point and is not ignored, in its own size, and where it was cut."""
    found = []
    for i in np.flatnonzero(~sample.ignored & (sample.points[..., 2] > 0).any(1)):
        box, own = crop_box(sample.boxes[i]), slice(i, i + 1)
        one = Sample(sample.image, sample.boxes[own], sample.classes[own], sample.ignored[own], sample.points[own])
        found.append((cropped(one, box, (box[2] - box[0], box[3] - box[1])), box))
    return found


def target(sample: Sample, stride: int) -> np.ndarray:
    """The maps of a crop's object, float32 (K, H/stride, W/stride). The Gaussians stand at the exact positions."""
    width, height = (-(-side // stride) for side in sample.size)
    x, y = sample.points[0, :, :2].T.astype(np.float64)[..., None, None] / stride
    rows, columns = np.mgrid[:height, :width] + 0.5  # a cell's middle
    heat = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * SIGMA**2))
    return np.where(sample.points[0, :, 2, None, None] > 0, heat, -1).astype(np.float32)


class PointLoss(nn.Cell):
    """Squared errors, summed over a map, mean over the labelled points. (N, K, h, w), (N, K, h, w) -> float32 ()."""

    def construct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        counted = (targets[:, :, 0, 0] >= 0).astype(ms.float32)  # (N, K)
        errors = ((outputs.astype(ms.float32) - targets) ** 2).sum((2, 3)) * counted
        return errors.sum() / ops.maximum(counted.sum(), 1.0)


def decode(outputs: np.ndarray, stride: int) -> np.ndarray:
    """(K, h, w) -> (K, 3): x, y in pixels of the crop, and the height of the maximum.

    The maximum between cells: a parabola through the logarithms of three cells, which is exact for a Gaussian
    (Zhang et al. 2020, DARK); at most one cell from the highest one.
    """
    found = np.zeros((len(outputs), 3))
    for i, plane in enumerate(outputs.astype(np.float64)):
        row, column = divmod(int(plane.argmax()), plane.shape[1])
        x, y = between(plane[row], column), between(plane[:, column], row)
        found[i] = (x + 0.5) * stride, (y + 0.5) * stride, plane[row, column]
    return found


def between(line: np.ndarray, best: int) -> float:
    """Where the maximum of a line of cells is, whose highest cell is `best`."""
    # between([exp(-0.5**2 / 2), exp(-0.5**2 / 2), exp(-1.5**2 / 2)], 0) -> 0.5
    if len(line) < 3:
        return best
    middle = min(max(best, 1), len(line) - 2)  # at the border the parabola goes through the three last cells
    a, b, c = np.log(np.maximum(line[middle - 1 : middle + 2], 1e-10))
    bend = a - 2 * b + c
    return best if bend >= 0 else float(np.clip(middle + (a - c) / (2 * bend), best - 1, best + 1))


def uncropped(points: np.ndarray, box: Box, size: int) -> np.ndarray:
    """Points (K, 3) of a crop of `size` pixels, cut at `box`, in the coordinates of the image."""
    scale = (box[2] - box[0]) / size
    return np.column_stack([points[:, 0] * scale + box[0], points[:, 1] * scale + box[1], points[:, 2]])


def measure(found: Sequence[np.ndarray], truth: Sequence[np.ndarray], boxes: np.ndarray) -> dict[str, float]:
    """PCK: the share of points within PCK of the longer side of their box; NME: the mean distance / this side; OKS AP.

    One (K, 3) an object, boxes (n, 4). All labelled points count, visible or hidden; the mean is over points.
    """
    sides = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    pairs = zip(found, truth, sides, strict=True)
    parts = [np.hypot(*(own[:, :2] - there[:, :2]).T)[there[:, 2] > 0] / side for own, there, side in pairs]
    errors = np.concatenate(parts) if parts else np.zeros(0)
    if not len(errors):
        return {"pck": float("nan"), "nme": float("nan"), "oks_ap": float("nan"), "oks_ap_50": float("nan")}
    scores = [float(own[:, 2].mean()) for own in found]
    return {"pck": float((errors <= PCK).mean()), "nme": float(errors.mean())} | average_precision.oks(
        found, scores, truth, boxes
    )
