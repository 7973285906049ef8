"""Which epoch of a run is the best: best_by names the measure, history.csv has its columns where it is set.

Without best_by the highest val_acc counts, of equal ones the earliest epoch. With it, of equal ones the lower val_loss
counts, then the earliest epoch. A measure that is undefined (NaN) is never the best.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mslab.config import Settings, tasks
from mslab.config.kinds import BestBy
from mslab.errors import RunError

Row = Mapping[str, Any]
RECALL = "recall:"
COLUMNS = {"accuracy": "val_acc", "loss": "val_loss"}  # of these measures; others: val_ and the measure's name
ALWAYS = ("balanced_accuracy", "macro_f1")  # measures that get a column with any best_by


def column(best_by: str | None) -> str:
    """The column of history.csv that decides."""
    # column(None) -> "val_acc"; column("macro_f1") -> "val_macro_f1"; column("recall:fly agaric") -> "val_recall"
    name = "recall" if (best_by or "").startswith(RECALL) else best_by or "accuracy"
    return COLUMNS.get(name, f"val_{name}")


def extra(best_by: str | None) -> list[str]:
    """The columns of history.csv that a run has because of its best_by."""
    recall = [column(best_by)] * (best_by or "").startswith(RECALL)
    return [*map(column, ALWAYS), *recall] if best_by else []


def measures(figures: Mapping[str, Any] | None, best_by: str | None) -> dict[str, float]:
    """The values of `extra` for an epoch. `figures`: of measuring.measure; None if it was not evaluated."""
    if figures is None or not best_by or "per_class" not in figures:
        return dict.fromkeys(extra(best_by), math.nan)
    classes = figures["per_class"]
    predicted = map(sum, zip(*figures["confusion"], strict=True))
    recalls = {name: scores["recall"] for name, scores in classes.items() if scores["support"]}
    scores = [row["f1"] or 0.0 for row, n in zip(classes.values(), predicted, strict=True) if row["support"] or n]
    values = [mean(recalls.values()), mean(scores), recalls.get(best_by.removeprefix(RECALL), math.nan)]
    return dict(zip(extra(best_by), values, strict=False))


def mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values) if values else math.nan


def score(row: Row, best_by: str | None) -> float:
    """What best_by says of an epoch, as a number of which higher is better; NaN if it was not measured."""
    value = float(row[column(best_by)])
    return -value if best_by == "loss" else value


def ranked(rows: Sequence[dict[str, Any]], best_by: str | None) -> list[dict[str, Any]]:
    """The epochs that were measured, the best first."""

    def key(row: Row) -> tuple[float, ...]:
        ties = [row["val_loss"]] if best_by else []
        return (-score(row, best_by), *(math.inf if math.isnan(loss) else loss for loss in ties), row["epoch"])

    return sorted((row for row in rows if not math.isnan(score(row, best_by))), key=key)


def best(rows: Sequence[dict[str, Any]], best_by: str | None) -> dict[str, Any] | None:
    """The row of the best epoch; None if no epoch was measured."""
    return next(iter(ranked(rows, best_by)), None)


def others(rows: Sequence[dict[str, Any]], best_by: str | None) -> dict[str, int]:
    """The measures that would have chosen another epoch, and which; {} without best_by, where they are unknown."""
    chosen = best(rows, best_by)
    if not best_by or not chosen:
        return {}
    epochs = {name: found["epoch"] for name in ("accuracy", *ALWAYS, "loss") if (found := best(rows, name))}
    return {name: epoch for name, epoch in epochs.items() if epoch != chosen["epoch"]}


def shown(settings: Settings) -> str:
    """How the column val_acc is called for people: by the measure that it has in this task."""
    return "val_acc" if settings.task == tasks.CLASSIFY else f"val_{tasks.measure(settings)}"


def title(settings: Settings) -> str:
    """How the figure that decides is called for people."""
    name = column(settings.best_by)
    if name != "val_acc":
        return name
    return "validation accuracy" if settings.task == tasks.CLASSIFY else shown(settings)


def named(row: Row, settings: Settings) -> dict[str, Any]:
    """A row of history.csv for people, with val_acc by that name."""
    return {shown(settings) if name == "val_acc" else name: value for name, value in row.items()}


def recorded_name(content: Mapping[str, Any]) -> str:
    """The same from a manifest; "val_acc" in those of an older mslab, which knew no other task."""
    settings = content["settings"] or {}
    if settings.get("task") not in tasks.TASKS:
        return "val_acc"
    return f"val_{tasks.measure_of(settings['task'], settings.get('validation_metric_type', 'voc'))}"


def best_text(row: Row, best_by: str | None, called: str = "val_acc") -> str:
    """best_text(row, "macro_f1") -> "best val_macro_f1 0.913 in epoch 7 (val_acc 0.950)" """
    name, accuracy = column(best_by), f" ({called} {row['val_acc']:.3f})"
    title = called if name == "val_acc" else name
    both = name != "val_acc" and not math.isnan(row["val_acc"])  # validation_metric_type: none measures nothing else
    return f"best {title} {row[name]:.3f} in epoch {row['epoch']}" + accuracy * both


def metrics(row: Row, best_by: str | None) -> dict[str, Any]:
    """The best epoch's figures, as in manifest.json."""
    return {"best_epoch": row["epoch"]} | {name: row[name] for name in ("val_acc", "val_loss", *extra(best_by))}


def of_manifest(content: Mapping[str, Any], settings: Settings, path: object) -> str | None:
    """The best_by of a run, as its manifest records it: its history.csv has the columns for it. Raises RunError."""
    return settings.best_by if content["settings"] is None else recorded(content, path)


def recorded(content: Mapping[str, Any], path: object) -> str | None:
    """The best_by in a manifest; None in those of an older mslab, which have no settings. Raises RunError."""
    value = (content["settings"] or {}).get("best_by")
    try:
        return TypeAdapter(BestBy | None).validate_python(value)
    except ValidationError:
        raise RunError(
            f"{path}/manifest.json records best_by: {str(value)[:100]}, which does not exist.",
            expected="the file that mslab wrote",
            fix="put back manifest.json, from a copy of the run",
        ) from None
