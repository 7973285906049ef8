"""The trainer: the state of the loop. It has network, feed and rates, and builds the training step of every epoch."""

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
from mslab.checkpoint import TRAINING, Checkpoint, load_exactly
from mslab.config import Settings
from mslab.errors import TrainingError
from mslab.runtime import console
from mslab.runtime.workers import ALONE, Group
from mslab.training import examining, freezing, optimizers, stopping
from mslab.training.callbacks import Callback
from mslab.training.overflows import Overflows
from mslab.training.train_step import ScaledTrainStep, TrainStep

log = logging.getLogger("mslab")
ROLLBACKS, TENTH = 3, 0.1  # how often on_nan: rollback repeats an epoch, and the factor on the rate each time


@dataclass
class Compiled:
    """A training step and its own state; it is built again when parameters are unfrozen.

    A new cell, since MindSpore does not notice a change of what was frozen when a cell was first compiled.
    """

    step: TrainStep
    frozen: frozenset[str]
    ema: optimizers.EMA | None
    rates: list[tuple[ms.Parameter, np.ndarray]]  # the optimizer's, and their scheduled values
    ready: bool = False  # compiled for its first batch


class Trainer:
    """The state of the loop: the feed, the rates, and the training step of every epoch.

    `trained` is the part that the feed's batches go through: the network, or its head if features are fed. `rates` are
    the schedule's, float32 (epochs * steps,); plateau and rollbacks lower the remaining ones. `rollbacks` is the
    manifest's list, which grows with each rollback. `examiner` says what is right, in a batch and in an evaluation.
    """

    def __init__(
        self,
        network: nn.Cell,
        trained: nn.Cell,
        feed: examining.Feed,
        rates: np.ndarray,
        loss: nn.Cell,
        settings: Settings,
        group: Group = ALONE,
        rollbacks: list[dict[str, Any]] | None = None,
        examiner: examining.Examiner | None = None,
    ) -> None:
        self.network, self.trained, self.feed, self.loss = network, trained, feed, loss
        self.settings, self.group = settings, group
        self.examiner: examining.Examiner = examiner or examining.OfClasses()
        self.epochs, self.steps = settings.epochs, len(rates) // settings.epochs  # steps of an epoch
        self.names = [parameter.name for parameter in network.get_parameters()]
        self.schedule, self.rates, self.factor = rates, rates, 1.0  # rates: the schedule times the factors so far
        self.rollbacks = [] if rollbacks is None else rollbacks
        self.snapshot: dict[str, np.ndarray] = {}  # what on_nan: rollback restores
        self.overflows = Overflows()
        self.began, self.paused = time.perf_counter(), False  # paused: stopped in time by max_training_time
        self.compiled = self.build(0, {})

    # --- an epoch -----------------------------------------------------------------------------------------------------

    def begin_epoch(self, epoch: int, history: stopping.Rows) -> None:
        """Unfreeze, lower the rate as the history requires, take a snapshot for a rollback, compile if necessary."""
        frozen = freezing.frozen(self.names, self.settings, epoch)
        if frozen != self.compiled.frozen:
            count = len(self.compiled.frozen - frozen)
            log.info(f"epoch {epoch + 1}: {count} tensors unfrozen, {len(frozen)} still frozen")
            self.compiled = self.build(epoch, self.averages())
        self.lower_rates(epoch, stopping.rate_factor(history, self.settings) * TENTH ** len(self.rollbacks))
        if self.settings.on_nan == "rollback":
            self.snapshot = {name: parameter.asnumpy().copy() for name, parameter in self.state().items()}
        freezing.apply(self.network, frozen)
        if not self.compiled.ready:
            self.compile(epoch)

    def batches(self, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The epoch's batches: those of the feed, without the last ones if they do not make a complete update."""
        return itertools.islice(self.feed.train(epoch), self.steps)

    def step(self, images: ms.Tensor, labels: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor, bool]:
        """One update: mean loss float32 (), logits float32 (N, class_num), whether the weights were updated.

        They are not if float16 gradients overflow (in one worker: then they do in all); the schedule goes on.
        """
        loss, logits, *finite = self.compiled.step(images, labels)
        if not finite or finite[0].asnumpy():
            self.overflows.finite()
            return loss, logits, True
        own = self.compiled.step.parameters_dict()
        self.overflows.add(float(own["scale_value"].asnumpy()))
        if self.overflows.total % self.settings.grad_accumulation_step == 0:  # one update fewer than the schedule has
            cpu_layout.overwrite(own["global_step"], own["global_step"].asnumpy() + 1)
        return loss, logits, False

    def share_statistics(self) -> None:
        """Replace BatchNorm's statistics, unless they are frozen, by their mean over the workers."""
        parameters = [*self.network.get_parameters(), *self.averages().values()]
        self.group.average_statistics(parameters, self.compiled.frozen)

    def evaluate(self, epoch: int, callbacks: Sequence[Callback]) -> dict[str, Any] | None:
        """The figures of the validation images, or None if this epoch is not measured."""
        if not stopping.is_measured(epoch, self.settings):
            return None
        on_batch = [callback.batch_evaluated for callback in callbacks]
        return self.examiner.measure(self.compiled.step.network, self.feed, self.settings, self.group, on_batch)

    @contextlib.contextmanager
    def ema_weights(self) -> Iterator[None]:
        """Use the running means of the network's weights, if there are any, inside the block."""
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
        return self.compiled.ema.averages() if self.compiled.ema else {}

    # --- when to stop -------------------------------------------------------------------------------------------------

    def stop_reason(self, history: stopping.Rows) -> str:
        """The reason to stop after these epochs, before the last one, or ""."""
        return stopping.reason(history, self.settings, float(self.schedule.max()))

    def out_of_time(self, history: stopping.Rows) -> str:
        """The reason, if no further epoch fits into max_training_time, or ""; then `paused` is set."""
        hours = self.settings.max_training_time
        if hours is None or len(history) >= self.epochs:
            return ""
        spent = time.perf_counter() - self.began + history[-1]["seconds"]
        self.paused = self.group.broadcast(spent > 3600 * hours)  # the first worker's clock counts
        return f"max_training_time: {hours:g} h leaves no time for another epoch" if self.paused else ""

    def roll_back(self, error: TrainingError, epoch: int) -> None:
        """Restore the epoch's initial state, at a tenth of the rate. Raises `error` after ROLLBACKS rollbacks."""
        if not self.snapshot or len(self.rollbacks) >= ROLLBACKS:
            raise error
        for name, parameter in self.state().items():
            cpu_layout.overwrite(parameter, self.snapshot[name])
        self.overflows = Overflows()
        self.rollbacks.append({"epoch": epoch + 1, "why": error.what})
        log.info(f"{error.what} Rolled back to the end of epoch {epoch}; rollback {len(self.rollbacks)} of {ROLLBACKS}")

    # --- the step -----------------------------------------------------------------------------------------------------

    def build(self, epoch: int, averages: Mapping[str, ms.Parameter]) -> Compiled:
        """Build the step for this epoch: learning rates continue at this epoch, the optimizer's moments start again.

        `averages`: running means of weights, which continue.
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
        """Check and log the first batch, and compile the step for it."""
        images, labels = next(iter(self.feed.train(epoch)))
        text = self.examiner.check(labels, self.settings)
        log.info(
            f"first batch: images {images.dtype} {images.shape} from {images.min():.2f} to {images.max():.2f}, "
            f"labels {labels.dtype} {labels.shape} from {labels.min():g} to {labels.max():g}, {text}",
            extra=console.PROSE,
        )
        if self.settings.mode == "graph":
            gc.collect()  # a cell collected later would remove MindSpore's record of these shapes: it would recompile
            with console.compiling("the training step"):
                self.compiled.step.compile(ms.Tensor(images), ms.Tensor(labels))
        self.compiled.ready = True

    def lower_rates(self, epoch: int, factor: float) -> None:
        """Multiply the schedule by `factor` from this epoch on."""
        if factor == self.factor:
            return
        self.factor = factor
        self.rates = np.concatenate([self.rates[: epoch * self.steps], self.schedule[epoch * self.steps :] * factor])
        self.rates = self.rates.astype(np.float32)
        for parameter, scheduled in self.compiled.rates:
            cpu_layout.overwrite(parameter, (scheduled * factor).astype(np.float32))
        log.info(f"epoch {epoch + 1}: the learning rate continues at {factor:.3g} of its schedule")

    # --- last.ckpt ----------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, ms.Parameter]:
        """The content of last.ckpt: weights, moments, the step counter. The learning rates follow from the settings."""
        state: dict[str, ms.Parameter] = self.network.parameters_dict()
        own = {id(parameter) for parameter in state.values()}
        for name, parameter in self.compiled.step.parameters_dict().items():
            if id(parameter) not in own and not name.startswith("learning_rate"):
                state[TRAINING + name] = parameter  # a prefix, so that no reader takes it for a weight
        return state

    def resume(self, last: Checkpoint | None, epoch: int) -> str:
        """Restore the optimizer from last.ckpt, unless this epoch unfreezes something. The weights are already loaded.

        Only the first of several workers has `last`; the others receive its content.
        """
        self.compiled = self.build(epoch, self.averages())
        if freezing.frozen(self.names, self.settings, epoch - 1) != self.compiled.frozen:
            if last:
                for mean in self.averages().values():
                    mean.set_data(ms.Tensor(last.state[TRAINING + mean.name]))
            self.group.broadcast_parameters(self.averages().values())
            return "the optimizer starts again: this epoch unfreezes something"
        text = "optimizer state: received from worker 0"
        if last:
            text = load_exactly(self.state(), last.state, last.path, "training state")
        self.group.broadcast_parameters(self.state().values())
        return text
