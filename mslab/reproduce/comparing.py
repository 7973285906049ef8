"""Compare two run folders figure by figure: identical, within tolerance or different; and where they first differ."""

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from mslab import files
from mslab.config import Settings, tasks
from mslab.config.tasks import CLASSIFY
from mslab.errors import RunError
from mslab.runs import folder, ranking
from mslab.runs.folder import RunFolder
from mslab.runs.results import read_evaluation
from mslab.runtime.tables import plural

TIMES = ("images_per_s", "seconds")  # columns of history.csv that differ in every repetition
LOSS_FACTOR = 5  # a tolerance of 0.02 for accuracies means 10 % for losses
BEST = "checkpoints/best.ckpt"


@dataclass(frozen=True)
class Metric:
    """One figure of both runs. `verdict`: same, within, outside, or missing if a run does not have it."""

    name: str
    then: float | None
    now: float | None
    verdict: str
    kind: str = "accuracy"

    @property
    def difference(self) -> float | None:
        """Absolute difference of an accuracy, relative difference of a loss."""
        if self.then is None or self.now is None:
            return None
        return differ(self.kind, self.then, self.now)

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("name", "kind", "then", "now", "difference", "verdict")}


@dataclass
class Comparison:
    """The comparison of two runs. `verdict`: identical, within tolerance, different."""

    tolerance: float
    metrics: list[Metric] = field(default_factory=list)
    columns: list[tuple[str, int, float, float]] = field(default_factory=list)  # name, first epoch, then, now
    epoch: int | None = None  # the first one that differs
    step: int | None = None
    losses: tuple[str, str] = ("", "")  # of that step
    has_steps: bool = True  # both runs recorded each step's loss
    notes: list[str] = field(default_factory=list)
    weights: tuple[str | None, str | None] = (None, None)  # sha256 of best.ckpt

    @property
    def identical(self) -> bool:
        return self.epoch is None and self.step is None and self.weights[0] == self.weights[1]

    @property
    def verdict(self) -> str:
        if self.identical:
            return "identical"
        return "within tolerance" if all(m.verdict in ("same", "within") for m in self.metrics) else "different"

    @property
    def first_difference(self) -> dict[str, int | None] | None:
        return None if self.epoch is None and self.step is None else {"epoch": self.epoch, "step": self.step}


def compare(run: RunFolder, again: RunFolder, tolerance: float) -> Comparison:
    """Compare `again` with `run`. Raises RunError if one of their files is damaged."""
    comparison = Comparison(tolerance)
    before, after = figures(run), figures(again)
    for name, kind in KINDS.items():
        then, now = before[name], after[name]
        if then is not None or now is not None:
            verdict = verdict_of(kind, then, now, tolerance)
            comparison.metrics.append(Metric(title(name, run.settings), then, now, verdict, kind))
    compare_histories(comparison, run.history, again.history)
    best = [r.best["epoch"] if r.best else 0 for r in (run, again)]
    if best[0] != best[1]:
        comparison.notes.append(f"the best epoch was {best[0]} then, {best[1]} now")
    compare_steps(comparison, run, again)
    comparison.weights = (run.manifest["artifacts"].get(BEST), again.manifest["artifacts"].get(BEST))
    return comparison


KINDS = {
    "best val_acc": "accuracy",
    "val_loss of that epoch": "loss",
    "eval accuracy": "accuracy",
    "eval macro F1": "accuracy",
    "train_loss of the last epoch": "loss",
    "linear model's accuracy": "accuracy",
}


def figures(run: RunFolder) -> dict[str, float | None]:
    """Final figures of a run, None for those it does not have."""
    best, last, measured = run.best or {}, run.history[-1] if run.history else {}, evaluation(run)
    values = (best.get("val_acc"), best.get("val_loss"), *measured, last.get("train_loss"))
    linear = run.manifest["metrics"].get("linear_acc")
    if run.settings.task != CLASSIFY:
        linear = (run.manifest["metrics"].get("constant") or {}).get(tasks.measure(run.settings))
    return dict(zip(KINDS, (*map(number, values), number(linear)), strict=True))


def title(name: str, settings: Settings) -> str:
    """The name of a figure in a task: history.csv has its measure as val_acc."""
    # title("eval accuracy", settings with task: segment) -> "eval miou"
    if settings.task == CLASSIFY:
        return name
    name = name.replace("linear model's", "the same answer's").replace("val_acc", ranking.shown(settings))
    return name.replace("accuracy", tasks.measure(settings))


def evaluation(run: RunFolder) -> tuple[float | None, float | None]:
    """Read eval.json. Returns (accuracy, mean F1 of the classes), Nones without the file. Raises RunError."""
    content = read_evaluation(run.path, run.manifest["class_names"], run.settings.task)
    if not content:
        return None, None
    if run.settings.task != CLASSIFY:
        return content[content["measure"]], None
    scores = [row["f1"] for row in content["per_class"].values()]
    return content["accuracy"], sum(scores) / len(scores)


def number(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def differ(kind: str, then: float, now: float) -> float:
    """differ("loss", 0.5, 0.55) -> 0.1, differ("accuracy", 0.5, 0.55) -> 0.05"""
    return abs(now - then) / (max(abs(then), 1e-12) if kind == "loss" else 1)


def verdict_of(kind: str, then: float | None, now: float | None, tolerance: float) -> str:
    if then is None or now is None:
        return "missing"
    if then == now:
        return "same"
    allowed = tolerance * (LOSS_FACTOR if kind == "loss" else 1)
    return "within" if differ(kind, then, now) <= allowed + 1e-12 else "outside"


def compare_histories(comparison: Comparison, then: list[dict[str, Any]], now: list[dict[str, Any]]) -> None:
    extra = ranking.extra("recall:")  # columns of best_by
    shared = [name for name in extra if then and now and name in then[0].keys() & now[0].keys()]
    for name in [name for name in (*folder.COLUMNS, *shared) if name not in TIMES]:
        for old, new in zip(then, now, strict=False):
            if old[name] != new[name] and not (math.isnan(old[name]) and math.isnan(new[name])):
                comparison.columns.append((name, old["epoch"], old[name], new[name]))
                break
    epochs = [epoch for _, epoch, _, _ in comparison.columns]
    if len(then) != len(now):
        epochs.append(min(len(then), len(now)) + 1)
        comparison.notes.append(f"{plural(len(then), 'epoch')} then, {len(now)} now")
    comparison.epoch = min(epochs, default=None)


def compare_steps(comparison: Comparison, run: RunFolder, again: RunFolder) -> None:
    without_steps = [r.path for r in (run, again) if not (r.path / "steps.csv").is_file()]
    for path in without_steps:
        comparison.notes.append(f"{path} is older and has no steps.csv, so single steps cannot be compared")
    if without_steps:
        comparison.has_steps = False
        return
    for old, new in zip_longest(steps(run.path / "steps.csv"), steps(again.path / "steps.csv")):
        if old != new:
            comparison.step = (old or new)[0]
            comparison.losses = (old[1] if old else "none", new[1] if new else "none")
            return


def steps(file: Path) -> Iterator[tuple[int, str]]:
    """Read steps.csv: (step, loss) of each row. Raises RunError."""
    try:
        for row in csv.DictReader(files.read_lines(file)):
            yield int(row["step"]), str(row["loss"])
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise RunError(
            f"{file} cannot be read: {repr(error)[:200]}.",
            expected="the columns step and loss, as mslab wrote them",
            fix="restore the file",
        ) from None


def largest(metrics: list[Metric]) -> Mapping[str, float]:
    """The largest difference of each kind."""
    kinds = {metric.kind: 0.0 for metric in metrics}
    for metric in metrics:
        kinds[metric.kind] = max(kinds[metric.kind], metric.difference or 0.0)
    return kinds
