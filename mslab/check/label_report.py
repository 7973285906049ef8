"""The report on labels of other tasks than one class an image: it counts objects, or images with a tag."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mslab.check.records import printable
from mslab.check.report import DatasetReport, one_line, say
from mslab.files import sha256
from mslab.tasks.coco import counts_of
from mslab.tasks.folders import LabelFiles
from mslab.tasks.labels import LabelSet, Problem
from mslab.tasks.reading import EXPECTED


@dataclass
class LabelReport(DatasetReport):
    """Result of check_labels. Its splits have the images; all of them are of one class, called "image"."""

    tasks: tuple[str, ...] = ()
    places: dict[str, LabelFiles] = field(default_factory=dict)
    sets: dict[str, LabelSet] = field(default_factory=dict)
    problems: dict[str, list[tuple[Any, Problem]]] = field(default_factory=dict)  # split -> (file of labels, problem)
    masks: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)  # split -> {mask: a worker's answer}
    expected = EXPECTED
    caption = "Objects of each class (or images with a tag), in the order of the class indices"

    @property
    def first(self) -> LabelSet:
        """That of train, with which the others are compared."""
        return next(iter(self.sets.values()))

    @property
    def class_names(self) -> list[str]:
        only = self.tasks[0] if len(self.tasks) == 1 else ""
        names = self.first.names(only) or list(self.first.tags)
        return names or [str(value) for value in sorted({v for row in self.values.values() for v in row})]

    @property
    def values(self) -> dict[str, Counter[int]]:
        """{split: {value of a mask: masks that have it}}"""
        found = {}
        for split, masks in self.masks.items():
            found[split] = Counter(int(value) for answer in masks.values() for value in answer.get("values", ()))
        return found

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        rows = {}
        for name, labels in self.sets.items():
            if labels.categories and any(len(image.boxes) for image in labels.images):
                rows[name] = counts_of(labels)
            elif labels.categories:  # of masks alone
                values = self.values.get(name, Counter())
                rows[name] = {key: values[number] for number, key in enumerate(labels.class_names, 1)}
            elif labels.tags:
                bits = [image.tags for image in labels.images if len(image.tags)]
                totals = np.sum(bits, axis=0, dtype=int).tolist() if bits else [0] * len(labels.tags)
                rows[name] = dict(zip(labels.tags, totals, strict=True))
            else:
                rows[name] = {str(value): count for value, count in sorted(self.values.get(name, Counter()).items())}
        return rows

    @property
    def images(self) -> int:
        return sum(len(split.pictures) for split in self.splits.values())

    def images_in(self, split: str) -> int:
        """Images of a split that have labels; `counts` are objects or tags."""
        return len(self.sets[split].images)

    @property
    def fingerprint(self) -> str:
        """sha256 over every image and every file of labels; "" while there are errors."""
        if not self.ok:
            return ""
        digest = hashlib.sha256()
        for name, split in self.splits.items():
            for picture in sorted(split.pictures, key=lambda picture: picture.name):
                digest.update(f"{printable(f'{name}/{picture.name}')}\0{picture.sha256.hex()}\n".encode())
            place = self.places[name]
            for file in filter(None, (place.boxes, place.tags)):
                digest.update(f"{name}\0{file.name}\0{sha256(file)}\n".encode())
            for mask in sorted(image.mask for image in self.sets[name].images if image.mask):
                digest.update(
                    f"{printable(f'{name}/{mask}')}\0{sha256((place.masks or place.images) / mask)}\n".encode()
                )
        return digest.hexdigest()

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"tasks": list(self.tasks)}

    def _contents(self, most: int | None = None) -> list[str]:
        images = f"{self.images} image{'s' * (self.images != 1)}"
        lines = [say(f"{one_line(str(self.root))}: {images} with labels for {', '.join(self.tasks)}")]
        for name, row in self.counts.items():
            numbers = ", ".join(f"{one_line(key)} {count}" for key, count in row.items())
            lines.append(f"  {name or 'images':<6} {len(self.splits[name].pictures):>6}  {numbers}")
        return lines
