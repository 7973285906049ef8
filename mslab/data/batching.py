"""Checked files -> batches. The class order comes from the check and is explicit; MindSpore never guesses it."""

from collections.abc import Iterator
from dataclasses import dataclass

import mindspore.dataset as ds
import numpy as np

from mslab.config import Settings
from mslab.data import augment, seeding
from mslab.data.sources import ImageSource
from mslab.errors import DatasetError, TrainingError
from mslab.runtime import devices
from mslab.runtime.workers import ALONE, Group


def steps_per_epoch(images: ImageSource, batch_size: int, workers: int = 1, accumulation_steps: int = 1) -> int:
    """Full batches in an epoch, of all workers together; no batch is left over that makes no whole update.

    Raises DatasetError where there is not one update.
    """
    together = batch_size * workers * accumulation_steps
    if len(images) < together:
        parts = f"{workers} workers x " * (workers > 1) + str(batch_size)
        parts += f" x {accumulation_steps} batches" * (accumulation_steps > 1)
        shared = f" ({parts})" if parts != str(batch_size) else ""
        raise DatasetError(
            f"There are {len(images)} training images, fewer than one batch of {together}{shared}.",
            expected="at least batch_size images a worker and accumulated batch: a step uses a full one",
            fix=f"batch_size={max(2, len(images) // (2 * workers * accumulation_steps))}, or add images",
        )
    return len(images) // together * accumulation_steps


def order_of(images: ImageSource, config: Settings, epoch: int) -> np.ndarray:
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
    images: ImageSource, config: Settings, epoch: int, group: Group = ALONE
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
    images: ImageSource, config: Settings, epoch: int, order: np.ndarray, rank: int = 0, drop_last: bool = True
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of the images in this order, each augmented by itself; without `drop_last` also a smaller last one."""
    ds.config.set_seed(seeding.augmentation_seed(config.seed, epoch, rank))
    steps, erasing = augment.train_transforms(config), seeding.stream("erasing", config.seed, epoch, rank)
    for x, y in _pipeline(images, order, steps, config.batch_size, config.data_workers, drop_last=drop_last):
        yield (augment.erase(x, erasing, config.random_erasing) if config.random_erasing else x), y


def eval_batch_size(config: Settings) -> int:
    """Images a step when measuring."""
    return config.validation_batch_size or config.batch_size


def eval_batches(
    images: ImageSource,
    size: int,
    mean: list[float],
    std: list[float],
    batch_size: int,
    data_workers: int = 2,
    resize: int | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every image once, in order: float32 (n, 3, S, S), int32 (n,); the last batch may be smaller."""
    steps = augment.eval_transforms(size, mean, std, resize)
    yield from _pipeline(images, np.arange(len(images)), steps, batch_size, data_workers, drop_last=False)


def _pipeline(
    images: ImageSource, order: np.ndarray, steps: list, batch_size: int, data_workers: int, drop_last: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    steps = steps[1:] if images.decoded else steps  # the first one decodes
    mapped = images.dataset(order).map(steps, ["image"], num_parallel_workers=devices.workers(data_workers))
    batched = mapped.batch(batch_size, drop_remainder=drop_last, num_parallel_workers=1)
    for x, y in batched.create_tuple_iterator(num_epochs=1, output_numpy=True):
        check_labels(y, len(images.class_names))
        yield x, y


@dataclass(frozen=True)
class ImageFeed:
    """What training takes from a data set: this worker's batches of every epoch, and those it is measured on."""

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
        return eval_batches(images, crop, mean, std, eval_batch_size(c), c.data_workers, resize)


def check_labels(labels: np.ndarray, class_num: int) -> None:
    """TrainingError where a label has no output in the network: MindSpore's loss would read out of bounds, silently."""
    if labels.min() < 0 or labels.max() >= class_num:
        raise TrainingError(
            f"A batch has labels from {labels.min()} to {labels.max()}; the network has {class_num} outputs.",
            expected=f"labels from 0 to {class_num - 1}",
            fix="class_num must equal the number of class folders; mslab check ROOT shows them",
        )
