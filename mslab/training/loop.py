"""The complete training loop: epochs, steps, evaluation, saving, stopping. Read it from top to bottom.

trainer (trainer.py) holds the network and makes its step, run (runs/folder.py) writes the run folder, callbacks
(callbacks.py) observe. history.csv is written before last.ckpt, and last.ckpt makes an epoch count: a run that is
killed at any moment continues after the last epoch that counts.

The third of four files to read, each on its own: model.py, schedule.py, training/loop.py, training/train_step.py.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

import mindspore as ms
import numpy as np

from mslab.errors import DivergedError
from mslab.runs import ranking
from mslab.runs.folder import RunFolder
from mslab.runtime.tables import decimals
from mslab.training import stopping
from mslab.training.callbacks import Callback, Step, Totals
from mslab.training.trainer import Trainer

log = logging.getLogger("mslab")


def fit(trainer: Trainer, run: RunFolder, callbacks: Sequence[Callback]) -> str:
    """Train from the run's next epoch to its end. Returns the reason for ending before the last epoch, or "".

    Raises DivergedError if a loss is not finite, and KeyboardInterrupt after the step during which Ctrl-C was pressed.
    """
    reason = trainer.stop_reason(run.history)  # there is one if the run was killed just as it ended
    while not reason and run.epochs_done < trainer.epochs:
        epoch = run.epochs_done
        trainer.begin_epoch(epoch, run.history)  # unfreeze, learning rates, a snapshot for a rollback
        row, totals = train_epoch(trainer, run, epoch, callbacks)
        with trainer.ema_weights():  # the network's own are restored, even after an error
            figures = trainer.evaluate(epoch, callbacks)  # None if no evaluation is due
            if figures and not np.isfinite(figures["loss"]):
                raise diverged(f"The loss became {figures['loss']}", row["step"] - 1, trainer, run)
            run.record_epoch(row | {"seconds": totals.seconds}, figures, trainer.network)  # best.ckpt, eval.json
        log.info(epoch_line(run), extra={"row": ranking.named(run.history[-1], run.settings)})  # for a notebook's table
        for callback in callbacks:
            callback.epoch_end(run.history, figures, trainer.network, totals)
        reason = trainer.stop_reason(run.history) or trainer.out_of_time(run.history) or run.should_stop(run.history)
        save = reason or stopping.is_saved(epoch, trainer.settings)
        run.commit(trainer.state() if save else None, totals.losses)  # history.csv, then last.ckpt
    return reason


def train_epoch(
    trainer: Trainer, run: RunFolder, epoch: int, callbacks: Sequence[Callback]
) -> tuple[dict[str, Any], Totals]:
    """Train one pass over the images. Returns its row of history.csv, without validation figures, and its totals."""
    totals = Totals()
    for number, (images, labels) in enumerate(timed(trainer.batches(epoch), totals), start=epoch * trainer.steps):
        loss, logits, updated = trainer.step(ms.Tensor(images), ms.Tensor(labels))  # forward, backward, update

        loss, rate = float(loss.asnumpy()), float(trainer.rates[number])
        if updated and not np.isfinite(loss):
            raise diverged(f"The loss became {loss}", number, trainer, run)
        if problem := trainer.overflows.problem():
            raise diverged(problem, number, trainer, run)
        totals.add(loss, trainer.examiner.hits(logits.asnumpy(), labels), len(labels))
        for callback in callbacks:
            callback.step_end(Step(number, loss, images, labels, rate, totals))

    count, correct, loss = trainer.group.sum([totals.images, totals.correct, totals.loss])  # of all workers
    mean_loss, accuracy = (loss / count, correct / count) if count else (np.nan, np.nan)  # every step overflowed
    row = {"epoch": epoch + 1, "step": number + 1, "lr": rate, "train_loss": mean_loss, "train_acc": accuracy}
    row["images_per_s"] = count / totals.seconds
    trainer.share_statistics()
    if text := trainer.overflows.of_epoch(trainer.steps):
        log.info(f"epoch {epoch + 1}: {text}")
    return row, totals


def timed(batches: Iterator[Any], totals: Totals) -> Iterator[Any]:
    """Yield the same batches, and add the time that the loop waits for them to `totals`."""
    while True:
        start = time.perf_counter()
        batch = next(batches, None)
        totals.waited += time.perf_counter() - start
        if batch is None:
            return
        yield batch


def epoch_line(run: RunFolder) -> str:
    """The log line of the last epoch. A star marks the best so far."""
    row, name = run.history[-1], ranking.column(run.best_by)
    measure = f"{name} {row[name]:.3f}" if name in ranking.extra(run.best_by) else ""
    figure = "" if np.isnan(row["val_acc"]) else f"  {ranking.shown(run.settings)} {row['val_acc']:.3f}"
    validation = f"val_loss {decimals(row['val_loss'])}{figure}" + f"  {measure}" * bool(measure)
    validation += "*  " if run.best is row else "   "
    return (
        f"epoch {row['epoch']:>3}/{run.settings.epochs}  "
        f"loss {decimals(row['train_loss'])}  acc {row['train_acc']:.3f}  "
        f"{validation if run.best and (figure or not np.isnan(row['val_loss'])) else ''}"
        f"lr {row['lr']:.4f}  {row['images_per_s']:.0f} images/s  {row['seconds']:.0f} s"
    )


def diverged(problem: str, number: int, trainer: Trainer, run: RunFolder) -> DivergedError:
    """The error for a loss or gradients that are not finite, after step `number`, counted from 0."""
    rates, best = trainer.rates, run.best
    saved = f"{run.checkpoints}/best.ckpt, of epoch {best['epoch']}" if best else "none: no epoch was completed"
    wider = "" if trainer.settings.amp_level == "O0" else "; or amp_level=O0, which trains in float32"
    return DivergedError(
        f"{problem} in epoch {number // trainer.steps + 1}, step {number + 1} of {len(rates)} "
        f"(lr {rates[number]:.4g}).",
        details=[("saved", saved)],
        expected="a finite loss at every step",
        fix=f"lower lr_max (now {max(rates):.4g}) to a tenth, or raise warmup_epochs; or on_nan=rollback{wider}",
    )
