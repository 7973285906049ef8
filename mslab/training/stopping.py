"""When to evaluate, when to stop, and how far the rate has fallen: pure functions of settings and history.

`rows` are those of history.csv, with NaN in epochs that were not measured; so a resumed run decides the same.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mslab import schedule
from mslab.config import Settings
from mslab.runs import ranking

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
    scores = [ranking.score(row, config.best_by) for row in measured(rows)]
    return schedule.plateau_factor(scores, config.plateau_patience, config.lr_scheduler_factor)


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
        stalls = f"{ranking.column(config.best_by)} no longer {'falls' if config.best_by == 'loss' else 'rises'}"
        return f"the learning rate would fall to {rate:.4g}, below lr_floor: {floor:.4g}; {stalls}"
    return _early(rows, config) if config.early_stopping else ""


def _early(rows: Rows, config: Settings) -> str:
    """Azure AutoML's patience and delay, SageMaker's min_epochs and tolerance (relative to the best)."""
    best, waited = rows[0], 0
    highest = -math.inf
    for row in measured(rows)[config.early_stopping_delay :]:
        score = ranking.score(row, config.best_by)  # of a loss its negative: the tolerance brings it nearer to 0
        tolerance = math.copysign(config.early_stopping_tolerance, highest) if math.isfinite(highest) else 0.0
        if score > highest * (1 + tolerance):
            best, highest, waited = row, score, 0
        else:
            waited += 1
    if waited < config.early_stopping_patience or len(rows) < config.early_stopping_min_epochs:
        return ""
    name = ranking.column(config.best_by)
    return f"early stopping: no better {name} than {abs(highest):.4g} of epoch {best['epoch']} in {waited} evaluations"
