"""The values: the labels of one image, of one split, and what is wrong with them."""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from mslab.tasks.rle import Region

TASKS = ("detect", "segment", "keypoints", "multilabel")
IGNORED = 255  # value of a mask's pixels that count for nothing
HIDDEN, VISIBLE = 1, 2  # COCO's visibility of a key point; 0 is a point that is not labelled
MOST_PROBLEMS = 1000  # that are kept of one code


class Problem(NamedTuple):
    """Something wrong with labels. `code`: of mslab check; `file`: the image that it is about, "" for the labels."""

    code: str
    severity: str  # error, warning or info
    file: str
    text: str


class Problems(list[Problem]):
    """A list with a limit, since a file of a million boxes may have a million problems."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def add(self, code: str, severity: str, file: str, text: str) -> None:
        self.counts[code] += 1
        if self.counts[code] <= MOST_PROBLEMS:
            self.append(Problem(code, severity, file, text))
        elif self.counts[code] == MOST_PROBLEMS + 1:
            self.append(Problem(code, severity, "", "and more of this kind, which are not listed"))


class Category(NamedTuple):
    """A class of objects, and the names of its key points, of which (i, j) are joined by a line, from 0."""

    name: str
    points: tuple[str, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class ImageLabels:
    """What is known of one image. Coordinates are pixels from the left upper corner: a pixel's middle is at 0.5."""

    file: str  # relative to the folder of the images, with "/"
    width: int = 0  # pixels; 0 where the labels do not say it
    height: int = 0
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))  # (n, 4) left, top, right, bottom
    classes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))  # (n,) indices of the set's categories
    ignored: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))  # (n,) iscrowd: not to be found, no mistake
    masks: tuple[Region | None, ...] = ()  # (n,) regions; .array() is (height, width) bool
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 3), np.float32))  # (n, K, 3) x, y, 0 | 1 | 2
    tags: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))  # (T,) 0 or 1
    mask: str = ""  # picture with the class of every pixel, relative to the folder of the masks


@dataclass(frozen=True)
class LabelSet:
    """The labels of a split, its images sorted by name; the objects of an image are in the order of their file."""

    images: tuple[ImageLabels, ...] = ()
    categories: tuple[Category, ...] = ()  # in the order of their ids, which is that of the indices in `classes`
    tags: tuple[str, ...] = ()
    ids: tuple[int, ...] = ()  # of the categories in their file

    @property
    def class_names(self) -> list[str]:
        return [category.name for category in self.categories]

    def names(self, task: str) -> list[str]:
        """What a network for this task has an output for: classes, tags, or the key points of an object."""
        if task == "multilabel":
            return list(self.tags)
        if task == "keypoints":
            return list(next((category.points for category in self.categories if category.points), ()))
        return self.class_names
