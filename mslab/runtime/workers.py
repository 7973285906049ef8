"""Several processes that train one network: which of them this is, and the few things they tell each other.

mslab/training/launching.py starts them. One alone is `ALONE`, for which everything here does nothing.
"""

import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mslab import cpu_layout


@dataclass(frozen=True)
class Group:
    """The workers of one run. `rank` 0 speaks, writes and decides; what the others hold is made equal to its own."""

    rank: int = 0
    size: int = 1
    local: int = 1  # workers of this machine

    def share(self, order: np.ndarray, batch_size: int) -> np.ndarray:
        """This worker's part of an epoch's order, int (steps * batch_size,): its rows of every global batch.

        What is left over and fills no global batch is nobody's; another epoch's order puts others there.
        """
        # Group(1, 2).share([0, 1, 2, 3, 4, 5, 6, 7, 8], 2) -> [2, 3, 6, 7]
        if self.size == 1:
            return order
        steps = len(order) // (batch_size * self.size)
        return order[: steps * batch_size * self.size].reshape(steps, self.size, batch_size)[:, self.rank].ravel()

    def part(self, count: int) -> np.ndarray:
        """This worker's part of `count` things that are measured: each belongs to exactly one worker, none twice."""
        return np.arange(self.rank, count, self.size)

    def sum(self, values: Iterable[float]) -> np.ndarray:
        """The sum over all workers, float64 (n,)."""
        values = np.asarray(values, np.float64)
        if self.size == 1:
            return values
        # HCCL adds no float64; counts stay exact in float32 up to 16 million
        kind = ms.float32 if ms.get_context("device_target") == "Ascend" else ms.float64
        return ops.AllReduce()(ms.Tensor(values, kind)).asnumpy().astype(np.float64)

    def broadcast(self, content: Any) -> Any:
        """Rank 0's `content`, anything that JSON holds; the others' is ignored."""
        if self.size == 1:
            return content
        codes = np.frombuffer(json.dumps(content).encode(), np.uint8) if self.rank == 0 else np.zeros(0)
        length = int(self._from_first(np.array([len(codes)]))[0])
        return json.loads(bytes(self._from_first(np.resize(codes, length)).astype(np.uint8)).decode())

    def _from_first(self, numbers: np.ndarray) -> np.ndarray:
        return ops.Broadcast(0)((ms.Tensor(numbers, ms.int32),))[0].asnumpy()

    def broadcast_parameters(self, parameters: Iterable[ms.Parameter]) -> None:
        """Give every worker rank 0's values. Without it different seeds would train different networks, silently."""
        for parameter in parameters if self.size > 1 else ():
            cpu_layout.overwrite(parameter, ops.Broadcast(0)((ms.Tensor(parameter.asnumpy()),))[0])

    def average_statistics(self, parameters: Iterable[ms.Parameter], fixed: Collection[str] = ()) -> None:
        """BatchNorm's moving statistics become their mean over the workers: each has seen its own images only.

        `fixed` ones stay as they are to the last bit: a mean of three equal numbers may be another one.
        """
        for parameter in parameters if self.size > 1 else ():
            if parameter.name.endswith(("moving_mean", "moving_variance")) and parameter.name not in fixed:
                cpu_layout.overwrite(parameter, ops.AllReduce()(ms.Tensor(parameter.asnumpy())) / self.size)

    @contextmanager
    def first_alone(self, what: str) -> Iterator[None]:
        """On each machine one worker goes through before the others: what it has written to a cache, they find.

        They wait for a file, as long as it takes: an operation between workers would be given up after a while.
        """
        if self.size == 1:
            yield
            return
        done = Path(os.environ["MSLAB_LOGS"]) / f"{what}.done"
        while self.rank % self.local and not done.exists():
            time.sleep(0.1)
        yield
        done.touch()

    def gradient_mean(self, parameters: Iterable[ms.Parameter]) -> Callable | None:
        """What turns a worker's gradients into the mean of all workers'; None where there is only one."""
        return nn.DistributedGradReducer(list(parameters), True, self.size) if self.size > 1 else None


ALONE = Group()


def join() -> Group:
    """The group that msrun has started this process in. MindSpore's communication has been started."""
    from mindspore.communication import get_group_size, get_rank

    return Group(get_rank(), get_group_size(), int(os.environ["MSLAB_LOCAL"]))


class SyncBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over the images of all workers, as if they lay in one batch (torch.nn.SyncBatchNorm).

    MindSpore's own runs on Ascend only. (N, C, H, W) -> (N, C, H, W); the workers' N, H, W must be equal.
    """

    def __init__(self, plain: nn.BatchNorm2d, size: int) -> None:
        super().__init__(plain.num_features, plain.eps, 1 - plain.momentum)
        self.gamma, self.beta = plain.gamma, plain.beta
        self.moving_mean, self.moving_variance = plain.moving_mean, plain.moving_variance
        self.size, self.keep = size, float(1 - plain.momentum)
        self.add_up = ops.AllReduce()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        if not self.training:
            centred, variance = x - self.moving_mean.reshape(1, -1, 1, 1), self.moving_variance
        else:
            mean = self.add_up(x.mean((0, 2, 3))) / self.size  # (C,)
            centred = x - mean.reshape(1, -1, 1, 1)
            variance = self.add_up((centred * centred).mean((0, 2, 3))) / self.size  # (C,)
            count = x.shape[0] * x.shape[2] * x.shape[3] * self.size
            unbiased = variance * (count / (count - 1))
            ops.assign(self.moving_mean, self.keep * self.moving_mean + (1 - self.keep) * ops.stop_gradient(mean))
            ops.assign(
                self.moving_variance, self.keep * self.moving_variance + (1 - self.keep) * ops.stop_gradient(unbiased)
            )
        scale = (self.gamma / ops.sqrt(variance + self.eps)).reshape(1, -1, 1, 1)
        return centred * scale + self.beta.reshape(1, -1, 1, 1)


def synchronise(network: nn.Cell, group: Group) -> None:
    """Put SyncBatchNorm2d in place of every nn.BatchNorm2d, with the same parameters under the same names."""
    cpu_layout.replace_cells(
        network, lambda cell: type(cell) is nn.BatchNorm2d, lambda cell: SyncBatchNorm2d(cell, group.size)
    )
