"""Checked files -> batches. The class order comes from the check and is explicit; MindSpore never guesses it."""

from collections.abc import Iterator, Sized
from dataclasses import dataclass

import mindspore.dataset as ds
import numpy as np

from mslab.config import Settings
from mslab.data import augment, seeding
from mslab.data.sources import ImageSource, rows_of
from mslab.errors import DatasetError, TrainingError
from mslab.runtime import devices
from mslab.runtime.workers import ALONE, Group


def steps_per_epoch(images: Sized, batch_size: int, workers: int = 1, accumulation_steps: int = 1) -> int:
    """Number of full batches in an epoch, over all workers; batches that do not complete an update are dropped.

    Raises DatasetError if the images do not fill one update.
    """
    per_update = batch_size * workers * accumulation_steps
    if len(images) < per_update:
        parts = f"{workers} workers x " * (workers > 1) + str(batch_size)
        parts += f" x {accumulation_steps} batches" * (accumulation_steps > 1)
        formula = f" ({parts})" if parts != str(batch_size) else ""
        raise DatasetError(
            f"There are {len(images)} training images, fewer than one batch of {per_update}{formula}.",
            expected="at least batch_size images for each worker and each accumulated batch: a step uses a full batch",
            fix=f"batch_size={max(2, len(images) // (2 * workers * accumulation_steps))}, or add images",
        )
    return len(images) // per_update * accumulation_steps


def order_of(images: ImageSource, config: Settings, epoch: int) -> np.ndarray:
    """Image order of an epoch: positions int (n,). It depends on seed and epoch only, so an epoch can be repeated.

    With label_balance, images of rare classes appear several times and some others not at all.
    """
    rng = seeding.stream("order", config.seed, epoch)
    if not config.label_balance:
        return rng.permutation(len(images))
    return balanced(images.labels, len(images.class_names), rng)


def balanced(labels: np.ndarray, class_num: int, rng: np.random.Generator) -> np.ndarray:
    """Positions, as many as labels: each group of class_num consecutive ones has every class once, in random order.

    Within a class, every image is used before one repeats.
    """
    # balanced([0, 0, 0, 1], 2, rng) -> for example [2, 3, 3, 0]
    groups = -(-len(labels) // class_num)
    columns = []
    for label in range(class_num):
        own = np.flatnonzero(labels == label)
        columns.append(np.concatenate([rng.permutation(own) for _ in range(-(-groups // len(own)))])[:groups])
    return rng.permuted(np.stack(columns, axis=1), axis=1).ravel()[: len(labels)]


def train_batches(
    images: ImageSource, config: Settings, epoch: int, group: Group = ALONE
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Shuffled, augmented full batches of this worker: float32 (batch_size, 3, S, S), int32 (batch_size,).

    If images are mixed, labels are soft: float32 (batch_size, class_num). Everything random, including the order,
    depends on seed and epoch only. An incomplete last batch is dropped; the next epoch's order drops other images.
    """
    mixing = seeding.stream("mixing", config.seed, epoch, group.rank)
    order = group.share(order_of(images, config, epoch), config.batch_size)
    for batch in augmented(images, config, epoch, order, group.rank):
        yield augment.mix(batch, config, mixing) if augment.mixes(config) else batch


def augmented(
    images: ImageSource, config: Settings, epoch: int, order: np.ndarray, rank: int = 0, drop_last: bool = True
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of the images in this order, each image augmented; without `drop_last` also a smaller last batch."""
    ds.config.set_seed(seeding.augmentation_seed(config.seed, epoch, rank))
    steps, erasing = augment.train_transforms(config), seeding.stream("erasing", config.seed, epoch, rank)
    for x, y in _pipeline(images, order, steps, config.batch_size, config.data_workers, drop_last=drop_last):
        yield (augment.erase(x, erasing, config.random_erasing) if config.random_erasing else x), y


def eval_batch_size(config: Settings) -> int:
    """Images per step during evaluation."""
    return config.validation_batch_size or config.batch_size


def eval_batches(
    images: ImageSource,
    size: int,
    mean: list[float],
    std: list[float],
    batch_size: int,
    data_workers: int = 2,
    resize: int | None = None,
    mode: str = "crop",
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every image once, in order: float32 (n, 3, S, S), int32 (n,); the last batch may be smaller."""
    steps = augment.eval_transforms(size, mean, std, resize, mode)
    yield from _pipeline(images, np.arange(len(images)), steps, batch_size, data_workers, drop_last=False)


def _pipeline(
    images: ImageSource, order: np.ndarray, steps: list, batch_size: int, data_workers: int, drop_last: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    steps = steps[1:] if images.decoded else steps  # the first step decodes
    mapped = images.dataset(order).map(steps, ["image"], num_parallel_workers=devices.workers(data_workers))
    batched = mapped.batch(batch_size, drop_remainder=drop_last, num_parallel_workers=1)
    for x, y in rows_of(batched, images):
        check_labels(y, len(images.class_names))
        yield x, y


@dataclass(frozen=True)
class ImageFeed:
    """Batches of a data set for training: this worker's training batches of each epoch, and its validation batches."""

    images: ImageSource
    val_images: ImageSource
    config: Settings
    group: Group = ALONE

    @property
    def class_names(self) -> list[str]:
        return self.images.class_names

    def train(self, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return train_batches(self.images, self.config, epoch, group=self.group)

    def val(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        c, part = self.config, self.group.part(len(self.val_images))
        if len(part) == 0:  # fewer images than workers
            return iter(())
        (_, resize, crop), (mean, std) = augment.sizes(c), augment.scale(c)
        images = self.val_images.take(part)
        return eval_batches(images, crop, mean, std, eval_batch_size(c), c.data_workers, resize, c.resize_mode)


def check_labels(labels: np.ndarray, class_num: int) -> None:
    """Raise TrainingError if a label has no network output: MindSpore's loss would silently read out of bounds."""
    if labels.min() < 0 or labels.max() >= class_num:
        raise TrainingError(
            f"A batch has labels from {labels.min()} to {labels.max()}; the network has {class_num} outputs.",
            expected=f"labels from 0 to {class_num - 1}",
            fix="class_num must equal the number of class folders; mslab check ROOT shows them",
        )
