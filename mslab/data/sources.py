"""Where images come from: folders of files, packs, or pixels that are there already. Three of a kind, in one module.

The class order comes from the check and is explicit; MindSpore never guesses it.
"""

import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import mindspore.dataset as ds
import numpy as np

from mslab.check import DatasetReport

Own = TypeVar("Own", bound="ImageSource")


@dataclass(frozen=True)
class ImageSource(ABC):
    """The images of one split: exactly those that passed the check, in an order of their own."""

    labels: np.ndarray  # int32 (n,); index into class_names
    class_names: list[str]

    decoded = False  # whether dataset() gives pixels; else a file's bytes

    def __len__(self) -> int:
        return len(self.labels)

    def resample(self: Own, count: int) -> Own:
        """`count` images, each of these as often as the next one, or once more."""
        return self.take(np.arange(count) * len(self) // count)

    @abstractmethod
    def take(self: Own, index: np.ndarray) -> Own:
        """The images of these positions, in this order."""

    @abstractmethod
    def names(self) -> list[str]:
        """What tells each image from every other one."""

    @abstractmethod
    def dataset(self, order: np.ndarray) -> ds.Dataset:
        """Columns image, uint8, and label, int32 (), of the images in this order."""

    @abstractmethod
    def opened(self, index: np.ndarray) -> Iterable[Path | io.BytesIO]:
        """The images of these positions as Pillow opens them."""


@dataclass(frozen=True)
class FolderImages(ImageSource):
    """One file an image."""

    files: list[Path]

    def take(self, index: np.ndarray) -> "FolderImages":
        return replace(self, files=[self.files[i] for i in index], labels=self.labels[index])

    def names(self) -> list[str]:
        return [str(path) for path in self.files]

    def dataset(self, order: np.ndarray) -> ds.Dataset:
        return generated(lambda i: np.fromfile(self.files[i], np.uint8), self.labels, order)

    def opened(self, index: np.ndarray) -> Iterable[Path | io.BytesIO]:
        return [self.files[i] for i in index]


@dataclass(frozen=True)
class PackedImages(ImageSource):
    """Rows of a few large files (MindRecord)."""

    shards: list[Path]
    rows: np.ndarray  # int (n,); the row of all shards together that each image is
    total: int  # rows of all shards

    def take(self, index: np.ndarray) -> "PackedImages":
        return replace(self, labels=self.labels[index], rows=self.rows[index])

    def names(self) -> list[str]:
        return [f"{self.shards[0].parent}/{row}" for row in self.rows]

    def dataset(self, order: np.ndarray) -> ds.Dataset:
        rows, shards = self.rows[order], [str(path) for path in self.shards]
        parts = [  # MindRecord takes a row more than once, but no more rows at a time than there are
            ds.MindDataset(
                shards,
                columns_list=["image", "label"],
                sampler=ds.SubsetSampler(rows[start : start + self.total].tolist()),
                num_parallel_workers=1,
            )
            for start in range(0, len(rows), self.total)
        ]
        return parts[0] if len(parts) == 1 else parts[0].concat(parts[1:])

    def opened(self, index: np.ndarray) -> Iterable[Path | io.BytesIO]:
        rows = self.dataset(index).create_tuple_iterator(num_epochs=1, output_numpy=True)
        return (io.BytesIO(image.tobytes()) for image, _ in rows)


@dataclass(frozen=True)
class DecodedImages(ImageSource):
    """Pixels, kept in memory or in a memory-mapped file; names and files are those of what they were decoded from."""

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

    def opened(self, index: np.ndarray) -> Iterable[Path | io.BytesIO]:
        return self.origin.opened(index)


class _Rows:
    """Images and labels in a given order, for MindSpore's GeneratorDataset."""

    def __init__(self, image: Callable[[int], np.ndarray], labels: np.ndarray, order: np.ndarray) -> None:
        self.image, self.labels, self.order = image, labels, order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> tuple[np.ndarray, np.int32]:
        index = self.order[position]
        return self.image(index), np.int32(self.labels[index])


def generated(image: Callable[[int], np.ndarray], labels: np.ndarray, order: np.ndarray) -> ds.Dataset:
    """Columns image and label of image(i) and labels[i], i in this order."""
    rows, columns = _Rows(image, labels, order), ["image", "label"]
    return ds.GeneratorDataset(rows, columns, shuffle=False, num_parallel_workers=1, python_multiprocessing=False)


def images_of(report: DatasetReport, name: str) -> ImageSource:
    """A checked split as training and evaluation take it."""
    split = report.splits[name]
    if split.pack is None:
        files, labels = report.samples(name)
        return FolderImages(np.array(labels, np.int32), report.class_names, files)
    found = [(label, record.name) for label, own in enumerate(report.class_names) for record in split.classes[own]]
    labels = [label for label, _ in found]
    rows = np.array([int(row.rpartition("/")[2]) for _, row in found])  # a pack's records are named CLASS/ROW
    shards = [split.root / shard for shard in split.pack.shards]
    return PackedImages(np.array(labels, np.int32), report.class_names, shards, rows, sum(split.pack.counts))
