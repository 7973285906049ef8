"""A network of a task + labelled images -> figures."""

from collections.abc import Callable, Iterable, Iterator
from itertools import tee
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from mslab.data.labelled_feed import LabelFeed, LabelledImages
from mslab.evaluation.engines import pad_batch
from mslab.tasks.sample import Sample
from mslab.tasks.task import Figures, Task

OnBatch = Iterable[Callable[[np.ndarray, np.ndarray], None]]


def answers_of(feed: LabelFeed, outputs: Iterable[np.ndarray]) -> Iterator[Any]:
    """The task's answer for each validation image, in order, from the outputs of its parts, batch by batch."""
    parts = feed.val_parts
    counts = np.bincount([index for index, _ in parts], minlength=len(feed.val_images))
    rows = (row for batch in outputs for row in batch)
    at = 0
    for index, count in enumerate(counts.tolist()):
        own_outputs = [next(rows) for _ in range(count)]
        own = [part for _, part in parts[at : at + count]]
        at += count
        yield feed.task.answer(own_outputs, own, feed.val_images.size(index), feed.config.image_size, feed.stride)


def measure(
    network: nn.Cell, loss: nn.Cell, feed: LabelFeed, batch_size: int, on_batch: OnBatch = ()
) -> dict[str, Any]:
    """The figures of the task over the validation images, with the mean loss. Leaves the network in evaluation mode.

    Each function of `on_batch` is called with the outputs and targets of each batch. Of several workers each measures
    all images: they have the same weights, and so the same figures.
    """
    network.set_train(False)
    total = np.zeros(2)

    def outputs() -> Iterator[np.ndarray]:
        for x, y in feed.val():
            found = network(ms.Tensor(pad_batch(x, batch_size))).asnumpy()[: len(x)]
            total[:] += float(loss(ms.Tensor(found), ms.Tensor(y)).asnumpy()) * len(x), len(x)
            for call in on_batch:
                call(found, y)
            yield found

    figures = feed.task.figures(answers_of(feed, outputs()), map(feed.task.truth, samples(feed.val_images)))
    return {
        "task": feed.task.name,
        "measure": feed.task.measure,
        "images": len(feed.val_images),
        "loss": float(total[0] / total[1]) if total[1] else float("nan"),
        "class_names": feed.task.names,
        **figures,
    }


def samples(images: LabelledImages) -> Iterator[Sample]:
    """The images with their labels, in order, each one decoded when it is asked for."""
    return map(images.sample, range(len(images)))


def witness(feed: LabelFeed) -> dict[str, Any]:
    """The figures on the validation images of the best answer that sees no image, from the training labels."""
    constant = feed.task.constant(samples(feed.images))
    return figures_of(feed.task, ((constant(own), feed.task.truth(own)) for own in samples(feed.val_images)))


def figures_of(task: Task, pairs: Iterable[tuple[Any, Any]]) -> Figures:
    """The figures of pairs (answer, truth), of which masks are not all in memory at a time."""
    first, second = tee(pairs)
    return task.figures((answer for answer, _ in first), (truth for _, truth in second))
