"""The page of several runs: their curves in shared charts, figures and settings in tables. Needs no network."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mslab.config import FIELDS, tasks
from mslab.errors import RunError
from mslab.escaping import command
from mslab.evaluation import metrics
from mslab.report import charts, comparable, of_task
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
    task = runs[0].settings.task
    noun, compared = tasks.NOUNS.get(task, "class"), scores(rows, task)
    figures = [figures_of(run, row["eval"]) for run, row in zip(runs, rows, strict=True)]
    return {
        "title": f"{len(runs)} {t('runs')} · mslab",
        "rows": rows,
        "measure": ranking.column(best_by) if best_by else "",
        "called": ranking.shown(runs[0].settings),
        "score": compared,
        "noun": noun,
        "differing": differing,
        "configs": configs,
        "classes": names[0] if len(set(names)) == 1 and (any(compared[1]) or task == tasks.CLASSIFY) else (),
        "names_title": of_task.NAMES[noun],
        "unfair": comparable.unfair(runs, t),
        "curves": curves(runs, rows, t),
        "embedded": embedded({"mslab": "report", "schema": 1, "runs": figures}),
    }


def scores(rows: Sequence[Mapping[str, Any]], task: str) -> tuple[str, list[Mapping[str, float | None]]]:
    """(what is compared of each class, point or tag; its value by name, for each run)."""
    if task == tasks.CLASSIFY:
        return "F1", [
            {name: own["f1"] for name, own in row["eval"]["per_class"].items()} if row["eval"] else {} for row in rows
        ]
    tables = [row["eval"].get("by_name", {}) for row in rows]
    key = next((next(iter(own)) for table in tables for own in table.values()), "ap")
    return of_task.COLUMNS[key], [{name: own.get(key) for name, own in table.items()} for table in tables]


def refuse_mixed(runs: Sequence[RunFolder]) -> None:
    """Raise RunError for runs whose figures have nothing to do with each other."""
    measures = {run.path: f"task: {run.settings.task}, {ranking.shown(run.settings)}" for run in runs}
    if len(set(measures.values())) > 1:
        first = runs[0]
        alike = [run.path for run in runs if measures[run.path] == measures[first.path]]
        raise RunError(
            "These runs measure different things, which no table can compare.",
            details=[(str(path), text) for path, text in measures.items()],
            expected="runs of one task and one measure",
            fix=command("report", *alike) + "    and the others in a report of their own",
        )


def row_of(run: RunFolder, style: int, t: Callable[[str], str]) -> dict[str, Any]:
    """The figures of one run, for the table."""
    result, best = read_evaluation(run.path, run.manifest["class_names"], run.settings.task), run.best
    right = sum(row[i] for i, row in enumerate(result["confusion"])) if "confusion" in result else None
    return {
        "name": run.path.name,
        "label": comparable.label(run, t),
        "style": style,
        "kind": comparable.kind(run, t),
        "status": run.manifest["status"],
        "accuracy": best["val_acc"] if best else None,
        "interval": None if right is None else metrics.interval(right, result["images"]),
        "best": best,
        "best_epoch": best["epoch"] if best else None,
        "epochs": run.epochs_done,
        "seconds": sum(row["seconds"] for row in run.history),
        "linear": compared_with(run),
        "warnings": [warning["code"] for warning in run.manifest["warnings"]],
        "eval": result,
    }


def compared_with(run: RunFolder) -> float | None:
    """The figure that a network has to beat: of a linear model, or of the same answer for every image."""
    found = run.manifest["metrics"]
    if run.settings.task == tasks.CLASSIFY:
        return found.get("linear_acc")  # type: ignore[no-any-return]
    return (found.get("constant") or {}).get(tasks.measure(run.settings))  # type: ignore[no-any-return]


def curves(runs: Sequence[RunFolder], rows: Sequence[dict[str, Any]], t: Callable[[str], str]) -> list[dict[str, Any]]:
    """One chart per column of history.csv, with one line per run."""
    called = ranking.shown(runs[0].settings)
    columns = [
        ("val_acc", t("Validation accuracy") if called == "val_acc" else called, (0.0, 1.0)),
        ("val_loss", t("Validation loss"), None),
        ("train_loss", t("Training loss"), None),
        ("lr", t("Learning rate at the end of the epoch"), None),
    ]
    drawn = []
    for key, title, bounds in columns:
        series = [
            charts.Series(row["label"], [r["epoch"] for r in run.history], [r[key] for r in run.history], row["style"])
            for run, row in zip(runs, rows, strict=True)
            if run.history
        ]
        svg = charts.line_chart(series, title, t("epoch"), bounds=bounds, hover=len(runs) <= 8) if series else ""
        drawn.append({"title": title, "svg": svg})
    return drawn
