"""Sources of images: folders of files, packs, or decoded pixels.

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

    @abstractmethod
    def open_images(self, index: np.ndarray) -> Iterable[Path | io.BytesIO]:
        """The images at these positions, as paths or streams that Pillow can open."""


@dataclass(frozen=True)
class FolderImages(ImageSource):
    """One file per image."""

    files: list[Path]

    def take(self, index: np.ndarray) -> "FolderImages":
        return replace(self, files=[self.files[i] for i in index], labels=self.labels[index])

    def names(self) -> list[str]:
        return [str(path) for path in self.files]

    def dataset(self, order: np.ndarray) -> ds.Dataset:
        return generated(lambda i: np.fromfile(self.files[i], np.uint8), self.labels, order)

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

    def dataset(self, order: np.ndarray) -> ds.Dataset:
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
        rows = self.dataset(index).create_tuple_iterator(num_epochs=1, output_numpy=True)
        return (io.BytesIO(image.tobytes()) for image, _ in rows)


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
        return FolderImages(np.array(labels, np.int32), report.class_names, files)
    records = [(label, record.name) for label, own in enumerate(report.class_names) for record in split.classes[own]]
    labels = [label for label, _ in records]
    rows = np.array([int(row.rpartition("/")[2]) for _, row in records])  # a pack's records are named CLASS/ROW
    shards = [split.root / shard for shard in split.pack.shards]
    return PackedImages(np.array(labels, np.int32), report.class_names, shards, rows, sum(split.pack.counts))
