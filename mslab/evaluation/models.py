"""A network from a file, with its heat maps, on the engine that runs it fastest here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mslab import checkpoint
from mslab.checkpoint import HEAD, NO_CHOICE, Checkpoint, Choice
from mslab.evaluation import engines, measuring, temperature
from mslab.evaluation.engines import Engine, Forward, Outputs, Runner
from mslab.mindcv_backbone import MindcvBackbone
from mslab.runs import weights as weight_files

# Grad-CAM: normalised float32 (N, 3, H, W), classes int32 (N,) -> float32 (N, h, w), 0 or more
Evidence = Callable[[np.ndarray, np.ndarray], np.ndarray]


class LogitsAndFeatures(nn.Cell):
    """Normalised float32 (N, 3, H, W) -> logits (N, class_num), features (N, C): the spatial mean of the maps."""

    def __init__(self, network: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.backbone, self.head = network.backbone, network.head

    def construct(self, x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        maps = self.backbone(x)
        return self.head(maps), ops.mean(maps, (2, 3))


class HeatMap(nn.Cell):
    """Grad-CAM of the backbone's last stage (Selvaraju et al. 2017): the evidence for a class at each position.

    Each channel's map is weighted by the mean gradient of the class's logit over it; negative evidence is set to 0.
    images float32 (N, 3, H, W), classes int32 (N,) -> float32 (N, h, w), 0 or more
    """

    def __init__(self, network: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.backbone, self.head = network.backbone, network.head
        self.is_mindcv = isinstance(network.backbone, MindcvBackbone)
        self.gradient = ms.grad(self.class_logits)  # with respect to its first argument, the maps

    def class_logits(self, maps: ms.Tensor, classes: ms.Tensor) -> ms.Tensor:
        logits = self.head(self.backbone.pooled(maps) if self.is_mindcv else maps)
        return (logits * ops.one_hot(classes, logits.shape[1])).sum()  # a sum, since images do not affect each other

    def construct(self, x: ms.Tensor, classes: ms.Tensor) -> ms.Tensor:
        maps = self.backbone.maps(x) if self.is_mindcv else self.backbone(x)  # (N, C, h, w)
        weights = ops.mean(self.gradient(maps, classes), (2, 3), True)  # (N, C, 1, 1)
        return ops.relu((weights * maps).sum(1))  #                    (N, h, w)


@dataclass
class Model:
    """A network in any of its forms, ready to run."""

    path: Path
    class_names: list[str]
    info: dict[str, Any]  # image_size, resize_size, mean, std; of weights also stages and profile
    runner: Runner
    weights: Checkpoint | None = None  # None if the file contains a graph only
    heat_map: Evidence | None = None  # None if the file contains a graph only, or its network has no feature map

    @property
    def temperature(self) -> float:
        """What logits are divided by for probabilities; 1 in a graph, whose last layer has done it."""
        return temperature.of(self.info)

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Normalised float32 (n, 3, S, S), n up to the runner's batch -> float32 (n, C)."""
        return self.runner(x)["logits"]


def open_weights(
    path: str | Path | Checkpoint,
    device: str,
    batch: int | None = None,
    choice: Choice = NO_CHOICE,
    engine: str = "auto",
    precision: str = "fp32",
) -> Model:
    """The network of a run's best.ckpt or of a file, which may have been read already.

    `device`: the one that devices.start chose; `batch`: images per step; default by image size.
    Raises CheckpointError or RunError, and what engines.choose raises.
    """
    engines.refuse(engine, precision, device)
    weights = path if isinstance(path, Checkpoint) else checkpoint.read(weight_files.best_file(path), choice)
    measuring.refuse_incomplete(weights)
    chosen = engines.choose(engine, precision, device, weights.network)
    return of_weights(weights, device, chosen, batch)


def of_weights(weights: Checkpoint, device: str, engine: Engine, batch: int | None = None) -> Model:
    """The model of weights that measuring.refuse_incomplete accepts, on an engine that engines.choose chose."""
    info = checkpoint.complete_info(weights)
    batch = batch or engines.batch_of(info["image_size"])

    if engine.name == "mindspore":
        loaded = measuring.build_network(weights)
        loaded.speed_up(batch, device)
        runner, heat_map = Runner(engine, batch, mindspore_forward(loaded.network)), None
        if getattr(loaded.network.backbone, "has_maps", True):
            heat_map = mindspore_evidence(loaded.network)
    else:
        runner = engines.runner(engine, batch, weights.backbone | weights.head, weights.network)
        maps_of = engines.compiled(Engine(engine.name), weights.backbone, weights.network, maps=True)
        heat_map = evidence(maps_of, weights.head)
    return Model(weights.path, weights.class_names, info, runner, weights, heat_map)


def mindspore_forward(network: nn.Cell) -> Callable[[np.ndarray], Outputs]:
    """MindSpore's own way: normalised float32 (n, 3, S, S) -> logits and features; compiles for each n and S."""
    cell = LogitsAndFeatures(network).set_train(False)

    def forward(x: np.ndarray) -> Outputs:
        logits, features = cell(ms.Tensor(x))
        return {"logits": logits.asnumpy(), "features": features.asnumpy()}

    return forward


def mindspore_evidence(network: nn.Cell) -> Evidence:
    """Grad-CAM with MindSpore's gradients, whatever the head computes."""
    cell = HeatMap(network).set_train(False)
    return lambda x, classes: cell(ms.Tensor(x), ms.Tensor(classes)).asnumpy()


def evidence(maps_of: Forward, head: Mapping[str, np.ndarray]) -> Evidence:
    """The same for model.py's head on an engine, which has no gradients: those of its layers are known.

    Of the classifier alone they are its weights, so that this is the class activation map (Zhou et al. 2016).
    """

    def heat_map(x: np.ndarray, classes: np.ndarray) -> np.ndarray:
        maps = maps_of(x)["maps"]  #                               (N, C, h, w)
        gradient = head[f"{HEAD}weight"][classes]  #               of the logit by the classifier's inputs
        if "hidden.weight" in head:
            hidden = maps.mean((2, 3)) @ head["hidden.weight"].T + head["hidden.bias"]
            gradient = (gradient * (hidden > 0)) @ head["hidden.weight"]
        weights = gradient / (maps.shape[2] * maps.shape[3])  #    (N, C): the mean of all positions passes it on
        return np.maximum(np.einsum("nc,nchw->nhw", weights, maps), 0)

    return heat_map
