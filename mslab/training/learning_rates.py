"""The learning rates of a run: the curve of schedule.py that its settings choose, and its length."""

import math

import numpy as np

from mslab import schedule
from mslab.config import Settings
from mslab.errors import TrainingError


def rates_of(config: Settings, steps_per_epoch: int, factor: float = 1.0) -> np.ndarray:
    """The learning rates of the entire run, float32 (epochs * steps_per_epoch,), before plateau lowers them.

    `factor` multiplies lr_max, or all rates of a strategy: several workers share a step.
    """
    epochs = config.epochs
    if config.learning_rate_strategy:
        phases = schedule.parse(config.learning_rate_strategy)
        first = phases[0]
        phases = phases if first.end else [schedule.Phase(epochs, first.first, first.last, "constant")]
        return (factor * schedule.strategy_rates(phases, steps_per_epoch)).astype(np.float32)
    run = (epochs, steps_per_epoch, config.warmup_epochs, config.lr_init, config.lr_max * factor)
    if config.lr_scheduler == "warmup_cosine":
        return schedule.warmup_cosine(*run, config.lr_end, config.cosine_cycles)
    if config.lr_scheduler == "one_cycle":
        return schedule.one_cycle(*run, config.lr_end)
    if config.lr_scheduler != "step":  # constant, and the start of plateau
        return schedule.step_decay(*run, [], 1.0)
    if config.lr_scheduler_step:
        steps = [int(epoch) for epoch in config.lr_scheduler_step.split(",")]
        return schedule.step_decay(*run, steps, config.lr_scheduler_factor)
    size = config.step_lr_step_size
    return schedule.step_decay(*run, range(size, epochs, size), config.step_lr_gamma)


def lr_factor(config: Settings, workers: int) -> float:
    """The factor on lr_max for workers that share a step (linear: Goyal et al. 2017; sqrt: Krizhevsky 2014)."""
    return {"none": 1.0, "linear": float(workers), "sqrt": math.sqrt(workers)}[config.lr_scaling]


def check_rates(rates: np.ndarray, steps: int) -> None:
    """Raise TrainingError if the schedule and the run differ in length: MindSpore would fail in the last epochs."""
    if len(rates) != steps or not np.isfinite(rates).all():
        raise TrainingError(
            f"The schedule has {len(rates)} learning rates, the run {steps} steps.",
            expected="one finite learning rate a step",
            fix="build it with epochs * steps_per_epoch entries",
        )
