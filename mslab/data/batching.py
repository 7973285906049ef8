"""Checked files -> batches. The class order comes from the check and is explicit; MindSpore never guesses it."""

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mindspore.dataset as ds
import numpy as np

from mslab.data import augment, seeding
from mslab.errors import DatasetError, TrainingError
from mslab.runtime import devices
from mslab.runtime.workers import ALONE, Group


@dataclass(frozen=True)
class Images:
    """The files of one split and their class indices: exactly the files that passed the check."""

    files: list[Path]
    labels: np.ndarray  # int32 (n,); index into class_names
    class_names: list[str]

    decoded = False  # whether source() gives pixels; else a file's bytes

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: np.ndarray) -> "Images":
        """The images of these positions, in this order."""
        return replace(self, files=[self.files[i] for i in index], labels=self.labels[index])

    def spread(self, count: int) -> "Images":
        """`count` images, each of these as often as the next one, or once more."""
        return self.take(np.arange(count) * len(self) // count)

    def names(self) -> list[str]:
        """What tells each image from every other one."""
        return [str(path) for path in self.files]

    def source(self, order: np.ndarray) -> ds.Dataset:
        """Columns image, uint8 (bytes,), and label, int32 (), of the images in this order."""
        return generated(lambda i: np.fromfile(self.files[i], np.uint8), self.labels, order)

    def opened(self, index: np.ndarray) -> Iterable[Path | io.BytesIO]:
        """The images of these positions as Pillow opens them."""
        return [self.files[i] for i in index]


@dataclass(frozen=True)
class PackedImages(Images):
    """The images of a packed split: `files` are its shards, `rows` says which row of them each image is."""

    rows: np.ndarray  # int (n,)
    total: int  # rows of all shards

    def take(self, index: np.ndarray) -> Images:
        return replace(self, labels=self.labels[index], rows=self.rows[index])

    def names(self) -> list[str]:
        return [f"{self.files[0].parent}/{row}" for row in self.rows]

    def source(self, order: np.ndarray) -> ds.Dataset:
        rows, files = self.rows[order], [str(path) for path in self.files]
        parts = [  # MindRecord takes a row more than once, but no more rows at a time than there are
            ds.MindDataset(
                files,
                columns_list=["image", "label"],
                sampler=ds.SubsetSampler(rows[start : start + self.total].tolist()),
                num_parallel_workers=1,
            )
            for start in range(0, len(rows), self.total)
        ]
        return parts[0] if len(parts) == 1 else parts[0].concat(parts[1:])

    def opened(self, index: np.ndarray) -> Iterable[Path | io.BytesIO]:
        rows = self.source(index).create_tuple_iterator(num_epochs=1, output_numpy=True)
        return (io.BytesIO(image.tobytes()) for image, _ in rows)


class _Source:
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
    source = _Source(image, labels, order)
    columns = ["image", "label"]
    return ds.GeneratorDataset(source, columns, shuffle=False, num_parallel_workers=1, python_multiprocessing=False)


def steps_per_epoch(images: Images, batch_size: int, workers: int = 1, updates_of: int = 1) -> int:
    """Full batches in an epoch, of all workers together; `updates_of` of them make an update, and none is left over.

    Raises DatasetError where there is not one update.
    """
    together = batch_size * workers * updates_of
    if len(images) < together:
        parts = (
            f"{workers} workers x " * (workers > 1) + str(batch_size) + f" x {updates_of} batches" * (updates_of > 1)
        )
        shared = f" ({parts})" if parts != str(batch_size) else ""
        raise DatasetError(
            f"There are {len(images)} training images, fewer than one batch of {together}{shared}.",
            expected="at least batch_size images a worker and accumulated batch: a step uses a full one",
            fix=f"batch_size={max(2, len(images) // (2 * workers * updates_of))}, or add images",
        )
    return len(images) // together * updates_of


def order_of(images: Images, config: Any, epoch: int) -> np.ndarray:
    """The order of an epoch: positions int (n,). It follows from seed and epoch alone, so that one can be repeated.

    With label_balance, rare classes' images come more than once in it, and others not at all.
    """
    rng = seeding.stream("order", config.seed, epoch)
    if not config.label_balance:
        return rng.permutation(len(images))
    return balanced(images.labels, len(images.class_names), rng)


def balanced(labels: np.ndarray, class_num: int, rng: np.random.Generator) -> np.ndarray:
    """Positions, as many as labels: each run of class_num of them holds every class once, in random order.

    Within a class all images come before one comes again.
    """
    # balanced([0, 0, 0, 1], 2, rng) -> for example [2, 3, 3, 0]
    runs = -(-len(labels) // class_num)
    columns = []
    for label in range(class_num):
        own = np.flatnonzero(labels == label)
        columns.append(np.concatenate([rng.permutation(own) for _ in range(-(-runs // len(own)))])[:runs])
    return rng.permuted(np.stack(columns, axis=1), axis=1).ravel()[: len(labels)]


def train_batches(
    images: Images, config: Any, epoch: int, group: Group = ALONE
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Shuffled, augmented full batches of this worker: float32 (batch_size, 3, S, S), int32 (batch_size,).

    Labels are shares of the classes, float32 (batch_size, class_num), where images are mixed. All that is random, like
    the order, follows from seed and epoch alone. An incomplete last batch is left out; another order puts other images
    there next time.
    """
    mixing = seeding.stream("mixing", config.seed, epoch, group.rank)
    order = group.share(order_of(images, config, epoch), config.batch_size)
    for batch in augmented(images, config, epoch, order, group.rank):
        yield augment.mix(batch, config, mixing) if augment.mixes(config) else batch


def augmented(
    images: Images, config: Any, epoch: int, order: np.ndarray, rank: int = 0, whole: bool = False
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of the images in this order, each augmented by itself; `whole`: also a smaller last one."""
    ds.config.set_seed(seeding.augmentation_seed(config.seed, epoch, rank))
    steps, erasing = augment.train_transforms(config), seeding.stream("erasing", config.seed, epoch, rank)
    for x, y in _pipeline(images, order, steps, config.batch_size, config.data_workers, drop=not whole):
        yield (augment.erase(x, erasing, config.random_erasing) if config.random_erasing else x), y


def measured_batch(config: Any) -> int:
    """Images a step when measuring."""
    return config.validation_batch_size or config.batch_size  # type: ignore[no-any-return]


def eval_batches(
    images: Images,
    size: int,
    mean: list[float],
    std: list[float],
    batch_size: int,
    data_workers: int = 2,
    resize: int | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every image once, in order: float32 (n, 3, S, S), int32 (n,); the last batch may be smaller."""
    steps = augment.eval_transforms(size, mean, std, resize)
    yield from _pipeline(images, np.arange(len(images)), steps, batch_size, data_workers, drop=False)


def _pipeline(
    images: Images, order: np.ndarray, steps: list, batch_size: int, data_workers: int, drop: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    steps = steps[1:] if images.decoded else steps  # the first one decodes
    mapped = images.source(order).map(steps, ["image"], num_parallel_workers=devices.workers(data_workers))
    batched = mapped.batch(batch_size, drop_remainder=drop, num_parallel_workers=1)
    for x, y in batched.create_tuple_iterator(num_epochs=1, output_numpy=True):
        check_labels(y, len(images.class_names))
        yield x, y


@dataclass(frozen=True)
class ImageFeed:
    """What training takes from a data set: this worker's batches of every epoch, and those it is measured on."""

    images: Images
    val_images: Images
    config: Any
    group: Group = ALONE

    def train(self, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return train_batches(self.images, self.config, epoch, group=self.group)

    def val(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        c, part = self.config, self.group.part(len(self.val_images))
        if len(part) == 0:  # fewer images than workers
            return iter(())
        (_, resize, crop), (mean, std) = augment.sizes(c), augment.scale(c)
        images = self.val_images.take(part)
        return eval_batches(images, crop, mean, std, measured_batch(c), c.data_workers, resize)


def check_labels(labels: np.ndarray, class_num: int) -> None:
    """TrainingError where a label has no output in the network: MindSpore's loss would read out of bounds, silently."""
    if labels.min() < 0 or labels.max() >= class_num:
        raise TrainingError(
            f"A batch has labels from {labels.min()} to {labels.max()}; the network has {class_num} outputs.",
            expected=f"labels from 0 to {class_num - 1}",
            fix="class_num must equal the number of class folders; mslab check ROOT shows them",
        )
