"""Checked files -> batches. The class order comes from the check and is explicit; MindSpore never guesses it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore.dataset as ds
import numpy as np

from mslab import augment, runtime
from mslab.errors import DatasetError, TrainingError
from mslab.workers import ALONE, Group


@dataclass(frozen=True)
class Images:
    """The files of one split and their class indices: exactly the files that passed the check."""

    files: list[Path]
    labels: np.ndarray  # int32 (n,); index into class_names
    class_names: list[str]

    def __len__(self) -> int:
        return len(self.files)

    def spread(self, count: int) -> "Images":
        """`count` images, each of these as often as the next one, or once more."""
        return self.take(np.arange(count) * len(self) // count)

    def take(self, index: np.ndarray) -> "Images":
        """Those at these positions."""
        return Images([self.files[i] for i in index], self.labels[index], self.class_names)


class _Source:
    """File bytes and labels in a given order, for MindSpore's GeneratorDataset."""

    def __init__(self, images: Images, order: np.ndarray) -> None:
        self.images, self.order = images, order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> tuple[np.ndarray, np.int32]:
        index = self.order[position]
        return np.fromfile(self.images.files[index], np.uint8), np.int32(self.images.labels[index])


def steps_per_epoch(images: Images, batch_size: int) -> int:
    """Full batches in an epoch; `batch_size` is that of all workers. Raises DatasetError where there is not one."""
    if len(images) < batch_size:
        raise DatasetError(
            f"There are {len(images)} training images, fewer than one batch of {batch_size}.",
            expected="at least batch_size images: a step uses a full batch",
            fix=f"batch_size={max(2, len(images) // 2)}, or add images",
        )
    return len(images) // batch_size


def order_of(images: Images, config: Any, epoch: int) -> np.ndarray:
    """The order of an epoch: positions int (n,). It follows from seed and epoch alone, so that one can be repeated."""
    return np.random.default_rng([config.seed, epoch]).permutation(len(images))


def train_batches(
    images: Images, config: Any, epoch: int, whole: bool = False, group: Group = ALONE
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Shuffled, augmented full batches of this worker: float32 (batch_size, 3, S, S), int32 (batch_size,).

    Augmentation, like the order, follows from seed and epoch alone. An incomplete last batch is left out, but for
    `whole`; another order puts other images there next time.
    """
    ds.config.set_seed((config.seed * 100_003 + epoch + group.rank * 1_000_003) % (2**31))
    steps = augment.train_transforms(
        config.image_size, config.mean, config.std, config.crop_scale, config.flip, config.color_jitter
    )
    order = group.share(order_of(images, config, epoch), config.batch_size)
    yield from _pipeline(images, order, steps, config.batch_size, config.data_workers, drop=not whole)


def eval_batches(
    images: Images, size: int, mean: list[float], std: list[float], batch_size: int, data_workers: int = 2
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every image once, in order: float32 (n, 3, S, S), int32 (n,); the last batch may be smaller."""
    order = np.arange(len(images))
    yield from _pipeline(images, order, augment.eval_transforms(size, mean, std), batch_size, data_workers, drop=False)


def _pipeline(
    images: Images, order: np.ndarray, steps: list, batch_size: int, data_workers: int, drop: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    source = ds.GeneratorDataset(
        _Source(images, order), ["image", "label"], shuffle=False, num_parallel_workers=1, python_multiprocessing=False
    )
    mapped = source.map(steps, ["image"], num_parallel_workers=runtime.workers(data_workers))
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
        return eval_batches(self.val_images.take(part), c.image_size, c.mean, c.std, c.batch_size, c.data_workers)


def check_labels(labels: np.ndarray, class_num: int) -> None:
    """TrainingError where a label has no output in the network: MindSpore's loss would read out of bounds, silently."""
    if labels.min() < 0 or labels.max() >= class_num:
        raise TrainingError(
            f"A batch has labels from {labels.min()} to {labels.max()}; the network has {class_num} outputs.",
            expected=f"labels from 0 to {class_num - 1}",
            fix="class_num must equal the number of class folders; mslab check ROOT shows them",
        )
