"""The class of every pixel: cross-entropy on the pyramid's map (the semantic branch of Kirillov et al. 2019).

Targets are int32 (N, H/4, W/4): the class that most of a cell's pixels have, IGNORED where most count for nothing.
Outputs are logits (N, C, H/4, W/4), class 0 the ground; decode() enlarges them to the image.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from PIL import Image

from mslab.tasks.drawing import draw_mask
from mslab.tasks.labels import IGNORED
from mslab.tasks.neck import MapHead
from mslab.tasks.sample import Sample, square_of
from mslab.tasks.task import Compared, Figures, Part, Task

COARSE = 32  # cells in each direction of the constant answer


def head(counts: np.ndarray) -> MapHead:
    """counts: training cells of each class, the ground first, int (C,).

    The logits start at the logarithms of their shares. From equal ones the first steps only learn that most is ground,
    by switching features off in the cells of rare classes, where no gradient switches them on again.
    """
    shares = (np.asarray(counts, np.float64) + 1) / (np.sum(counts) + len(counts))
    return MapHead(len(counts), np.log(shares).astype(np.float32))


def class_counts(targets: Iterable[np.ndarray], class_num: int) -> np.ndarray:
    """Cells of each class in all targets, int64 (C,); IGNORED ones are not counted."""
    total = np.zeros(class_num, np.int64)
    for target in targets:
        total += np.bincount(target.ravel(), minlength=IGNORED + 1)[:class_num]
    return total


def target(sample: Sample, class_num: int, stride: int) -> np.ndarray:
    """The class of each cell, int32 (H/stride, W/stride) rounded up; of equally frequent ones the lowest."""
    assert sample.mask is not None
    height, width = (-(-side // stride) for side in sample.mask.shape)
    beyond = [(0, cells * stride - side) for cells, side in zip((height, width), sample.mask.shape, strict=True)]
    mask = np.pad(sample.mask, beyond, "edge")
    cells = mask.reshape(height, stride, width, stride).transpose(0, 2, 1, 3).reshape(height, width, -1)
    counts = np.stack([(cells == value).sum(-1) for value in (*range(class_num), IGNORED)])
    return np.array([*range(class_num), IGNORED], np.int32)[counts.argmax(0)]


class SegmentLoss(nn.Cell):
    """Mean cross-entropy of the cells that count. logits (N, C, h, w), targets int32 (N, h, w) -> float32 ()."""

    def construct(self, logits: Tensor, targets: Tensor) -> Tensor:
        logs = ops.log_softmax(logits.astype(ms.float32), 1)
        counted = (targets != IGNORED).astype(ms.float32)
        chosen = ops.one_hot(targets, logits.shape[1], axis=1)  # all zeros for IGNORED, which is no class
        return -(logs * chosen).sum() / ops.maximum(counted.sum(), 1.0)


def decode(logits: np.ndarray, size: tuple[int, int], stride: int) -> np.ndarray:
    """The class of every pixel of an image of size (width, height), uint8: the logits (C, h, w), enlarged linearly."""
    larger = (logits.shape[2] * stride, logits.shape[1] * stride)
    planes = [Image.fromarray(plane.astype(np.float32)).resize(larger, Image.Resampling.BILINEAR) for plane in logits]
    return np.stack([np.asarray(plane) for plane in planes]).argmax(0).astype(np.uint8)[: size[1], : size[0]]


def confusion(mask: np.ndarray, predicted: np.ndarray, class_num: int) -> np.ndarray:
    """Pixels by true class (row) and predicted class (column), int64 (C, C), without IGNORED ones; images add up."""
    counted = mask != IGNORED
    pairs = mask[counted].astype(np.int64) * class_num + predicted[counted]
    return np.bincount(pairs, minlength=class_num**2).reshape(class_num, class_num)


def measure(confusions: Iterable[np.ndarray]) -> dict[str, float]:
    """Mean IoU over the classes that are there, in truth or prediction, and the share of correct pixels."""
    matrix = np.asarray(sum(confusions))
    shares = ious(matrix)
    if np.isnan(shares).all():
        return {"miou": float("nan"), "pixel_accuracy": float("nan")}
    return {"miou": float(np.nanmean(shares)), "pixel_accuracy": float(np.diag(matrix).sum() / matrix.sum())}


def ious(matrix: np.ndarray) -> np.ndarray:
    """Intersection over union of each class from their confusion (C, C), float64 (C,); NaN for one that is nowhere."""
    hits = np.diag(matrix)
    union = matrix.sum(0) + matrix.sum(1) - hits
    shares: np.ndarray = np.where(union > 0, hits / np.maximum(union, 1), np.nan)
    return shares


class Segment(Task):
    """The class of every pixel. An answer is a mask uint8 (H, W): 0 the ground, class i is i + 1."""

    name = "segment"

    def target(self, sample: Sample, stride: int) -> np.ndarray:
        return target(sample, self.outputs, stride)

    def head(self, targets: Iterable[np.ndarray]) -> MapHead:
        return head(class_counts(targets, self.outputs))

    def loss(self, targets: Iterable[np.ndarray], weighted_loss: int) -> nn.Cell:
        return SegmentLoss()

    def hits(self, outputs: np.ndarray, targets: np.ndarray) -> float:
        """Of the cells that count, those whose most probable class is right."""
        counted = targets != IGNORED
        right = (outputs.argmax(1) == targets)[counted]
        return len(targets) * float(right.mean()) if right.size else float(len(targets))

    def answer(
        self, outputs: Sequence[np.ndarray], parts: Sequence[Part], size: tuple[int, int], side: int, stride: int
    ) -> np.ndarray:
        """Each plane of logits is enlarged, then the bars beside the image are cut off and it gets its size."""
        left, top, right, _ = square_of(*size)
        scale = side / (right - left)
        ends = (-left * scale, -top * scale, (size[0] - left) * scale, (size[1] - top) * scale)
        x, y, far, low = (min(max(end, 0.0), float(side)) for end in ends)
        mask = Image.fromarray(decode(outputs[0], (side, side), stride))
        return np.asarray(mask.resize(size, Image.Resampling.NEAREST, (x, y, far, low)))

    def truth(self, sample: Sample) -> np.ndarray:
        assert sample.mask is not None
        return sample.mask

    def figures(self, answers: Iterable[np.ndarray], truths: Iterable[np.ndarray]) -> Figures:
        matrix = self.confusion(answers, truths)
        return {**measure([matrix]), "ground_iou": float(ious(matrix)[0]), "by_name": self.by_class(matrix)}

    def confusion(self, answers: Iterable[np.ndarray], truths: Iterable[np.ndarray]) -> np.ndarray:
        """That of all images, int64 (C, C), the ground first."""
        matrix = np.zeros((self.outputs, self.outputs), np.int64)
        for there, found in zip(truths, answers, strict=True):
            matrix += confusion(there, found, self.outputs)
        return matrix

    def by_name(self, answers: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> dict[str, Figures]:
        """iou; share of the pixels that have the class."""
        return self.by_class(self.confusion(answers, truths))

    def by_class(self, matrix: np.ndarray) -> dict[str, Figures]:
        total, pixels = max(int(matrix.sum()), 1), matrix.sum(1)
        rows = zip(self.names, ious(matrix)[1:].tolist(), pixels[1:].tolist(), strict=True)
        return {name: {"iou": iou, "share": count / total} for name, iou, count in rows}

    def compare(self, answer: np.ndarray, truth: np.ndarray) -> Compared:
        """score: mean IoU, the ground's too. Missed: a class of which no pixel is right; invented: one not there."""
        matrix = self.confusion([answer], [truth])
        shares, there, found = ious(matrix)[1:], matrix.sum(1)[1:], matrix.sum(0)[1:]
        rows = list(zip(self.names, shares.tolist(), there.tolist(), found.tolist(), strict=True))
        return Compared(
            measure([matrix])["miou"],
            [name for name, iou, pixels, _ in rows if pixels and not iou],
            [name for name, _, pixels, own in rows if own and not pixels],
            {name: iou for name, iou, pixels, _ in rows if pixels and iou},
        )

    def scaled(self, answer: np.ndarray, factor: float, size: tuple[int, int]) -> np.ndarray:
        return np.asarray(Image.fromarray(answer).resize(size, Image.Resampling.NEAREST))

    def constant(self, samples: Iterable[Sample]) -> Callable[[Sample], np.ndarray]:
        """The most frequent class at each position."""
        totals = np.zeros((self.outputs, COARSE, COARSE), int)
        for own in samples:
            mask = Image.fromarray(self.truth(own)).resize((COARSE, COARSE), Image.Resampling.NEAREST)
            totals += np.asarray(mask)[None] == np.arange(self.outputs)[:, None, None]
        usual = Image.fromarray(totals.argmax(0).astype(np.uint8))
        return lambda own: np.asarray(usual.resize(own.size, Image.Resampling.NEAREST))

    def draw(self, image: np.ndarray, answer: np.ndarray) -> Image.Image:
        return draw_mask(image, answer, names=self.names)

    def rows(self, answer: np.ndarray) -> list[dict[str, Any]]:
        """class, share of the pixels; of the classes that are there, the largest first, without the ground."""
        counts = np.bincount(answer.ravel(), minlength=IGNORED + 1)[1 : self.outputs]
        order = [int(i) for i in np.argsort(-counts, kind="stable") if counts[i]]
        return [{"class": self.names[i], "share": float(counts[i] / answer.size)} for i in order]
