"""Several processes that train one network: the rank of this one, and the communication between them.

mslab/training/launching.py starts them. A single process is `ALONE`, for which everything here does nothing.
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
    """The workers of one run. Rank 0 logs, writes and decides; the others copy its values."""

    rank: int = 0
    size: int = 1
    local: int = 1  # workers on this machine

    def share(self, order: np.ndarray, batch_size: int) -> np.ndarray:
        """Return this worker's part of an epoch's order, int (steps * batch_size,): its rows of every global batch.

        Images that do not fill a global batch are left out; they differ from epoch to epoch.
        """
        # Group(1, 2).share([0, 1, 2, 3, 4, 5, 6, 7, 8], 2) -> [2, 3, 6, 7]
        if self.size == 1:
            return order
        steps = len(order) // (batch_size * self.size)
        return order[: steps * batch_size * self.size].reshape(steps, self.size, batch_size)[:, self.rank].ravel()

    def part(self, count: int) -> np.ndarray:
        """Return the indices of `count` items that this worker evaluates; each item belongs to exactly one worker."""
        return np.arange(self.rank, count, self.size)

    def sum(self, values: Iterable[float]) -> np.ndarray:
        """Return the sum over all workers, float64 (n,)."""
        values = np.asarray(values, np.float64)
        if self.size == 1:
            return values
        # HCCL does not add float64; float32 is exact for counts up to 16 million
        kind = ms.float32 if ms.get_context("device_target") == "Ascend" else ms.float64
        return ops.AllReduce()(ms.Tensor(values, kind)).asnumpy().astype(np.float64)

    def broadcast(self, content: Any) -> Any:
        """Return rank 0's `content`, any JSON value; the others' is ignored."""
        if self.size == 1:
            return content
        codes = np.frombuffer(json.dumps(content).encode(), np.uint8) if self.rank == 0 else np.zeros(0)
        length = int(self._from_first(np.array([len(codes)]))[0])
        return json.loads(bytes(self._from_first(np.resize(codes, length)).astype(np.uint8)).decode())

    def _from_first(self, numbers: np.ndarray) -> np.ndarray:
        return ops.Broadcast(0)((ms.Tensor(numbers, ms.int32),))[0].asnumpy()

    def broadcast_parameters(self, parameters: Iterable[ms.Parameter]) -> None:
        """Copy rank 0's values to every worker. Without it different seeds would silently train different networks."""
        for parameter in parameters if self.size > 1 else ():
            cpu_layout.overwrite(parameter, ops.Broadcast(0)((ms.Tensor(parameter.asnumpy()),))[0])

    def average_statistics(self, parameters: Iterable[ms.Parameter], frozen: Collection[str] = ()) -> None:
        """Average BatchNorm's moving statistics over the workers: each has seen only its own images.

        `frozen` ones stay unchanged to the last bit: the mean of three equal numbers may differ from them.
        """
        for parameter in parameters if self.size > 1 else ():
            if parameter.name.endswith(("moving_mean", "moving_variance")) and parameter.name not in frozen:
                cpu_layout.overwrite(parameter, ops.AllReduce()(ms.Tensor(parameter.asnumpy())) / self.size)

    @contextmanager
    def first_alone(self, name: str) -> Iterator[None]:
        """Let one worker per machine run the block before the others, so that they find its results in a cache.

        They wait for a file, without a limit: an operation between workers would time out.
        """
        if self.size == 1:
            yield
            return
        done = Path(os.environ["MSLAB_LOGS"]) / f"{name}.done"
        while self.rank % self.local and not done.exists():
            time.sleep(0.1)
        yield
        done.touch()

    def gradient_mean(self, parameters: Iterable[ms.Parameter]) -> Callable | None:
        """Return a function from a worker's gradients to the mean over all workers; None for a single worker."""
        return nn.DistributedGradReducer(list(parameters), True, self.size) if self.size > 1 else None


ALONE = Group()


def join() -> Group:
    """Return the group of this process, which msrun has started. MindSpore's communication has to be initialised."""
    from mindspore.communication import get_group_size, get_rank

    return Group(get_rank(), get_group_size(), int(os.environ["MSLAB_LOCAL"]))


class SyncBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over the images of all workers, as if they were one batch (torch.nn.SyncBatchNorm).

    MindSpore's own runs on Ascend only. (N, C, H, W) -> (N, C, H, W); the workers' N, H, W must be equal.
    """

    def __init__(self, plain: nn.BatchNorm2d, size: int) -> None:
        super().__init__(plain.num_features, plain.eps, 1 - plain.momentum)
        self.gamma, self.beta = plain.gamma, plain.beta
        self.moving_mean, self.moving_variance = plain.moving_mean, plain.moving_variance
        self.size, self.decay = size, float(1 - plain.momentum)
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
            ops.assign(self.moving_mean, self.decay * self.moving_mean + (1 - self.decay) * ops.stop_gradient(mean))
            ops.assign(
                self.moving_variance, self.decay * self.moving_variance + (1 - self.decay) * ops.stop_gradient(unbiased)
            )
        scale = (self.gamma / ops.sqrt(variance + self.eps)).reshape(1, -1, 1, 1)
        return centred * scale + self.beta.reshape(1, -1, 1, 1)


def synchronise(network: nn.Cell, group: Group) -> None:
    """Replace every nn.BatchNorm2d by SyncBatchNorm2d, with the same parameters under the same names."""
    cpu_layout.replace_cells(
        network, lambda cell: type(cell) is nn.BatchNorm2d, lambda cell: SyncBatchNorm2d(cell, group.size)
    )
