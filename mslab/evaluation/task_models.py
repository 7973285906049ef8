"""A network of a task from a file: images in, answers out; and its figures on labelled images."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn
from mindspore.nn.utils import no_init_parameters

from mslab import checkpoint
from mslab.check.label_check import check_labels, nameless
from mslab.check.label_report import LabelReport
from mslab.checkpoint import Checkpoint
from mslab.config import tasks
from mslab.data import labelled_feed
from mslab.errors import DatasetError
from mslab.evaluation import task_measuring
from mslab.evaluation.engines import batch_of, pad_batch
from mslab.files import finite
from mslab.runtime import compiled_layers, devices
from mslab.runtime.console import Meter
from mslab.tasks.labels import ImageLabels, LabelSet
from mslab.tasks.network import network_of, stride_of
from mslab.tasks.reading import in_order
from mslab.tasks.registry import task_of
from mslab.tasks.sample import Sample, fitted, sample
from mslab.tasks.task import Part, Task

log = logging.getLogger("mslab")
Seen = tuple[Sample, list[Part]]  # an image, and the parts in which the network sees it


@dataclass
class TaskModel:
    """A network with its task, ready to run. `forward`: float32 (batch, 3, S, S) -> outputs of as many."""

    path: Path
    task: Task
    info: dict[str, Any]  # image_size, mean, std
    forward: Callable[[np.ndarray], np.ndarray]
    stride: int
    batch: int

    def seen(self, pixels: np.ndarray, labels: ImageLabels | None = None) -> Seen:
        """An image uint8 (H, W, 3), of whose labels keypoints takes the boxes."""
        size = (pixels.shape[1], pixels.shape[0])
        parts = self.task.unlabelled_parts(size) if labels is None else self.task.parts(labels, size)
        return sample(pixels, labels or ImageLabels("")), parts

    def answers(self, images: Iterable[Seen]) -> Iterator[Any]:
        """The answer for each image, in order. Parts of several images go through the network together."""
        waiting: list[tuple[tuple[int, int], list[Part]]] = []
        inputs: list[np.ndarray] = []
        outputs: list[np.ndarray] = []
        for own, parts in images:
            waiting.append((own.size, parts))
            inputs += [self.input(own, part) for part in parts]
            while len(inputs) >= self.batch:
                outputs += self.run(inputs[: self.batch])
                inputs = inputs[self.batch :]
            while waiting and len(outputs) >= len(waiting[0][1]):
                yield self.answer(outputs, *waiting.pop(0))
        outputs += self.run(inputs) if inputs else []
        for size, parts in waiting:
            yield self.answer(outputs, size, parts)

    def beside_truths(self, images: labelled_feed.LabelledImages) -> Iterator[tuple[Any, Any]]:
        """(answer, truth) of each labelled image, in order."""
        truths: deque[Any] = deque()

        def seen() -> Iterator[Seen]:
            for index, row in enumerate(images.labels):
                own = images.sample(index)
                truths.append(self.task.truth(own))
                yield own, self.task.parts(row, own.size)

        for answer in self.answers(seen()):
            yield answer, truths.popleft()

    def input(self, own: Sample, part: Part) -> np.ndarray:
        """A part as the network takes it, float32 (3, S, S)."""
        small = fitted(self.task.cut(own, part), self.info["image_size"])
        return labelled_feed.normalised(small.image, self.info["mean"], self.info["std"])

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        return list(self.forward(pad_batch(np.stack(inputs), self.batch))[: len(inputs)])

    def answer(self, outputs: list[np.ndarray], size: tuple[int, int], parts: list[Part]) -> Any:
        """The answer from the first of these outputs, which are taken out of the list."""
        own, outputs[: len(parts)] = outputs[: len(parts)], []
        return self.task.answer(own, parts, size, self.info["image_size"], self.stride)


def load(weights: Checkpoint) -> tuple[Task, dict[str, Any], nn.Cell]:
    """(task, complete entry, network in evaluation mode) of a file of another task than classify. CheckpointError."""
    weights.check()
    info = checkpoint.complete_info(weights)
    task = task_of(info)
    with no_init_parameters():
        network = network_of(task, weights.network.backbone(), hidden=weights.hidden)
    checkpoint.load_exactly(network.parameters_dict(), weights.backbone | weights.head, weights.path, "network")
    network.set_train(False)
    return task, info, network


def open_task(weights: Checkpoint, batch: int | None = None) -> TaskModel:
    """The network of a file whose task is not classify, on MindSpore's device. Raises CheckpointError."""
    task, info, network = load(weights)
    compiled_layers.replace_layers(network)
    batch = batch or batch_of(info["image_size"])
    return TaskModel(weights.path, task, info, lambda x: network(ms.Tensor(x)).asnumpy(), stride_of(network), batch)


def evaluate(
    weights: Checkpoint, data_root: str | Path, report: LabelReport | None = None, device: str = "auto", batch: int = 32
) -> dict[str, Any]:
    """The task's figures on a folder with labels (of a data set with splits: test, else val), as eval.json has them.

    Raises DatasetError if the check finds errors or the labels have other names.
    """
    report = report or check_labels(data_root, weights.task)
    report.raise_errors()
    split = report.measured_split
    devices.start(device, "graph", seed=0)
    model = open_task(weights, batch)
    images = labelled_feed.images_of(report, split)
    if weights.task == "segment" and not report.sets[split].categories:
        raise nameless(report.places[split].images.parent)
    labels = named_alike(report.sets[split], model.task.names, weights)
    images = replace(images, labels=labels.images)
    if weights.task == "segment":
        images.values = labelled_feed.values_of(report.sets[split], model.task.names)

    def pairs(meter: Meter) -> Iterator[tuple[Any, Any]]:
        for done, pair in enumerate(model.beside_truths(images), 1):
            meter.update(f"evaluating {done}/{len(images)} images", 1)
            yield pair

    with Meter(len(images)) as meter:
        figures = task_measuring.figures_of(model.task, pairs(meter))
    result = {
        "data": str(data_root),
        "checkpoint": str(weights.path),
        **({"split": split} if split else {}),
        "task": model.task.name,
        "measure": model.task.measure,
        "images": len(images),
        "class_names": model.task.names,
        **figures,
    }
    return dict(finite(result))


def named_alike(labels: LabelSet, names: list[str], weights: Checkpoint) -> LabelSet:
    """The same labels, with the numbers that the network has for their classes or tags. Raises DatasetError."""
    own = labels.names(weights.task)
    if own == names:
        return labels
    if weights.task == "multilabel" and sorted(own) == sorted(names):
        order = [own.index(name) for name in names]
        rows = tuple(replace(row, tags=row.tags[order]) for row in labels.images)
        return replace(labels, images=rows, tags=tuple(names))
    if weights.task in ("detect", "segment") and set(own) <= set(names):
        by_name = {category.name: category for category in labels.categories}
        first = tuple(by_name.get(name, labels.categories[0]._replace(name=name)) for name in names)
        return in_order(labels, replace(labels, categories=first))
    noun = tasks.NOUNS[weights.task]
    nouns = f"{noun}es" if noun == "class" else f"{noun}s"
    raise DatasetError(
        f"The labels have the {nouns} {', '.join(own)}; {weights.path} has {', '.join(names)}.",
        expected=f"the {nouns} of training",
        fix="use the data set of this run, or the run of this data set",
    )
