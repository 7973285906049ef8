"""The page of several runs: their curves in shared charts, figures and settings in tables. Needs no network."""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from mslab.config import FIELDS
from mslab.evaluation import metrics
from mslab.report import charts, comparable
from mslab.report.markup import embedded, figures_of
from mslab.runs import ranking
from mslab.runs.folder import RunFolder
from mslab.runs.results import read_evaluation


def facts(runs: Sequence[RunFolder], t: Callable[[str], str]) -> dict[str, Any]:
    """The page's content, runs with the highest validation accuracy first, or the best by their common best_by."""
    measures = {run.best_by for run in runs}
    best_by = measures.pop() if len(measures) == 1 else None
    runs = sorted(runs, key=lambda run: -ranking.score(run.best, best_by) if run.best else math.inf)
    rows = [row_of(run, style, t) for style, run in enumerate(runs)]
    configs = [run.settings.model_dump() for run in runs]
    differing = [key for key in FIELDS if len({json.dumps(settings[key]) for settings in configs}) > 1]
    names = [tuple(run.manifest["class_names"]) for run in runs]
    figures = [figures_of(run, row["eval"]) for run, row in zip(runs, rows, strict=True)]
    return {
        "title": f"{len(runs)} {t('runs')} · mslab",
        "rows": rows,
        "measure": ranking.column(best_by) if best_by else "",
        "differing": differing,
        "configs": configs,
        "classes": names[0] if len(set(names)) == 1 else (),
        "unfair": comparable.unfair(runs, t),
        "curves": curves(runs, rows, t),
        "embedded": embedded({"mslab": "report", "schema": 1, "runs": figures}),
    }


def row_of(run: RunFolder, style: int, t: Callable[[str], str]) -> dict[str, Any]:
    """The figures of one run, for the table."""
    result, best = read_evaluation(run.path, run.manifest["class_names"], run.settings.task), run.best
    right = sum(row[i] for i, row in enumerate(result["confusion"])) if result else 0
    return {
        "name": run.path.name,
        "label": comparable.label(run, t),
        "style": style,
        "kind": comparable.kind(run, t),
        "status": run.manifest["status"],
        "accuracy": best["val_acc"] if best else None,
        "interval": metrics.interval(right, result["images"]) if result else None,
        "best": best,
        "best_epoch": best["epoch"] if best else None,
        "epochs": run.epochs_done,
        "seconds": sum(row["seconds"] for row in run.history),
        "linear": run.manifest["metrics"].get("linear_acc"),
        "warnings": [warning["code"] for warning in run.manifest["warnings"]],
        "eval": result,
    }


def curves(runs: Sequence[RunFolder], rows: Sequence[dict[str, Any]], t: Callable[[str], str]) -> list[dict[str, Any]]:
    """One chart per column of history.csv, with one line per run."""
    columns = [
        ("val_acc", "Validation accuracy", (0.0, 1.0)),
        ("val_loss", "Validation loss", None),
        ("train_loss", "Training loss", None),
        ("lr", "Learning rate at the end of the epoch", None),
    ]
    drawn = []
    for key, title, bounds in columns:
        series = [
            charts.Series(row["label"], [r["epoch"] for r in run.history], [r[key] for r in run.history], row["style"])
            for run, row in zip(runs, rows, strict=True)
            if run.history
        ]
        svg = charts.line_chart(series, t(title), t("epoch"), bounds=bounds, hover=len(runs) <= 8) if series else ""
        drawn.append({"title": t(title), "svg": svg})
    return drawn
