"""What of a network's outputs is right: for classes, and for the tasks of mslab/tasks. The loop knows neither."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from mindspore import nn

from mslab.config import Settings
from mslab.data import batching
from mslab.data.batching import ImageFeed
from mslab.data.labelled_feed import LabelFeed
from mslab.evaluation import measuring, metrics, task_measuring
from mslab.evaluation.temperature import Calibration
from mslab.runtime.workers import Group

Feed = ImageFeed | LabelFeed
OnBatch = Sequence[Callable[[np.ndarray, np.ndarray], None]]


class Examiner(Protocol):
    """What the trainer asks."""

    def hits(self, outputs: np.ndarray, targets: np.ndarray) -> float:
        """Images of a batch that are answered right; of an image that is right in part, that part."""

    def check(self, targets: np.ndarray, settings: Settings) -> str:
        """What to say of the first batch's targets beside their values. Raises TrainingError for impossible ones."""

    def measure(
        self, network: nn.Cell, feed: Any, settings: Settings, group: Group, on_batch: OnBatch
    ) -> dict[str, Any]:
        """The figures of the validation images, `loss` among them."""


class OfClasses:
    """One class an image."""

    def hits(self, outputs: np.ndarray, targets: np.ndarray) -> float:
        return metrics.hits(outputs, targets)

    def check(self, targets: np.ndarray, settings: Settings) -> str:
        batching.check_labels(targets, settings.class_num)
        return f"{settings.class_num} outputs"

    def measure(
        self, network: nn.Cell, feed: ImageFeed, settings: Settings, group: Group, on_batch: OnBatch
    ) -> dict[str, Any]:
        """With `calibration` if settings.calibrate is set."""
        size, calibration = batching.eval_batch_size(settings), Calibration()
        calls = [*on_batch, *[calibration.add] * settings.calibrate]
        figures = measuring.measure(network, feed.val(), size, feed.class_names, group, calls)
        return figures | ({"calibration": calibration.figures(None, group.sum)} if settings.calibrate else {})


class OfTask:
    """The labels of a task. `loss`: the training's, for val_loss."""

    def __init__(self, loss: nn.Cell, feed: LabelFeed) -> None:
        self.loss, self.task = loss, feed.task

    def hits(self, outputs: np.ndarray, targets: np.ndarray) -> float:
        return self.task.hits(outputs, targets)

    def check(self, targets: np.ndarray, settings: Settings) -> str:
        return f"{self.task.outputs} outputs"

    def measure(
        self, network: nn.Cell, feed: LabelFeed, settings: Settings, group: Group, on_batch: OnBatch
    ) -> dict[str, Any]:
        return task_measuring.measure(network, self.loss, feed, batching.eval_batch_size(settings), on_batch)
