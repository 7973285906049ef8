"""Warnings about a training that goes wrong: once, early, with the symptom, its usual cause and a remedy.

A callback: nothing here changes the training.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mslab.runtime.tables import plural
from mslab.training.callbacks import Callback, Step, Totals

# the loss explodes if the mean of RECENT steps is above this times that of a guess and of the first step, which no
# learning rate has raised yet; at the end of an epoch fewer steps are enough
EXPLODES = 3.0
RECENT = 10
STARVED, LONG = 0.6, 5.0  # warn if more than this fraction of an epoch, and these seconds, are spent waiting for images
DEAD = 0.5  # warn if more than this fraction of a layer's channels is never above zero
WIDEST = 1e8  # of BatchNorm's variances; float32 loses the differences between images there


class Monitor(Callback):
    """Checks steps, epochs and evaluations. Calls `on_warning(code, text)` once for each kind of problem.

    `class_names`: of classification; without, what is about classes is not checked. `warned`: the codes of earlier
    warnings.
    """

    def __init__(
        self, class_names: Sequence[str], on_warning: Callable[[str, str], None], warned: Iterable[str] = ()
    ) -> None:
        self.class_names, self.on_warning, self.warned = list(class_names), on_warning, set(warned)
        self.first: float | None = None  # loss of the first step
        self.recent: list[float] = []
        self.label_set: set[int] = set()  # the labels so far, until there are two
        self.one_class = 0  # evaluations in a row in which every image was classified as the same class

    def warn(self, code: str, text: str) -> None:
        if code not in self.warned:
            self.warned.add(code)
            self.on_warning(code, text)

    def step_end(self, step: Step) -> None:
        if not math.isfinite(step.loss):  # float16 overflowed; the loop reports it
            return
        labels = step.labels
        self.first = step.loss if self.first is None else self.first
        self.recent = [*self.recent[1 - RECENT :], step.loss]
        if self.class_names and len(self.label_set) < 2:
            self.label_set |= set((labels if labels.ndim == 1 else labels.argmax(axis=1)).tolist())
        if len(self.recent) == RECENT:
            self.explodes(step.number + 1, step.rate)

    def epoch_end(
        self, history: Sequence[Mapping[str, Any]], figures: Mapping[str, Any] | None, network: Any, totals: Totals
    ) -> None:
        self.data(history[-1], totals.waited)
        self.explodes(history[-1]["step"], history[-1]["lr"])
        self.labels()
        self.still(history)
        self.statistics(network)
        if figures and self.class_names:
            self.one_answer(figures)
            self.chance(history)
            self.overfitting(history)

    def explodes(self, number: int, rate: float) -> None:
        """The loss is far above that of a guess and of the first step, from the beginning or later."""
        first = self.first or 0.0
        limit = EXPLODES * max(math.log(len(self.class_names) or 1), first)
        if self.recent and np.mean(self.recent) > limit:
            self.warn(
                "loss-explodes",
                f"the loss explodes: {np.mean(self.recent):.3g} over the last {plural(len(self.recent), 'step')} (step "
                f"{number}, lr {rate:.3g}), {first:.3g} in the first; lower lr_max to a tenth or less (mslab lr-find "
                "CONFIG suggests one), raise warmup_epochs, or set clip_grad_norm=1",
            )

    def data(self, row: Mapping[str, Any], waited: float) -> None:
        if waited > LONG and waited > STARVED * row["seconds"]:
            self.warn(
                "waiting-for-data",
                f"{waited:.0f} of {row['seconds']:.0f} s of epoch {row['epoch']} were spent waiting for images; try "
                "more data_workers, cache=memory, smaller files, or mslab data pack ROOT --out FOLDER",
            )

    def labels(self) -> None:
        if len(self.label_set) == 1:
            name = self.class_names[next(iter(self.label_set))]
            self.warn(
                "one-label",
                f"every label of this epoch was {name}: there is nothing to learn; mslab check ROOT lists them",
            )

    def still(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """The loss has not changed since the run began: within 1 % over two epochs, and accuracy is low."""
        first, last = rows[0], rows[-1]
        moved = abs(last["train_loss"] - first["train_loss"]) / first["train_loss"] if first["train_loss"] else 1.0
        if 2 <= len(rows) <= 4 and moved < 0.01 and last["train_acc"] < 0.9:
            rate = max(row["lr"] for row in rows)
            self.warn(
                "loss-still",
                f"the loss does not move: {first['train_loss']:.4g} in epoch 1, {last['train_loss']:.4g} in epoch "
                f"{last['epoch']}; the learning rate may be too small (at most {rate:.3g} so far: lr_max times 10, or "
                "mslab lr-find CONFIG), too much may be frozen (mslab show CONFIG), or labels may belong to other "
                "images (mslab check ROOT)",
            )

    def one_answer(self, figures: Mapping[str, Any]) -> None:
        """All images are classified as one class: accuracy is the fraction of that class, often the largest one."""
        predicted = np.sum(figures["confusion"], axis=0)
        self.one_class = self.one_class + 1 if np.count_nonzero(predicted) == 1 else 0
        if self.one_class == 2:
            name = self.class_names[int(predicted.argmax())]
            longer = "" if "loss-explodes" in self.warned else "train longer, "
            self.warn(
                "one-answer",
                f"all {figures['images']} validation images are classified as {name}, in two evaluations in a row: "
                f"val_acc {figures['accuracy']:.3f} is that class's fraction of them; lower lr_max, {longer}or, "
                "if one class has most images, set label_balance=true or weighted_loss=2",
            )

    def chance(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Three evaluations in a row near 1 / number of classes, in training as well."""
        guess = 1 / len(self.class_names)
        last = [row for row in rows if not math.isnan(row["val_acc"])][-3:]
        if len(last) == 3 and all(
            abs(row[key] - guess) < 0.1 * guess for row in last for key in ("val_acc", "train_acc")
        ):
            self.warn(
                "chance",
                f"val_acc stays at {guess:.3f}, which is what guessing among {len(self.class_names)} classes gives; "
                "mslab lr-find CONFIG suggests a rate, mslab show --augment CONFIG shows what the network sees",
            )

    def overfitting(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Training accuracy far above validation accuracy, twice in a row, and the validation loss rises again."""
        measured = [row for row in rows if not math.isnan(row["val_acc"])]
        lowest = min(row["val_loss"] for row in measured)
        far = [row["train_acc"] - row["val_acc"] > 0.2 and row["val_loss"] > 1.1 * lowest for row in measured[-2:]]
        if len(far) == 2 and all(far):
            row = measured[-1]
            self.warn(
                "overfitting",
                f"train_acc {row['train_acc']:.3f}, val_acc {row['val_acc']:.3f}, and val_loss rises "
                f"({lowest:.3g} at its lowest, now {row['val_loss']:.3g}); try more images, mixup_alpha=0.2, "
                "auto_augment=randaugment, weight_decay, dropout, fewer epochs (early_stopping=true), or a backbone "
                "(mslab transfer CONFIG --backbone FILE)",
            )

    def statistics(self, network: Any) -> None:
        """BatchNorm's statistics out of range, and channels that the ReLU after it always sets to zero."""
        values = {parameter.name: parameter for parameter in network.get_parameters()}
        for name in values:
            if name.endswith("moving_variance"):
                variance = values[name].asnumpy()
                if not np.isfinite(variance).all() or variance.max() > WIDEST:
                    self.warn(
                        "batchnorm",
                        f"{name} reaches {variance.max():.3g}: BatchNorm's input is out of range; lower lr_max, set "
                        "clip_grad_norm=1, and look at the images (mslab show --augment CONFIG)",
                    )
            if name.endswith(".gamma") and _before_relu(name, values):
                gamma, beta = values[name].asnumpy(), values[f"{name[:-5]}beta"].asnumpy()
                dead = float(np.mean(beta < -3 * np.abs(gamma)))  # BatchNorm's output has mean beta, deviation gamma
                if dead > DEAD:
                    self.warn(
                        "dead-relu",
                        f"{dead:.0%} of the channels of {name[:-6]} are never above zero: the ReLU after it sets them "
                        "to zero, and they stop learning; lower lr_max and start again",
                    )


def _before_relu(name: str, names: Mapping[str, Any]) -> bool:
    """Whether a ReLU follows this BatchNorm directly: true except for a block's last one and the shortcut's."""
    block, _, norm = name.removesuffix(".gamma").rpartition(".")
    last = "bn3" if f"{block}.bn3.gamma" in names else "bn2"
    return bool(re.fullmatch(r"bn\d", norm)) and (not block or norm != last)
