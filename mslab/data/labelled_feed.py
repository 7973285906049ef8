"""Images with labels of a task -> batches. What a batch's labels are for classification, targets are here: one array.

An image is decoded, cut into the task's parts, and each part is augmented or fitted together with its labels. Everything
random depends on seed, epoch and part only: batches are equal with any number of threads.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import mindspore.dataset as ds
import numpy as np
from PIL import Image, ImageEnhance

from mslab.check.label_report import LabelReport
from mslab.check.records import ImageRecord
from mslab.check.worker import open_image
from mslab.config import Settings
from mslab.data import augment, batching, seeding
from mslab.data.reading import read_checked
from mslab.errors import DatasetError
from mslab.runtime import devices
from mslab.runtime.workers import ALONE, Group
from mslab.tasks.labels import ImageLabels
from mslab.tasks.reading import in_order
from mslab.tasks.sample import Sample, augmented, class_mask, fitted, mirror_pairs, sample
from mslab.tasks.task import Part, Task

Batch = tuple[np.ndarray, np.ndarray]


def pixels_of(content: bytes) -> np.ndarray:
    """The image as it is stored, uint8 (H, W, 3): EXIF's orientation is not applied, since labels are of these pixels."""
    with open_image(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


@dataclass
class LabelledImages:
    """The images of one split that have labels for a task, decoded when they are asked for, and kept if `keep` is set."""

    labels: Sequence[ImageLabels]
    folder: Path  # of the images
    masks: Path | None  # folder of the pictures of classes
    records: Mapping[str, ImageRecord]  # of the check, by file
    keep: bool = False
    kept: dict[int, Sample] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def paths(self) -> list[Path]:
        return [self.folder / row.file for row in self.labels]

    def size(self, index: int) -> tuple[int, int]:
        """Width and height in pixels."""
        record = self.records[self.labels[index].file]
        return record.width, record.height

    def sample(self, index: int) -> Sample:
        """The pixels and labels of an image. Raises DatasetError if it has changed since the check."""
        if index in self.kept:
            return self.kept[index]
        row = self.labels[index]
        pixels = pixels_of(read_checked(self.folder / row.file, self.records[row.file]))
        found = sample(pixels, row, self.mask(row))
        if self.keep:
            self.kept[index] = found
        return found

    def mask(self, row: ImageLabels) -> np.ndarray | None:
        """The class of every pixel, uint8 (H, W): of the picture of classes, else of the objects' masks."""
        if row.mask and self.masks:
            with open_image(io.BytesIO(read_checked(self.masks / row.mask, None))) as image:
                return np.asarray(image.convert("I") if image.mode.startswith("I") else image).astype(np.uint8)
        return class_mask(row) if any(region is not None for region in row.masks) else None


def images_of(report: LabelReport, split: str, keep: bool = False) -> LabelledImages:
    """The labelled images of a checked split, by name."""
    place, found = report.places[split], report.splits[split]
    home = found.root
    records = {(home / r.name).relative_to(place.images).as_posix(): r for r in found.pictures}
    labels = in_order(report.sets[split], report.first)  # which may number the classes otherwise
    return LabelledImages(labels.images, place.images, place.masks, records, keep)


@dataclass
class _Rows:
    """Images and targets at these positions, for MindSpore's GeneratorDataset."""

    feed: "LabelFeed"
    images: LabelledImages
    parts: Sequence[tuple[int, Part]]
    order: np.ndarray
    epoch: int | None  # None: fitted, not augmented
    problems: list[DatasetError] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> Batch:
        index, part = self.parts[self.order[position]]
        try:
            own = self.feed.task.cut(self.images.sample(index), part)
        except DatasetError as error:  # of which MindSpore makes a RuntimeError
            self.problems.append(error)
            raise
        own = self.feed.seen(own, self.epoch, int(self.order[position]))
        return self.feed.normalised(own.image), self.feed.task.target(own, self.feed.stride)


@dataclass
class LabelFeed:
    """Batches of a task: this worker's training batches of each epoch, and the validation batches.

    stride: pixels per cell of the network's map.
    """

    task: Task
    images: LabelledImages
    val_images: LabelledImages
    config: Settings
    stride: int
    group: Group = ALONE
    epoch_parts: int | None = None  # parts an epoch, if not all of them once

    @property
    def class_names(self) -> list[str]:
        return self.task.names

    def parts(self, images: LabelledImages) -> list[tuple[int, Part]]:
        """(index of the image, part), image by image."""
        sizes = map(images.size, range(len(images)))
        rows = enumerate(zip(images.labels, sizes, strict=True))
        return [(index, part) for index, (row, size) in rows for part in self.task.parts(row, size)]

    @cached_property
    def train_parts(self) -> list[tuple[int, Part]]:
        """How often each one is used differs by at most one."""
        parts = self.parts(self.images)
        count = self.epoch_parts or len(parts)
        return [parts[i * len(parts) // count] for i in range(count)]

    @cached_property
    def val_parts(self) -> list[tuple[int, Part]]:
        return self.parts(self.val_images)

    def train(self, epoch: int) -> Iterator[Batch]:
        """Shuffled, augmented full batches of this worker: float32 (batch_size, 3, S, S), targets (batch_size, ...)."""
        order = seeding.stream("order", self.config.seed, epoch).permutation(len(self.train_parts))
        order = self.group.share(order, self.config.batch_size)
        yield from self.batches(_Rows(self, self.images, self.train_parts, order, epoch), self.config.batch_size, True)

    def val(self) -> Iterator[Batch]:
        """Every part of the validation images once, in order, in each worker; the last batch may be smaller."""
        rows = _Rows(self, self.val_images, self.val_parts, np.arange(len(self.val_parts)), None)
        yield from self.batches(rows, batching.eval_batch_size(self.config), False)

    def batches(self, rows: _Rows, size: int, drop_last: bool) -> Iterator[Batch]:
        threads = devices.workers(self.config.data_workers)
        source = ds.GeneratorDataset(
            rows, ["image", "target"], shuffle=False, num_parallel_workers=threads, python_multiprocessing=False
        )
        batched = source.batch(size, drop_remainder=drop_last, num_parallel_workers=1)
        try:
            yield from batched.create_tuple_iterator(num_epochs=1, output_numpy=True)
        except RuntimeError as error:
            raise (rows.problems[0] if rows.problems else error) from error

    def targets(self) -> Iterator[np.ndarray]:
        """The target of every training part, not augmented, made when it is asked for."""
        if not self.task.is_map:  # tags are in the labels
            nothing = np.zeros((1, 1, 3), np.uint8)
            yield from (self.task.target(sample(nothing, row), self.stride) for row in self.images.labels)
            return
        for index, part in self.train_parts:
            own = self.task.cut(self.images.sample(index), part)
            yield self.task.target(self.seen(own, None), self.stride)

    def seen(self, own: Sample, epoch: int | None, number: int = 0) -> Sample:
        """A part in the square that the network takes: augmented for an epoch, or fitted."""
        c = self.config
        if epoch is None:
            return fitted(own, c.image_size)
        rng = seeding.stream("labels", c.seed, epoch, number)
        found = augmented(own, rng, c.image_size, c.crop_scale, c.flip, mirror_pairs(self.task.names))
        return jittered(found, rng, c.color_jitter)

    def normalised(self, pixels: np.ndarray) -> np.ndarray:
        return normalised(pixels, *augment.scale(self.config))


def normalised(pixels: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """uint8 (S, S, 3) -> (image / 255 - mean) / std, float32 (3, S, S)."""
    scaled = (pixels / np.float32(255) - np.array(mean, np.float32)) / np.array(std, np.float32)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))


def jittered(own: Sample, rng: np.random.Generator, strength: float) -> Sample:
    """Brightness, contrast and saturation, each times a factor between 1 - strength and 1 + strength."""
    factors = 1 + strength * rng.uniform(-1, 1, 3)
    if not strength:
        return own
    image: Any = Image.fromarray(own.image)
    for change, factor in zip(
        (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), factors, strict=True
    ):
        image = change(image).enhance(float(factor))
    return replace(own, image=np.asarray(image))
