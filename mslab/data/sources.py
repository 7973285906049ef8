"""Sources of images: folders of files, packs, or decoded pixels.

The class order comes from the check and is explicit; MindSpore never guesses it.
"""

import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import mindspore.dataset as ds
import numpy as np

from mslab.check import DatasetReport, packed
from mslab.check.records import ImageRecord
from mslab.data.reading import read_checked
from mslab.errors import DatasetError

Source = TypeVar("Source", bound="ImageSource")


@dataclass(frozen=True)
class ImageSource(ABC):
    """The images of one split: exactly those that passed the check, in a fixed order."""

    labels: np.ndarray  # int32 (n,); index into class_names
    class_names: list[str]

    decoded = False  # whether dataset() yields pixels; otherwise a file's bytes

    def __len__(self) -> int:
        return len(self.labels)

    def resample(self: Source, count: int) -> Source:
        """`count` images; how often each one is used differs by at most one."""
        return self.take(np.arange(count) * len(self) // count)

    @abstractmethod
    def take(self: Source, index: np.ndarray) -> Source:
        """The images at these positions, in this order."""

    @abstractmethod
    def names(self) -> list[str]:
        """A unique name for each image."""

    @abstractmethod
    def dataset(self, order: np.ndarray) -> ds.Dataset:
        """Columns image, uint8, and label, int32 (), of the images in this order."""

    def problem(self) -> DatasetError | None:
        """What is wrong with an image, after a pipeline of dataset() has failed; None if it is something else."""
        return None

    @abstractmethod
    def open_images(self, index: np.ndarray) -> Iterable[Path | io.BytesIO]:
        """The images at these positions, as paths or streams that Pillow can open."""


@dataclass(frozen=True)
class FolderImages(ImageSource):
    """One file per image."""

    files: list[Path]
    records: Sequence[ImageRecord] = ()  # of the check, one per file; without them any content is accepted
    problems: list[DatasetError] = field(default_factory=list)  # of files that a pipeline's thread could not read

    def take(self, index: np.ndarray) -> "FolderImages":
        records = [self.records[i] for i in index] if self.records else ()
        return replace(self, files=[self.files[i] for i in index], labels=self.labels[index], records=records)

    def names(self) -> list[str]:
        return [str(path) for path in self.files]

    def dataset(self, order: np.ndarray) -> ds.Dataset:
        return generated(self.read, self.labels, order)

    def read(self, index: int) -> np.ndarray:
        """The bytes of a file, uint8 (n,). Raises DatasetError, of which MindSpore makes a RuntimeError."""
        try:
            return np.frombuffer(
                read_checked(self.files[index], self.records[index] if self.records else None), np.uint8
            )
        except DatasetError as error:
            self.problems.append(error)
            raise

    def problem(self) -> DatasetError | None:
        return self.problems[0] if self.problems else None

    def open_images(self, index: np.ndarray) -> Iterable[Path | io.BytesIO]:
        return [self.files[i] for i in index]


@dataclass(frozen=True)
class PackedImages(ImageSource):
    """Rows of a few large files (MindRecord)."""

    shards: list[Path]
    rows: np.ndarray  # int (n,); each image's row, counted over all shards
    total: int  # rows of all shards

    def take(self, index: np.ndarray) -> "PackedImages":
        return replace(self, labels=self.labels[index], rows=self.rows[index])

    def names(self) -> list[str]:
        return [f"{self.shards[0].parent}/{row}" for row in self.rows]

    def problem(self) -> DatasetError | None:
        try:
            packed.verify(self.shards[0].parent, packed.read(self.shards[0].parent), deep=False)
        except DatasetError as error:
            return error
        return None

    def dataset(self, order: np.ndarray) -> ds.Dataset:
        if problem := self.problem():
            raise problem
        rows, shards = self.rows[order], [str(path) for path in self.shards]
        parts = [  # MindRecord accepts a row several times, but at most `total` rows at a time
            ds.MindDataset(
                shards,
                columns_list=["image", "label"],
                sampler=ds.SubsetSampler(rows[start : start + self.total].tolist()),
                num_parallel_workers=1,
            )
            for start in range(0, len(rows), self.total)
        ]
        return parts[0] if len(parts) == 1 else parts[0].concat(parts[1:])

    def open_images(self, index: np.ndarray) -> Iterable[Path | io.BytesIO]:
        return (io.BytesIO(image.tobytes()) for image, _ in rows_of(self.dataset(index), self))


@dataclass(frozen=True)
class DecodedImages(ImageSource):
    """Pixels in memory or in a memory-mapped file. Names and files are those of the source they were decoded from."""

    pixels: Sequence[np.ndarray]  # uint8 (H, W, 3) each
    origin: ImageSource
    decoded = True

    def take(self, index: np.ndarray) -> "DecodedImages":
        pixels = [self.pixels[i] for i in index]
        return replace(self, labels=self.labels[index], pixels=pixels, origin=self.origin.take(index))

    def names(self) -> list[str]:
        return self.origin.names()

    def dataset(self, order: np.ndarray) -> ds.Dataset:
        return generated(lambda i: self.pixels[i], self.labels, order)

    def open_images(self, index: np.ndarray) -> Iterable[Path | io.BytesIO]:
        return self.origin.open_images(index)


def rows_of(dataset: ds.Dataset, images: ImageSource) -> Iterator[list[np.ndarray]]:
    """Yield the rows of a pipeline once. Raises DatasetError if an image is gone, cannot be read or has changed."""
    try:
        yield from dataset.create_tuple_iterator(num_epochs=1, output_numpy=True)
    except RuntimeError as error:
        raise images.problem() or error from error


class _Rows:
    """Images and labels in the order `order`, for MindSpore's GeneratorDataset."""

    def __init__(self, image: Callable[[int], np.ndarray], labels: np.ndarray, order: np.ndarray) -> None:
        self.image, self.labels, self.order = image, labels, order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> tuple[np.ndarray, np.int32]:
        index = self.order[position]
        return self.image(index), np.int32(self.labels[index])


def generated(image: Callable[[int], np.ndarray], labels: np.ndarray, order: np.ndarray) -> ds.Dataset:
    """Columns image and label: image(i) and labels[i] for each i of `order`."""
    rows, columns = _Rows(image, labels, order), ["image", "label"]
    return ds.GeneratorDataset(rows, columns, shuffle=False, num_parallel_workers=1, python_multiprocessing=False)


def images_of(report: DatasetReport, name: str) -> ImageSource:
    """The images of a checked split, for training and evaluation."""
    split = report.splits[name]
    if split.pack is None:
        files, labels = report.samples(name)
        checked = [record for class_name in report.class_names for record in split.classes[class_name]]
        return FolderImages(np.array(labels, np.int32), report.class_names, files, checked)
    records = [(label, record.name) for label, own in enumerate(report.class_names) for record in split.classes[own]]
    labels = [label for label, _ in records]
    rows = np.array([int(row.rpartition("/")[2]) for _, row in records])  # a pack's records are named CLASS/ROW
    shards = [split.root / shard for shard in split.pack.shards]
    return PackedImages(np.array(labels, np.int32), report.class_names, shards, rows, sum(split.pack.counts))
