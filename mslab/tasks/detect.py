"""Objects as points: a heat map of centres for each class, and the size of the box there (Zhou et al. 2019, CenterNet).

Targets and outputs are maps at the pyramid's stride, packed into one array so that a batch is one tensor:

    targets (N, C + 5, h, w)   C heat maps with a 1 in each centre's cell and a Gaussian around it
                               2 logarithms of width and height in cells, 2 offset of the centre in its cell, [0, 1)
                               1 kind of cell: 1 holds a centre, 0 does not, -1 is in an ignored object and counts not
    outputs (N, C + 4, h, w)   logits of the heat maps, then size and offset

Zhou et al. learn width and height themselves, with a weight of 0.1 in the loss; their logarithms weigh small and large
boxes alike, and take far fewer steps. Of two centres in one cell the smaller object has the size and offset; if both
have the same class, it alone is found.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from PIL import Image

from mslab.config.tasks import OF_DETECT
from mslab.tasks import average_precision
from mslab.tasks.average_precision import Detections, overlaps
from mslab.tasks.drawing import draw_boxes
from mslab.tasks.labels import ImageLabels
from mslab.tasks.neck import MapHead
from mslab.tasks.sample import Box, Sample, areas, unfitted
from mslab.tasks.sigmoid import negative_log_sigmoid, sigmoid
from mslab.tasks.task import Compared, Figures, Part, Task
from mslab.tasks.tiles import tile_boxes

OVERLAP = 0.7  # a box whose centre is off by the radius of the Gaussian still overlaps the true one by this
PRIOR = 0.1  # where the heat starts: at 0.5 the many empty cells would swamp the first steps (Lin et al. 2017)
ALPHA, BETA = 2, 4  # of the focal loss: how little easy cells count, and cells near a centre
MOST = 1000  # centres of an image that are looked at, the surest ones
SIDE = 8.0  # cells, where widths and heights start
LOWEST = 0.05  # score of a box that still counts in average precision, which needs the doubtful ones, too


def head(class_num: int) -> MapHead:
    bias = np.zeros(class_num + 4, np.float32)
    bias[:class_num], bias[-4:-2], bias[-2:] = -np.log((1 - PRIOR) / PRIOR), np.log(SIDE), 0.5
    return MapHead(class_num + 4, bias)


def radius(width: float, height: float, overlap: float = OVERLAP) -> float:
    """By how much both corners of a box may be off, so that any such box overlaps it by at least `overlap`.

    The least of three cases (Law & Deng 2018, CornerNet): the box shifted, shrunk on both sides, grown on both sides.
    """
    total, product = width + height, width * height
    shifted = (total - np.sqrt(total**2 - 4 * product * (1 - overlap) / (1 + overlap))) / 2
    shrunk = (total - np.sqrt(total**2 - 4 * product * (1 - overlap))) / 4
    grown = (-total + np.sqrt(total**2 + 4 * product * (1 - overlap) / overlap)) / 4
    return float(min(shifted, shrunk, grown))


def target(sample: Sample, class_num: int, stride: int) -> np.ndarray:
    """The maps of one image, float32 (C + 5, H/stride, W/stride)."""
    width, height = (-(-side // stride) for side in sample.size)
    maps = np.zeros((class_num + 5, height, width), np.float32)
    heat, shape, offset, kind = maps[:class_num], maps[-5:-3], maps[-3:-1], maps[-1]
    boxes = sample.boxes.astype(np.float64) / stride
    for left, top, right, bottom in boxes[sample.ignored]:
        kind[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))] = -1
    order = np.argsort(-areas(sample.boxes), kind="stable")  # the smaller one comes last, and stays
    rows, columns = np.mgrid[:height, :width]
    for i in order[~sample.ignored[order]]:
        left, top, right, bottom = boxes[i]
        x, y = (left + right) / 2, (top + bottom) / 2
        column, row = min(int(x), width - 1), min(int(y), height - 1)
        reach = int(radius(right - left, bottom - top))
        squares = (rows - row) ** 2 + (columns - column) ** 2
        near = (abs(rows - row) <= reach) & (abs(columns - column) <= reach)
        bump = np.exp(-squares / (2 * ((2 * reach + 1) / 6) ** 2)) * near  # 1 in the centre's cell
        heat[sample.classes[i]] = np.maximum(heat[sample.classes[i]], bump)
        shape[:, row, column] = np.log((right - left, bottom - top))
        offset[:, row, column] = x - column, y - row
        kind[row, column] = 1
    return maps


class DetectLoss(nn.Cell):
    """Penalty-reduced focal loss of the heat, L1 of size and offset in the centres' cells, per object of the batch.

    outputs (N, C + 4, h, w), targets (N, C + 5, h, w) -> float32 ()
    """

    def construct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        outputs = outputs.astype(ms.float32)
        classes = targets.shape[1] - 5
        logits, heat, kind = outputs[:, :classes], targets[:, :classes], targets[:, -1:]
        centre = (heat == 1).astype(ms.float32)
        p = ops.sigmoid(logits)
        found = centre * (1 - p) ** ALPHA * negative_log_sigmoid(logits)
        empty = (1 - heat) ** BETA * p**ALPHA * negative_log_sigmoid(-logits)
        empty = empty * (kind >= 0).astype(ms.float32)
        errors = ops.abs(outputs[:, classes:] - targets[:, classes : classes + 4])
        errors = errors * (kind == 1).astype(ms.float32)
        return (found.sum() + empty.sum() + errors.sum()) / ops.maximum(centre.sum(), 1.0)


def decode(
    outputs: np.ndarray,
    stride: int,
    size: tuple[int, int],
    box_score_thresh: float = 0.3,
    nms_iou_thresh: float | None = 0.5,
    box_detections_per_img: int = 100,
) -> Detections:
    """The objects of one image, the surest first: (C + 4, h, w) -> boxes in pixels, cut at size (width, height).

    A centre is a cell whose heat none of its eight neighbours exceeds. nms_iou_thresh: a box that overlaps a surer one
    of its class by more is dropped; None = none is, as Zhou et al. do.
    """
    heat = sigmoid(outputs[:-4])
    padded = np.pad(heat, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))  # type: ignore[call-overload]
    peaks = np.stack(np.nonzero((heat == windows.max((3, 4))) & (heat >= box_score_thresh)))
    scores = heat[tuple(peaks)]
    best = np.argsort(-scores, kind="stable")[:MOST]  # equal ones in the order of class, row, column
    (label, row, column), scores = peaks[:, best], scores[best]
    wide, high, x, y = outputs[-4:, row, column].astype(np.float64)
    middle, half = np.stack([column + x, row + y], 1), np.exp(np.minimum(np.stack([wide, high], 1), 10)) / 2
    boxes = np.clip(np.hstack([middle - half, middle + half]) * stride, 0, np.array(size * 2)).astype(np.float32)
    chosen = np.flatnonzero(areas(boxes) > 0)
    if nms_iou_thresh is not None:
        chosen = chosen[suppress(boxes[chosen], scores[chosen], label[chosen], nms_iou_thresh)]
    return take(Detections(boxes, scores, label.astype(np.int32)), chosen[:box_detections_per_img])


def take(found: Detections, chosen: np.ndarray) -> Detections:
    return Detections(found.boxes[chosen], found.scores[chosen], found.classes[chosen])


def suppress(
    boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, threshold: float, most: int = MOST
) -> np.ndarray:
    """Indices of the boxes that no surer box of their class overlaps by more than the threshold, the surest first.

    At most `most`. Row by row: the boxes of all tiles together may be many thousands.
    """
    kept: list[int] = []
    gone = np.zeros(len(boxes), bool)
    for i in np.argsort(-scores, kind="stable"):
        if not gone[i]:
            kept.append(i)
            if len(kept) == most:
                break
            gone |= (overlaps(boxes[i : i + 1], boxes)[0] > threshold) & (classes == classes[i])
    return np.array(kept, int)


def joined(
    found: Sequence[Detections],
    tiles: Sequence[Box],
    tile_predictions_nms_thresh: float = 0.25,
    box_detections_per_img: int = 100,
) -> Detections:
    """What was found in the whole image (first) and in each tile, in the image's coordinates, duplicates dropped."""
    shifts = [np.zeros(4, np.float32), *(np.array(box[:2] * 2, np.float32) for box in tiles)]
    boxes = np.concatenate([own.boxes + shift for own, shift in zip(found, shifts, strict=True)])
    both = Detections(
        boxes, np.concatenate([own.scores for own in found]), np.concatenate([own.classes for own in found])
    )
    return take(both, suppress(*both[:3], tile_predictions_nms_thresh, box_detections_per_img))


def truth(sample: Sample) -> Detections:
    return Detections(sample.boxes, np.ones(len(sample.boxes)), sample.classes, sample.ignored)


def measure(
    found: list[Detections],
    there: list[Detections],
    class_num: int,
    validation_metric_type: str = "voc",
    validation_iou_threshold: float = 0.5,
) -> dict[str, float]:
    """The figures that validation_metric_type asks for: voc, coco, coco_voc or none."""
    figures: dict[str, Any] = {}
    if "voc" in validation_metric_type:
        figures["voc_map"] = average_precision.voc(found, there, class_num, validation_iou_threshold)
    if "coco" in validation_metric_type:
        figures |= average_precision.coco(found, there)
    return figures


class Detect(Task):
    """Boxes around objects. An answer is Detections."""

    name = "detect"
    options = OF_DETECT

    def parts(self, labels: ImageLabels, size: tuple[int, int]) -> list[Part]:
        grid, overlap = (self.info["options"][name] for name in ("tile_grid_size", "tile_overlap_ratio"))
        tiles = tile_boxes(size, tuple(grid), overlap) if grid else []
        return [Part((0, 0, *size)), *map(Part, tiles)]

    def target(self, sample: Sample, stride: int) -> np.ndarray:
        return target(sample, len(self.names), stride)

    def head(self, targets: Iterable[np.ndarray]) -> MapHead:
        return head(len(self.names))

    def loss(self, targets: Iterable[np.ndarray], weighted_loss: int) -> nn.Cell:
        return DetectLoss()

    def hits(self, outputs: np.ndarray, targets: np.ndarray) -> float:
        """Of the cells that hold a centre, those whose most probable class is right."""
        centre, count = targets[:, -1] == 1, len(self.names)
        right = outputs[:, :count].argmax(1) == targets[:, :count].argmax(1)
        return len(targets) * float(right[centre].mean()) if centre.any() else float(len(targets))

    def answer(
        self, outputs: Sequence[np.ndarray], parts: Sequence[Part], size: tuple[int, int], side: int, stride: int
    ) -> Detections:
        """All boxes down to LOWEST; shown() leaves those of box_score_thresh."""
        options, found = self.info["options"], []
        least, most = min(LOWEST, options["box_score_thresh"]), options["box_detections_per_img"]
        for output, (left, top, right, bottom) in zip(outputs, (part.box for part in parts), strict=True):
            own = decode(output, stride, (side, side), least, options["nms_iou_thresh"], most)
            width, height = right - left, bottom - top
            inner = np.clip(unfitted(own.boxes, side, width, height), 0, np.array([width, height] * 2, np.float32))
            own = own._replace(boxes=inner.astype(np.float32))
            found.append(take(own, np.flatnonzero(areas(own.boxes) > 0)))
        if len(found) == 1:
            return found[0]
        return joined(found, [part.box for part in parts[1:]], options["tile_predictions_nms_thresh"], most)

    def shown(self, answer: Detections) -> Detections:
        return take(answer, np.flatnonzero(answer.scores >= self.info["options"]["box_score_thresh"]))

    def truth(self, sample: Sample) -> Detections:
        return truth(sample)

    def figures(self, answers: Iterable[Detections], truths: Iterable[Detections]) -> Figures:
        answers, truths, options = list(answers), list(truths), self.info["options"]
        kind, threshold = options["validation_metric_type"], options["validation_iou_threshold"]
        figures = measure(answers, truths, len(self.names), kind, threshold)
        return {self.measure: float("nan")} | figures | {"by_name": self.by_name(answers, truths)}

    def by_name(self, answers: Sequence[Detections], truths: Sequence[Detections]) -> dict[str, Figures]:
        """ap: VOC's; objects that are there; missed and invented at box_score_thresh."""
        options, rows = self.info["options"], {}
        found = average_precision.matches(answers, truths, len(self.names), options["validation_iou_threshold"])
        for name, own in zip(self.names, found, strict=True):
            right = own.correct[own.scores >= options["box_score_thresh"]]
            rows[name] = {
                "ap": average_precision.average_precision(*own, envelope=True),
                "objects": own.positives,
                "missed": own.positives - int(right.sum()),
                "invented": int((~right).sum()),
            }
        return rows

    def compare(self, answer: Detections, truth: Detections) -> Compared:
        """score: F1 of the boxes at box_score_thresh; 1 for an image of nothing in which nothing was found."""
        rows = self.by_name([answer], [truth])
        missed = [name for name, row in rows.items() for _ in range(row["missed"])]
        invented = [name for name, row in rows.items() for _ in range(row["invented"])]
        hits = sum(row["objects"] for row in rows.values()) - len(missed)
        wrong = len(missed) + len(invented)
        return Compared(2 * hits / (2 * hits + wrong) if hits or wrong else 1.0, missed, invented, {})

    def scaled(self, answer: Detections, factor: float, size: tuple[int, int]) -> Detections:
        return answer._replace(boxes=answer.boxes * factor)

    def constant(self, samples: Iterable[Sample]) -> Callable[[Sample], Detections]:
        """The mean box of each class, as a share of the image, the frequent classes surer."""
        rows = [(own.boxes / np.array(own.size * 2, np.float32), own.classes, ~own.ignored) for own in samples]
        boxes, classes, kept = map(np.concatenate, zip(*rows, strict=True))
        there = np.unique(classes[kept])
        mean = np.array([boxes[kept & (classes == label)].mean(0) for label in there]).reshape(-1, 4)
        score = np.array([(classes[kept] == label).mean() for label in there])
        return lambda own: Detections((mean * np.array(own.size * 2)).astype(np.float32), score, there)

    def draw(self, image: np.ndarray, answer: Detections) -> Image.Image:
        return draw_boxes(image, answer, self.names)

    def rows(self, answer: Detections) -> list[dict[str, Any]]:
        """class, score, box: left, top, right, bottom."""
        rows = zip(answer.boxes, answer.scores, answer.classes, strict=True)
        return [
            {"class": self.names[label], "score": float(score), "box": [round(float(v), 2) for v in box]}
            for box, score, label in rows
        ]
