"""Callbacks observe a run while it trains and change nothing in it: a list of objects with three methods."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mslab.runtime.console import Meter
from mslab.runtime.tables import decimals

if TYPE_CHECKING:
    from mindspore import nn

History = Sequence[Mapping[str, Any]]  # rows of history.csv


@dataclass
class Totals:
    """This worker's totals of an epoch so far."""

    losses: list[float] = field(default_factory=list)  # of each step, the mean over its images; NaN if it overflowed
    images: int = 0
    correct: float = 0  # images, and of those that are right in part, that part
    loss: float = 0.0  # the sum over the images
    waited: float = 0.0  # seconds for batches
    began: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    def add(self, loss: float, correct: float, images: int) -> None:
        self.losses.append(loss)
        if math.isfinite(loss):  # otherwise float16 overflowed, and the figures of this step mean nothing
            self.images += images
            self.correct += correct
            self.loss += loss * images


@dataclass(frozen=True)
class Step:
    """A completed step."""

    number: int  # counted from 0, over all epochs
    loss: float
    images: np.ndarray  # float32 (N, 3, H, W), or features of a frozen backbone
    labels: np.ndarray  # int (N,), or soft labels (N, class_num)
    rate: float  # the learning rate
    totals: Totals  # of its epoch so far, this step included


class Callback:
    """Base class; every method does nothing."""

    def step_end(self, step: Step) -> None:
        """After a step. Ctrl-C raises KeyboardInterrupt here."""

    def batch_evaluated(self, logits: np.ndarray, labels: np.ndarray) -> None:
        """After a batch of an evaluation. logits float (n, class_num), labels int (n,)."""

    def epoch_end(
        self,
        history: Sequence[Mapping[str, Any]],
        figures: Mapping[str, Any] | None,
        network: "nn.Cell",
        totals: Totals,
    ) -> None:
        """After an epoch; its row is history's last. `figures`: of its evaluation, None if there was none."""


class ProgressBar(Callback):
    """The terminal's progress bar, and Ctrl-C: the run stops after the step during which it was pressed."""

    def __init__(self, meter: Meter, epochs: int, steps: int, interrupted: Callable[[], bool]) -> None:
        self.meter, self.epochs, self.steps, self.interrupted = meter, epochs, steps, interrupted
        self.figures: list[tuple[str, str]] = []  # (long, short) texts of the last step: loss, accuracy
        self.show(meter.done // steps, ("first step …", ""))

    def step_end(self, step: Step) -> None:
        totals, count = step.totals, max(1, step.totals.images)
        loss, accuracy = totals.loss / count, totals.correct / count
        self.figures = [
            (f"loss {decimals(loss)}", f"loss {decimals(loss, 2)}"),
            (f"acc {accuracy:.3f}", f"acc {accuracy:.2f}"),
        ]
        more = [f"lr {step.rate:.4f}", f"{totals.images / totals.seconds:.0f} images/s"]
        self.show(step.number // self.steps, ("", ""), more)
        if self.interrupted():
            raise KeyboardInterrupt

    def batch_evaluated(self, logits: np.ndarray, labels: np.ndarray) -> None:
        self.show((self.meter.done - 1) // self.steps, ("evaluating", "eval"))

    def show(self, epoch: int, phase: tuple[str, str], more: Sequence[str] = ()) -> None:
        """Show the epoch, counted from 0, and what is being done in it; with `more` a step is done."""
        name, short = (f"{epoch + 1}/{self.epochs} {text}".rstrip() for text in phase)
        self.meter.update([(f"epoch {name}", short), *self.figures], advance=1 if more else 0, more=more)
