"""What a training run does in each step: forward, loss, gradients, update; and the plan that gives the loop steps."""

import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import mindspore as ms
import numpy as np
from easydict import EasyDict
from mindspore import nn

from mslab import cpu_layout
from mslab.checkpoint import Checkpoint, load_exactly
from mslab.data import batching
from mslab.errors import TrainingError
from mslab.evaluation import measuring
from mslab.runtime.console import Meter
from mslab.runtime.workers import ALONE, Group
from mslab.training import features, freezing, optimizers, stopping

log = logging.getLogger("mslab")
Feed = batching.ImageFeed | features.FeatureFeed
ROLLBACKS, TENTH = 3, 0.1  # how often on_nan: rollback begins an epoch again, and the factor on the rate each time


class TrainStep(nn.Cell):
    """Forward, loss, gradients, update: what MindSpore compiles into one graph.

    `mean`, with several workers, makes their gradients one; `update` is what takes them, the optimizer or what stands
    before it. images float32 (N, 3, H, W), labels int32 (N,) or shares of the classes float32 (N, class_num) -> mean
    loss float32 (), logits float32 (N, class_num)
    """

    def __init__(
        self,
        network: nn.Cell,
        loss: nn.Cell,
        optimizer: nn.Optimizer,
        mean: Callable | None = None,
        update: nn.Cell | None = None,
    ) -> None:
        super().__init__(auto_prefix=False)
        self.network, self.loss, self.mean = network, loss, mean
        self.update = update or optimizer
        self.gradients = ms.value_and_grad(self.forward, None, optimizer.parameters, has_aux=True)

    def forward(self, images: ms.Tensor, labels: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        logits = self.network(images)
        return self.loss(logits, labels), logits

    def construct(self, images: ms.Tensor, labels: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        (loss, logits), gradients = self.gradients(images, labels)
        if self.mean is not None:
            gradients = self.mean(gradients)
        self.update(gradients)
        return loss, logits


class ScaledTrainStep(TrainStep):
    """The same in float16: small gradients are lifted above its smallest number, and overflown ones change nothing.

    The scale halves after an overflow and doubles after 1000 steps without (Micikevicius et al. 2018).
    """

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.scaler = ms.amp.DynamicLossScaler(2.0**16, 2, 1000)
        self.scale, self.good_steps = self.scaler.scale_value, self.scaler.counter  # so that last.ckpt holds them

    def forward(self, images: ms.Tensor, labels: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        logits = self.network(images)
        return self.scaler.scale(self.loss(logits, labels)), logits

    def construct(self, images: ms.Tensor, labels: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        (loss, logits), gradients = self.gradients(images, labels)
        if self.mean is not None:
            gradients = self.mean(gradients)
        gradients = self.scaler.unscale(gradients)
        finite = ms.amp.all_finite(gradients)
        if finite:
            self.update(gradients)
        loss = self.scaler.unscale(loss)
        self.scaler.adjust(finite)
        return loss, logits


class Plan:
    """What the loop is given: the feed, the rates, and the training step of every epoch.

    A step is a new one where parameters are unfrozen, with a fresh optimizer: a new cell, since MindSpore keeps what
    was frozen when a cell was first compiled, and would not notice.

    `trained` is the part that the feed's batches go through: the network, or its head where features are fed. `rates`
    are the schedule's, float32 (epochs * steps,); plateau and rollbacks lower what is left of them. `rollbacks` are the
    manifest's: it grows with each.
    """

    def __init__(
        self,
        network: nn.Cell,
        trained: nn.Cell,
        feed: Feed,
        rates: np.ndarray,
        loss: nn.Cell,
        config: EasyDict,
        group: Group = ALONE,
        rollbacks: list[dict[str, Any]] | None = None,
    ) -> None:
        self.network, self.trained, self.feed, self.config, self.group = network, trained, feed, config, group
        self.schedule, self.rates, self.factor = rates, rates, 1.0
        self.steps = len(rates) // config.epochs  # of an epoch
        self.rollbacks = [] if rollbacks is None else rollbacks
        self.loss = loss
        self.names = [parameter.name for parameter in network.get_parameters()]
        self.average: optimizers.Averaged | None = None
        self.prepared: TrainStep | None = None
        self.began, self.paused = time.perf_counter(), False
        self.good: dict[str, np.ndarray] = {}  # what on_nan: rollback goes back to
        self.build(0)

    def batches(self, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The epoch's batches: those of the feed, but for what is left over at its end and makes no whole update."""
        return itertools.islice(self.feed.train(epoch), self.steps)

    def step(self, epoch: int, rows: stopping.Rows, meter: Meter) -> TrainStep:
        """The step, compiled, with its network in training mode, and the rates that follow from `rows`, the history."""
        fixed = freezing.frozen(self.names, self.config, epoch)
        if fixed != self.fixed:
            log.info(f"epoch {epoch + 1}: {len(self.fixed - fixed)} tensors unfrozen, {len(fixed)} still frozen")
            self.build(epoch)
        self.set_factor(epoch, stopping.rate_factor(rows, self.config) * TENTH ** len(self.rollbacks))
        if self.config.on_nan == "rollback":
            self.good = {name: parameter.asnumpy().copy() for name, parameter in self.state().items()}
        freezing.apply(self.network, fixed)
        if self.current is not self.prepared:
            compile_step(self.current, self.feed, self.config, epoch, meter)
            self.prepared = self.current
        return self.current

    def build(self, epoch: int) -> None:
        """A fresh step for this epoch: learning rates go on where the run is, the optimizer's moments begin anew."""
        self.fixed = freezing.frozen(self.names, self.config, epoch)
        freezing.apply(self.network, self.fixed)
        count = self.config.grad_accumulation_step
        optimizer = optimizers.build(self.trained, self.schedule[::count], self.config)
        done = epoch * self.steps // count
        optimizer.global_step.set_data(ms.Tensor(np.full(optimizer.global_step.shape, done, np.int32)))
        rates = [p for n, p in optimizer.parameters_dict().items() if n.startswith("learning_rate")]
        self.full_rates = [(parameter, parameter.asnumpy().copy()) for parameter in rates]
        self.rates, self.factor = self.schedule, 1.0
        before = self.averages()
        update, self.average = optimizers.build_update(optimizer, self.config, list(self.trained.get_parameters()))
        for name, parameter in self.averages().items():
            if name in before:
                parameter.set_data(ms.Tensor(before[name].asnumpy()))
        mean = self.group.gradient_mean(optimizer.parameters)
        step = TrainStep if self.config.amp_level == "O0" else ScaledTrainStep
        self.current = step(self.trained, self.loss, optimizer, mean, update)

    def set_factor(self, epoch: int, factor: float) -> None:
        """Multiply the schedule by `factor` from this epoch on."""
        if factor == self.factor:
            return
        self.factor = factor
        self.rates = np.concatenate([self.rates[: epoch * self.steps], self.schedule[epoch * self.steps :] * factor])
        self.rates = self.rates.astype(np.float32)
        for parameter, full in self.full_rates:
            cpu_layout.overwrite(parameter, (full * factor).astype(np.float32))
        log.info(f"epoch {epoch + 1}: the learning rate goes on at {factor:.3g} of its schedule")

    def roll_back(self, error: TrainingError, epoch: int) -> None:
        """Back to how this epoch began; the rate goes on at a tenth. Raises `error` where that was done often."""
        if not self.good or len(self.rollbacks) >= ROLLBACKS:
            raise error
        for name, parameter in self.state().items():
            cpu_layout.overwrite(parameter, self.good[name])
        self.rollbacks.append({"epoch": epoch + 1, "why": error.what})
        log.info(f"{error.what} Rolled back to the end of epoch {epoch}; {len(self.rollbacks)} of {ROLLBACKS} times")

    def measure(self, epoch: int, class_names: Sequence[str], tell: Callable) -> dict[str, Any] | None:
        """The figures of evaluation.measure, or None where this epoch is not measured."""
        if not stopping.is_measured(epoch, self.config):
            return None
        size = batching.measured_batch(self.config)
        return measuring.measure(self.current.network, self.feed.val(), size, class_names, self.group, tell)

    def reason(self, rows: stopping.Rows) -> str:
        """Why the run ends after these epochs, before its last one, or ""."""
        return stopping.reason(rows, self.config, float(self.schedule.max()))

    def end(self, rows: stopping.Rows) -> str:
        """The same, or that no further epoch fits into max_training_time: then `paused` is set."""
        why, hours = self.reason(rows), self.config.max_training_time
        if why or hours is None or len(rows) >= self.config.epochs:
            return why
        spent = time.perf_counter() - self.began + rows[-1]["seconds"]
        self.paused = self.group.tell(spent > 3600 * hours)  # the first worker's clock counts
        return f"max_training_time: {hours:g} h has no room for another epoch" if self.paused else ""

    def averages(self) -> dict[str, ms.Parameter]:
        """The running mean of each weight by the weight's name; nothing without ema_decay."""
        return self.average.averages() if self.average else {}

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
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

    def resume(self, last: Checkpoint | None, epoch: int) -> str:
        """Take up the optimizer from last.ckpt, unless something is unfrozen just now. The weights are there.

        Only the first of several workers has `last`; the others get what it holds.
        """
        self.build(epoch)
        if freezing.frozen(self.names, self.config, epoch - 1) != self.fixed:
            for mean in self.averages().values() if last else ():
                mean.set_data(ms.Tensor(last.tensors[mean.name]))  # type: ignore[union-attr]
            self.group.equalise(self.averages().values())
            return "the optimizer begins anew: something is unfrozen just now"
        text = load_exactly(self.state(), last.tensors, last.path, "training state") if last else "training state: told"
        self.group.equalise(self.state().values())
        return text

    def state(self) -> dict[str, ms.Parameter]:
        """What last.ckpt holds: weights, moments, the step counter. The learning rates follow from the config."""
        own = {n: p for n, p in self.current.parameters_dict().items() if not n.startswith("learning_rate")}
        return self.network.parameters_dict() | own


def check_rates(rates: np.ndarray, steps: int) -> None:
    """TrainingError where the schedule is not exactly as long as the run: MindSpore would fail in its last epochs."""
    if len(rates) != steps or not np.isfinite(rates).all():
        raise TrainingError(
            f"The schedule has {len(rates)} learning rates, the run {steps} steps.",
            expected="one finite learning rate a step",
            fix="build it with epochs * steps_per_epoch entries",
        )


def compile_step(step: TrainStep, feed: Feed, config: EasyDict, epoch: int, meter: Meter) -> None:
    """Look at the first batch, say what it is, and compile the step for it."""
    images, labels = next(iter(feed.train(epoch)))
    batching.check_labels(labels, config.class_num)
    log.info(
        f"first batch: images {images.dtype} {images.shape} from {images.min():.2f} to {images.max():.2f}, "
        f"labels {labels.dtype} {labels.shape} from {labels.min()} to {labels.max()}, {config.class_num} outputs"
    )
    if config.mode == "graph":
        with meter.compiling("the training step"):
            step.compile(ms.Tensor(images), ms.Tensor(labels))
