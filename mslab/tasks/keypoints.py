"""Key points of objects: a heat map a point (Xiao et al. 2018), in a crop around the object's box (top-down).

A crop holds one object, so a map has one maximum, and an image of no or six mushrooms is no special case: its crops are
the data set. The boxes are the labels' own in training and validation, as Xiao et al. report too; detect's afterwards.
The maps come from the pyramid instead of their three transposed convolutions: one neck for all tasks.

Targets are float32 (N, K, h, w), a Gaussian around each point, -1 all over for a point that is not labelled. Outputs
are maps (N, K, h, w), without a sigmoid.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from PIL import Image

from mslab.tasks import average_precision
from mslab.tasks.drawing import draw_points
from mslab.tasks.labels import ImageLabels, LabelSet
from mslab.tasks.neck import MapHead
from mslab.tasks.sample import Box, Sample, cropped
from mslab.tasks.task import Compared, Figures, Part, Task

SIGMA = 1.5  # cells; Xiao et al. have 2 on maps twice as large
MARGIN = 1.25  # of the crop's side to the longer one of the box; Xiao et al.'s
MOST_SIDE = 4096  # pixels of a crop, which the network sees smaller yet
PCK = 0.2  # of the longer side of the box, within which a point is correct (Yang & Ramanan 2013)


def head(point_num: int) -> MapHead:
    return MapHead(point_num)


def crop_box(box: np.ndarray) -> Box:
    """The square of whole pixels around a box, MARGIN larger; it may leave the image."""
    (x, y), side = (box[:2] + box[2:]) / 2, max(box[2] - box[0], box[3] - box[1]) * MARGIN
    side = max(2, int(np.ceil(side)))
    left, top = round(float(x) - side / 2), round(float(y) - side / 2)
    return left, top, left + side, top + side


def objects(labels: ImageLabels | Sample) -> list[int]:
    """The objects that have a labelled point and are not ignored."""
    return np.flatnonzero(~labels.ignored & (labels.points[..., 2] > 0).any(1)).tolist()


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
    errors = np.concatenate([row[there] for row, there in errors_of(found, truth, boxes)] or [np.zeros(0)])
    if not len(errors):
        return {"pck": float("nan"), "nme": float("nan"), "oks_ap": float("nan"), "oks_ap_50": float("nan")}
    scores = [float(own[:, 2].mean()) for own in found]
    return {"pck": float((errors <= PCK).mean()), "nme": float(errors.mean())} | average_precision.oks(
        found, scores, truth, boxes
    )


def errors_of(
    found: Sequence[np.ndarray], truth: Sequence[np.ndarray], boxes: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each object: the points' distances as shares of the box's longer side, float64 (K,); which are labelled."""
    sides = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    rows = zip(found, truth, sides, strict=True)
    return [(np.hypot(*(own[:, :2] - there[:, :2]).T) / side, there[:, 2] > 0) for own, there, side in rows]


class Points(NamedTuple):
    """The points of the objects of an image, and the boxes that they were looked for in."""

    points: np.ndarray  # (n, K, 3) x, y in pixels; of the truth COCO's visibility, of an answer the map's height
    boxes: np.ndarray  # (n, 4) left, top, right, bottom


class Keypoints(Task):
    """Key points of each object whose box is known. An answer is Points, in the order of objects()."""

    name = "keypoints"

    @classmethod
    def record(cls, labels: LabelSet, settings: Mapping[str, Any]) -> dict[str, Any]:
        lines = next((category.skeleton for category in labels.categories if category.points), ())
        own, points = super().record(labels, settings), range(len(labels.names(cls.name)))
        return own | {"skeleton": [[i, j] for i, j in lines if i in points and j in points]}

    def parts(self, labels: ImageLabels, size: tuple[int, int]) -> list[Part]:
        """A square around each object."""
        return [Part(crop_box(labels.boxes[i]), i) for i in objects(labels)]

    def unlabelled_parts(self, size: tuple[int, int]) -> list[Part]:
        """One object that fills the image."""
        return [Part(crop_box(np.array([0, 0, *size])))]

    def cut(self, sample: Sample, part: Part) -> Sample:
        own, side = slice(part.number, part.number + 1), min(part.box[2] - part.box[0], MOST_SIDE)
        if part.number >= 0:
            sample = Sample(
                sample.image, sample.boxes[own], sample.classes[own], sample.ignored[own], sample.points[own]
            )
        return cropped(sample, part.box, (side, side))

    def target(self, sample: Sample, stride: int) -> np.ndarray:
        return target(sample, stride)

    def head(self, targets: Iterable[np.ndarray]) -> MapHead:
        return head(len(self.names))

    def loss(self, targets: Iterable[np.ndarray], weighted_loss: int) -> nn.Cell:
        return PointLoss()

    def hits(self, outputs: np.ndarray, targets: np.ndarray) -> float:
        """Of the labelled points, those whose map is highest at most one cell from the target's highest one."""
        counted, width = targets[:, :, 0, 0] >= 0, targets.shape[3]
        found, there = (maps.reshape(*maps.shape[:2], -1).argmax(2) for maps in (outputs, targets))
        near = (abs(found // width - there // width) <= 1) & (abs(found % width - there % width) <= 1)
        return len(targets) * float(near[counted].mean()) if counted.any() else float(len(targets))

    def answer(
        self, outputs: Sequence[np.ndarray], parts: Sequence[Part], size: tuple[int, int], side: int, stride: int
    ) -> Points:
        found = [uncropped(decode(output, stride), part.box, side) for output, part in zip(outputs, parts, strict=True)]
        return Points(
            np.array(found).reshape(-1, len(self.names), 3), np.array([part.box for part in parts]).reshape(-1, 4)
        )

    def truth(self, sample: Sample) -> Points:
        own = objects(sample)
        return Points(sample.points[own], sample.boxes[own])

    def figures(self, answers: Iterable[Points], truths: Iterable[Points]) -> Figures:
        answers, truths = list(answers), list(truths)
        found, there = ([points for image in images for points in image.points] for images in (answers, truths))
        figures = measure(found, there, np.concatenate([image.boxes for image in truths]))
        return {**figures, "by_name": self.by_name(answers, truths)}

    def by_name(self, answers: Sequence[Points], truths: Sequence[Points]) -> dict[str, Figures]:
        """pck; nme, the mean error as a share of the box; labelled points."""
        pairs = zip(answers, truths, strict=True)
        rows = [row for own, there in pairs for row in errors_of(list(own.points), list(there.points), there.boxes)]
        errors = [np.array([own[k] for own, seen in rows if seen[k]]) for k in range(len(self.names))]
        return {
            name: {
                "pck": float((own <= PCK).mean()) if len(own) else float("nan"),
                "nme": float(own.mean()) if len(own) else float("nan"),
                "points": len(own),
            }
            for name, own in zip(self.names, errors, strict=True)
        }

    def compare(self, answer: Points, truth: Points) -> Compared:
        """score: minus the mean error as a share of the box. Missed: points that pck counts as wrong."""
        rows = errors_of(list(answer.points), list(truth.points), truth.boxes)
        missed = [self.names[k] for own, seen in rows for k in np.flatnonzero(seen & (own > PCK))]
        errors = [own[seen] for own, seen in rows]
        means = {name: row["nme"] for name, row in self.by_name([answer], [truth]).items() if row["points"]}
        return Compared(-float(np.concatenate(errors).mean()) if errors else float("nan"), missed, [], means)

    def scaled(self, answer: Points, factor: float, size: tuple[int, int]) -> Points:
        return Points(answer.points * np.array([factor, factor, 1.0]), answer.boxes * factor)

    def constant(self, samples: Iterable[Sample]) -> Callable[[Sample], Points]:
        """The mean position of each point in the box."""
        points, boxes = (np.concatenate(values) for values in zip(*map(self.truth, samples), strict=True))
        sides = boxes[:, None, 2:] - boxes[:, None, :2]
        shares, seen = (points[..., :2] - boxes[:, None, :2]) / sides, points[..., 2:] > 0
        mean = (shares * seen).sum(0) / np.maximum(seen.sum(0), 1)  # (K, 2)

        def at(own: Sample) -> Points:
            boxes = self.truth(own).boxes
            places = mean * (boxes[:, None, 2:] - boxes[:, None, :2]) + boxes[:, None, :2]
            return Points(np.concatenate([places, np.ones((*places.shape[:2], 1))], 2), boxes)

        return at

    def draw(self, image: np.ndarray, answer: Points) -> Image.Image:
        return draw_points(image, list(answer.points), [(i, j) for i, j in self.info.get("skeleton", ())])

    def rows(self, answer: Points) -> list[dict[str, Any]]:
        """box, points {name: [x, y, score]}."""
        return [
            {
                "box": [round(float(v), 2) for v in box],
                "points": {
                    name: [round(float(v), 3) for v in row] for name, row in zip(self.names, points, strict=True)
                },
            }
            for points, box in zip(*answer, strict=True)
        ]
