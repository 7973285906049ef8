"""When to evaluate, when to stop, and how far the rate has fallen: pure functions of settings and history.

`rows` are those of history.csv, with NaN in epochs that were not measured; so a resumed run decides the same.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mslab import schedule
from mslab.config import Settings

Rows = Sequence[Mapping[str, Any]]


def is_measured(epoch: int, config: Settings) -> bool:
    """Whether the network is measured after this epoch, counted from 0. The last one always is."""
    due = config.do_eval_along_train and (epoch + 1) % config.evaluation_frequency == 0
    return due or epoch + 1 == config.epochs


def is_saved(epoch: int, config: Settings) -> bool:
    """Whether last.ckpt is written after this epoch, counted from 0."""
    return (epoch + 1) % config.checkpoint_frequency == 0 or epoch + 1 == config.epochs


def measured(rows: Rows) -> list[Mapping[str, Any]]:
    return [row for row in rows if not math.isnan(row["val_acc"])]


def rate_factor(rows: Rows, config: Settings) -> float:
    """Plateau's factor on the learning rate after these epochs; 1 with any other schedule."""
    if config.lr_scheduler != "plateau":
        return 1.0
    accuracies = [row["val_acc"] for row in measured(rows)]
    return schedule.plateau_factor(accuracies, config.plateau_patience, config.lr_scheduler_factor)


def reason(rows: Rows, config: Settings, highest: float) -> str:
    """The reason to stop after these epochs, before the last one, or "". `highest`: the schedule's highest rate."""
    if not rows or len(rows) >= config.epochs or not measured(rows):
        return ""
    last = rows[-1]
    target, loss = config.target_accuracy, config.target_loss
    if target is not None and last["val_acc"] >= target:
        return f"val_acc {last['val_acc']:.4g} has reached target_accuracy: {target:g}"
    if loss is not None and last["val_loss"] <= loss:
        return f"val_loss {last['val_loss']:.4g} has reached target_loss: {loss:g}"
    rate, floor = highest * rate_factor(rows, config), config.lr_floor or highest / 1024
    if rate < floor:
        return f"the learning rate would fall to {rate:.4g}, below lr_floor: {floor:.4g}; val_acc no longer rises"
    return _early(rows, config) if config.early_stopping else ""


def _early(rows: Rows, config: Settings) -> str:
    """Azure AutoML's patience and delay, SageMaker's min_epochs and tolerance (relative to the best)."""
    best, waited = rows[0], 0
    best_acc = -math.inf
    for row in measured(rows)[config.early_stopping_delay :]:
        if row["val_acc"] > best_acc * (1 + config.early_stopping_tolerance * (best_acc > 0)):
            best, best_acc, waited = row, row["val_acc"], 0
        else:
            waited += 1
    if waited < config.early_stopping_patience or len(rows) < config.early_stopping_min_epochs:
        return ""
    return f"early stopping: no better val_acc than {best_acc:.4g} of epoch {best['epoch']} in {waited} evaluations"
