"""A network from a file, on the engine that runs it fastest here; MindSpore's own is built only when it is needed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mslab import checkpoint
from mslab.checkpoint import NO_CHOICE, Checkpoint, Choice
from mslab.evaluation import engines, measuring, temperature
from mslab.evaluation.engines import Engine, Outputs, Runner
from mslab.runs import weights as weight_files


class LogitsAndFeatures(nn.Cell):
    """Normalised float32 (N, 3, H, W) -> logits (N, class_num), features (N, C): the spatial mean of the maps."""

    def __init__(self, network: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.backbone, self.head = network.backbone, network.head

    def construct(self, x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        maps = self.backbone(x)
        return self.head(maps), ops.mean(maps, (2, 3))


@dataclass
class Model:
    """A network in any of its forms, ready to run."""

    path: Path
    class_names: list[str]
    info: dict[str, Any]  # image_size, resize_size, mean, std; of weights also stages and profile
    runner: Runner
    weights: Checkpoint | None = None  # None if the file contains a graph only
    build: Callable[[], measuring.Loaded] | None = None  # MindSpore's network, built once; None for a graph

    @property
    def loaded(self) -> measuring.Loaded | None:
        """MindSpore's network, which gradients need; None if the file contains a graph only."""
        return self.build() if self.build else None

    @property
    def temperature(self) -> float:
        """What logits are divided by for probabilities; 1 in a graph, whose last layer has done it."""
        return temperature.of(self.info)

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Normalised float32 (n, 3, S, S), n up to the runner's batch -> float32 (n, C)."""
        return self.runner(x)["logits"]


def open_weights(
    path: str | Path,
    device: str,
    batch: int | None = None,
    choice: Choice = NO_CHOICE,
    engine: str = "auto",
    precision: str = "fp32",
) -> Model:
    """The network of a run's best.ckpt or of a file. `device`: the one that devices.start chose.

    `batch`: images per step; default by image size. Raises CheckpointError or RunError, and what engines.choose raises.
    """
    chosen = engines.choose(engine, precision, device)
    weights = checkpoint.read(weight_files.best_file(path), choice)
    measuring.refuse_incomplete(weights)
    return of_weights(weights, device, chosen, batch)


def of_weights(weights: Checkpoint, device: str, engine: Engine, batch: int | None = None) -> Model:
    """The model of weights that measuring.refuse_incomplete accepts, on an engine that engines.choose chose."""
    info = checkpoint.complete_info(weights)
    batch = batch or engines.batch_of(info["image_size"])

    @cache
    def build() -> measuring.Loaded:
        loaded = measuring.build_network(weights)
        loaded.fold(batch, device)
        return loaded

    if engine.name == "mindspore":
        runner = Runner(engine, batch, mindspore_forward(build().network))
    else:
        network = (weights.backbone | weights.head, weights.stages, weights.profile)
        runner = engines.runner(engine, batch, *network)
    return Model(weights.path, weights.class_names, info, runner, weights, build)


def mindspore_forward(network: nn.Cell) -> Callable[[np.ndarray], Outputs]:
    """MindSpore's own way: normalised float32 (n, 3, S, S) -> logits and features; compiles for each n and S."""
    cell = LogitsAndFeatures(network).set_train(False)

    def forward(x: np.ndarray) -> Outputs:
        logits, features = cell(ms.Tensor(x))
        return {"logits": logits.asnumpy(), "features": features.asnumpy()}

    return forward
