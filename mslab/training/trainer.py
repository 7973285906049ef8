"""The trainer: what the loop is given. It holds network, feed and rates, and makes the training step of every epoch."""

import contextlib
import gc
import itertools
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from mslab import cpu_layout
from mslab.checkpoint import Checkpoint, load_exactly
from mslab.config import Settings
from mslab.data import batching
from mslab.errors import TrainingError
from mslab.evaluation import measuring
from mslab.runtime import console
from mslab.runtime.workers import ALONE, Group
from mslab.training import freezing, optimizers, stopping
from mslab.training.callbacks import Callback
from mslab.training.train_step import ScaledTrainStep, TrainStep

log = logging.getLogger("mslab")
ROLLBACKS, TENTH = 3, 0.1  # how often on_nan: rollback begins an epoch again, and the factor on the rate each time


@dataclass
class Compiled:
    """A training step, and what belongs to it alone: it is made anew where parameters are unfrozen.

    A new cell, since MindSpore keeps what was frozen when a cell was first compiled, and would not notice.
    """

    step: TrainStep
    frozen: frozenset[str]
    ema: optimizers.EMA | None
    rates: list[tuple[ms.Parameter, np.ndarray]]  # the optimizer's, and their values by the schedule
    ready: bool = False  # for its first batch


class Trainer:
    """What the loop is given: the feed, the rates, and the training step of every epoch.

    `trained` is the part that the feed's batches go through: the network, or its head where features are fed. `rates`
    are the schedule's, float32 (epochs * steps,); plateau and rollbacks lower what is left of them. `rollbacks` are the
    manifest's: it grows with each.
    """

    def __init__(
        self,
        network: nn.Cell,
        trained: nn.Cell,
        feed: batching.ImageFeed,
        rates: np.ndarray,
        loss: nn.Cell,
        settings: Settings,
        group: Group = ALONE,
        rollbacks: list[dict[str, Any]] | None = None,
    ) -> None:
        self.network, self.trained, self.feed, self.loss = network, trained, feed, loss
        self.settings, self.group = settings, group
        self.epochs, self.steps = settings.epochs, len(rates) // settings.epochs  # steps of an epoch
        self.names = [parameter.name for parameter in network.get_parameters()]
        self.schedule, self.rates, self.factor = rates, rates, 1.0  # rates: the schedule times the factors so far
        self.rollbacks = [] if rollbacks is None else rollbacks
        self.snapshot: dict[str, np.ndarray] = {}  # what on_nan: rollback goes back to
        self.began, self.paused = time.perf_counter(), False  # paused: left in time, by max_training_time
        self.current = self.build(0, {})

    # --- an epoch -----------------------------------------------------------------------------------------------------

    def begin_epoch(self, epoch: int, history: stopping.Rows) -> None:
        """Unfreeze, lower the rate as the history asks, note what a rollback goes back to, compile where it is due."""
        frozen = freezing.frozen(self.names, self.settings, epoch)
        if frozen != self.current.frozen:
            thawed = len(self.current.frozen - frozen)
            log.info(f"epoch {epoch + 1}: {thawed} tensors unfrozen, {len(frozen)} still frozen")
            self.current = self.build(epoch, self.averages())
        self.lower_rates(epoch, stopping.rate_factor(history, self.settings) * TENTH ** len(self.rollbacks))
        if self.settings.on_nan == "rollback":
            self.snapshot = {name: parameter.asnumpy().copy() for name, parameter in self.state().items()}
        freezing.apply(self.network, frozen)
        if not self.current.ready:
            self.compile(epoch)

    def batches(self, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The epoch's batches: those of the feed, but for what is left over at its end and makes no whole update."""
        return itertools.islice(self.feed.train(epoch), self.steps)

    def step(self, images: ms.Tensor, labels: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        """One update: mean loss float32 (), logits float32 (N, class_num)."""
        return self.current.step(images, labels)  # type: ignore[no-any-return]

    def share_statistics(self) -> None:
        """BatchNorm's statistics become their mean over the workers, where they are not frozen."""
        parameters = [*self.network.get_parameters(), *self.averages().values()]
        self.group.average_statistics(parameters, self.current.frozen)

    def evaluate(self, epoch: int, callbacks: Sequence[Callback]) -> dict[str, Any] | None:
        """The figures of the validation images, or None where this epoch is not measured."""
        if not stopping.is_measured(epoch, self.settings):
            return None
        size, names = batching.eval_batch_size(self.settings), self.feed.class_names
        on_batch = [callback.batch_evaluated for callback in callbacks]
        return measuring.measure(self.current.step.network, self.feed.val(), size, names, self.group, on_batch)

    @contextlib.contextmanager
    def ema_weights(self) -> Iterator[None]:
        """The network holds the running means of its weights meanwhile, where there are any."""
        own = self.network.parameters_dict()
        raw = {name: own[name].asnumpy().copy() for name in self.averages()}
        for name, mean in self.averages().items():
            cpu_layout.overwrite(own[name], mean.asnumpy())
        try:
            yield
        finally:
            for name, value in raw.items():
                cpu_layout.overwrite(own[name], value)

    def averages(self) -> dict[str, ms.Parameter]:
        """The running mean of each weight by the weight's name; nothing without ema_decay."""
        return self.current.ema.averages() if self.current.ema else {}

    # --- when to stop -------------------------------------------------------------------------------------------------

    def stop_reason(self, history: stopping.Rows) -> str:
        """Why the run ends after these epochs, before its last one, or ""."""
        return stopping.reason(history, self.settings, float(self.schedule.max()))

    def out_of_time(self, history: stopping.Rows) -> str:
        """That no further epoch fits into max_training_time, or ""; then `paused` is set."""
        hours = self.settings.max_training_time
        if hours is None or len(history) >= self.epochs:
            return ""
        spent = time.perf_counter() - self.began + history[-1]["seconds"]
        self.paused = self.group.broadcast(spent > 3600 * hours)  # the first worker's clock counts
        return f"max_training_time: {hours:g} h has no room for another epoch" if self.paused else ""

    def roll_back(self, error: TrainingError, epoch: int) -> None:
        """Back to how this epoch began; the rate goes on at a tenth. Raises `error` where that was done often."""
        if not self.snapshot or len(self.rollbacks) >= ROLLBACKS:
            raise error
        for name, parameter in self.state().items():
            cpu_layout.overwrite(parameter, self.snapshot[name])
        self.rollbacks.append({"epoch": epoch + 1, "why": error.what})
        log.info(f"{error.what} Rolled back to the end of epoch {epoch}; {len(self.rollbacks)} of {ROLLBACKS} times")

    # --- the step -----------------------------------------------------------------------------------------------------

    def build(self, epoch: int, averages: Mapping[str, ms.Parameter]) -> Compiled:
        """A fresh step for this epoch: learning rates go on where the run is, the optimizer's moments begin anew.

        `averages`: running means of weights, which go on.
        """
        frozen, settings = freezing.frozen(self.names, self.settings, epoch), self.settings
        freezing.apply(self.network, frozen)
        count = settings.grad_accumulation_step
        optimizer = optimizers.build(self.trained, self.schedule[::count], settings)
        done = epoch * self.steps // count
        optimizer.global_step.set_data(ms.Tensor(np.full(optimizer.global_step.shape, done, np.int32)))
        rates = [p for n, p in optimizer.parameters_dict().items() if n.startswith("learning_rate")]
        self.rates, self.factor = self.schedule, 1.0
        update, ema = optimizers.build_update(optimizer, settings, list(self.trained.get_parameters()))
        for name, parameter in (ema.averages() if ema else {}).items():
            if name in averages:
                parameter.set_data(ms.Tensor(averages[name].asnumpy()))
        mean = self.group.gradient_mean(optimizer.parameters)
        kind = TrainStep if settings.amp_level == "O0" else ScaledTrainStep
        step = kind(self.trained, self.loss, optimizer, mean, update)
        return Compiled(step, frozen, ema, [(parameter, parameter.asnumpy().copy()) for parameter in rates])

    def compile(self, epoch: int) -> None:
        """Look at the first batch, say what it is, and compile the step for it."""
        images, labels = next(iter(self.feed.train(epoch)))
        outputs = self.settings.class_num
        batching.check_labels(labels, outputs)
        log.info(
            f"first batch: images {images.dtype} {images.shape} from {images.min():.2f} to {images.max():.2f}, "
            f"labels {labels.dtype} {labels.shape} from {labels.min()} to {labels.max()}, {outputs} outputs"
        )
        if self.settings.mode == "graph":
            gc.collect()  # a cell that goes later takes MindSpore's note of these shapes along: it would compile again
            with console.compiling("the training step"):
                self.current.step.compile(ms.Tensor(images), ms.Tensor(labels))
        self.current.ready = True

    def lower_rates(self, epoch: int, factor: float) -> None:
        """Multiply the schedule by `factor` from this epoch on."""
        if factor == self.factor:
            return
        self.factor = factor
        self.rates = np.concatenate([self.rates[: epoch * self.steps], self.schedule[epoch * self.steps :] * factor])
        self.rates = self.rates.astype(np.float32)
        for parameter, scheduled in self.current.rates:
            cpu_layout.overwrite(parameter, (scheduled * factor).astype(np.float32))
        log.info(f"epoch {epoch + 1}: the learning rate goes on at {factor:.3g} of its schedule")

    # --- last.ckpt ----------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, ms.Parameter]:
        """What last.ckpt holds: weights, moments, the step counter. The learning rates follow from the settings."""
        found: dict[str, ms.Parameter] = self.network.parameters_dict()
        found |= {n: p for n, p in self.current.step.parameters_dict().items() if not n.startswith("learning_rate")}
        return found

    def resume(self, last: Checkpoint | None, epoch: int) -> str:
        """Take up the optimizer from last.ckpt, unless something is unfrozen just now. The weights are there.

        Only the first of several workers has `last`; the others get what it holds.
        """
        self.current = self.build(epoch, self.averages())
        if freezing.frozen(self.names, self.settings, epoch - 1) != self.current.frozen:
            if last:
                for mean in self.averages().values():
                    mean.set_data(ms.Tensor(last.tensors[mean.name]))
            self.group.broadcast_parameters(self.averages().values())
            return "the optimizer begins anew: something is unfrozen just now"
        text = "optimizer state: received from worker 0"
        if last:
            text = load_exactly(self.state(), last.tensors, last.path, "training state")
        self.group.broadcast_parameters(self.state().values())
        return text
