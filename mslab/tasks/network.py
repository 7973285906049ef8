"""A backbone with the head of a task."""

from collections.abc import Iterable

import numpy as np
from mindspore import nn

from mslab import model
from mslab.tasks.neck import MapNetwork
from mslab.tasks.task import Task


def network_of(
    task: Task, backbone: nn.Cell, targets: Iterable[np.ndarray] = (), hidden: int = 0, dropout: float = 0.0
) -> nn.Cell:
    """A new network. Normalised float32 (N, 3, H, W) -> maps (N, task.outputs, H/stride, W/stride), or logits (N, T).

    `targets`: of the training images, from which a head may begin; hidden and dropout: as resnet50_head takes them.
    """
    if task.is_map:
        return MapNetwork(backbone, task.head(targets))
    return model.ResNet50(backbone, model.resnet50_head(task.outputs, backbone.channels, hidden, dropout))


def stride_of(network: nn.Cell) -> int:
    """Pixels of the image per cell of the output; 1 for logits, which have no cells."""
    return int(getattr(network, "stride", 1))
