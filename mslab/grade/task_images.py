"""Hidden images with labels of a task: the parts that its networks see, and the task's measure of what they return."""

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mslab.check import DatasetReport
from mslab.check.label_report import LabelReport
from mslab.config import FIELDS
from mslab.data import labelled_feed
from mslab.grade.measuring import HiddenImages
from mslab.tasks.registry import class_of
from mslab.tasks.sample import fitted


def hidden_images(report: DatasetReport, folder: Path) -> HiddenImages:
    """Of the only split of a data set with classes, or with labels of a task."""
    kind = HiddenParts if isinstance(report, LabelReport) else HiddenImages
    return kind(report, next(iter(report.splits)), folder)


def identity(report: DatasetReport) -> tuple[str, ...]:
    """What tells hidden sets apart: the images, and the task that labels are read for."""
    return (report.fingerprint, *getattr(report, "tasks", ()))


class HiddenParts(HiddenImages):
    """Parts of the images of one split: the images, or in keypoints the objects. The labels never leave the grader.

    Answers are made with the default settings: a submission cannot choose how it is measured, and has no tiles.
    """

    def __init__(self, report: DatasetReport, split: str, folder: Path) -> None:
        assert isinstance(report, LabelReport)
        kind = class_of(report.tasks[0])
        self.task = kind(kind.record(report.first, {name: field.default for name, field in FIELDS.items()}))
        self.labelled = labelled_feed.images_of(report, split)
        self.parts = labelled_feed.parts_of(self.task, self.labelled)
        self.fingerprint = hashlib.sha256(f"{report.fingerprint} {split} {kind.name}".encode()).hexdigest()
        self.order = np.random.default_rng(list(bytes.fromhex(self.fingerprint))).permutation(len(self.parts))
        self.folder, self.lock = Path(folder).resolve(), threading.Lock()
        self.readers, self.files = Counter[Path](), dict[Path, int]()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def labels(self) -> np.ndarray:
        """Of no use to a task."""
        return np.zeros(len(self), np.int32)

    @property
    def class_names(self) -> list[str]:
        return self.task.names

    def pixels(self, size: int, resize: int, mode: str, colour: Sequence[int]) -> Iterator[np.ndarray]:
        """Yield the parts as prediction fits them, uint8 (1, size, size, 3), in `order`."""
        for index, part in (self.parts[i] for i in self.order):
            yield fitted(self.task.cut(self.labelled.sample(index), part), size).image[None]

    def shape(self, network: Mapping[str, Any], classes: int) -> tuple[int, ...]:
        if not self.task.is_map:
            return (len(self), classes)
        cells = -(-network["image_size"] // (network.get("stride") or 1))
        return (len(self), classes + self.task.outputs - len(self.task.names), cells, cells)

    def figure(self, outputs: np.ndarray, network: Mapping[str, Any]) -> float:
        """The task's measure, 0 if it is undefined. `outputs`: of the parts in their own order."""
        rows: dict[int, list[int]] = {}
        for row, (index, _) in enumerate(self.parts):
            rows.setdefault(index, []).append(row)
        answers, truths = [], []
        for index in range(len(self.labelled)):
            own = rows.get(index, [])
            view = [outputs[i] for i in own], [self.parts[i][1] for i in own], self.labelled.size(index)
            answers.append(self.task.answer(*view, network["image_size"], network.get("stride") or 1))
            truths.append(self.task.truth(self.labelled.sample(index)))
        value = self.task.figures(answers, truths)[self.task.measure]
        return 0.0 if value is None or np.isnan(value) else float(value)
