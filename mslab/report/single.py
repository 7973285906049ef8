"""The page of one run: the facts of its folder. validation.py adds the network's results on the validation images."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mslab.config import FIELDS
from mslab.config.tasks import CLASSIFY
from mslab.errors import MslabError, RunError
from mslab.escaping import command, recorded_command
from mslab.evaluation import metrics
from mslab.files import read_text
from mslab.report import answers, charts, comparable, of_task, validation
from mslab.report.markup import embedded, figures_of
from mslab.report.validation import CLASSES, Translate
from mslab.runs import lock, ranking
from mslab.runs.folder import COLUMNS, RunFolder
from mslab.runs.manifest import file_of
from mslab.runs.results import BEST, changed, read_evaluation
from mslab.runs.verifying import compare_file
from mslab.runtime.console import log
from mslab.training import freezing


def facts(run: RunFolder, t: Translate, device: str = "auto", engine: str = "", precision: str = "") -> dict[str, Any]:
    """The page's content. Parts that need missing images or weights are left out, with the reason in `notes`.

    `engine`, `precision`: by default those of the run's settings; fp32 if only an engine is given.
    """
    result, results, notes = measured(run, t, device, engine, precision)
    notes += [f"{change}: mslab verify" for change in changed(run.path, run.manifest)]
    classes, config, manifest = run.manifest["class_names"], run.settings, run.manifest
    settings = config.model_dump()
    page = {
        "title": f"{run.path.name} · mslab",
        "name": run.path.name,
        "kind": comparable.kind(run, t),
        "command": recorded_command(manifest["command"]),
        "notes": notes,
        "config": config,
        "manifest": manifest,
        "rows": run.history,
        "columns": [*COLUMNS, *ranking.extra(run.best_by)],
        "best": run.best,
        "best_by": run.best_by,
        "others": ranking.others(run.history, run.best_by),
        "eval": result,
        "linear": manifest["metrics"].get("linear_acc"),
        "classes": classes,
        "called": {"val_acc": ranking.shown(config)},
        "labelled": classes if config.task == CLASSIFY else of_task.labelled(manifest),
        "curves": curves(run, t) if run.history else [],
        "cells": {},
        "groups": [],
        "findings": None,
        "origin": origin(manifest, t),
        "frozen": freezing.describe(results.get("tensors") or freezing.outline(config), config),
        "changed": [
            (key, settings[key], field.default)
            for key, field in FIELDS.items()
            if not field.is_required() and settings[key] not in (field.default, None)
        ],
        "config_text": read_text(run.path / "config.yaml"),
        "manifest_text": json.dumps(manifest, indent=2, ensure_ascii=False),
    }
    if config.task != CLASSIFY:
        page |= {"of_task": of_task.facts(run, result, results, t)}
    elif result:
        matrix = np.array(result["confusion"])
        right = int(matrix.diagonal().sum())
        page |= {"right": right, "interval": metrics.interval(right, result["images"])}
        page |= {"matrix": table_of(matrix, classes), "per_class": per_class(result, matrix)}
    page |= results
    page["recall_command"] = recall_command(run, results.get("recall", []))
    figures = figures_of(run, result) | {key: results.get(key) for key in ("engine", "predictions")}
    page["embedded"] = embedded({"mslab": "report", "schema": 1, "runs": [figures]})
    page["contents"] = contents(page)
    return page


def measured(
    run: RunFolder, t: Translate, device: str, engine: str, precision: str
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """(the content of eval.json, what the network shows on the validation images, notes on what is missing)."""
    result = read_evaluation(run.path, run.manifest["class_names"], run.settings.task)
    notes: list[str] = []
    results: dict[str, Any] = {}
    if result or run.best or file_of(run.path, BEST).is_file():
        try:
            own = (run.settings.engine, run.settings.precision)
            chosen = (engine, precision or "fp32") if engine else (own[0], precision or own[1])
            if not result:
                refuse_other_network(run)
                chosen = ("mindspore", "fp32")  # the reference, which measures for eval.json
            if run.settings.task == CLASSIFY:
                results = validation.inspect_run(run, t, device, *chosen)
            else:
                results = answers.inspect_run(run, device)
            if not result:
                result = run.evaluation(results["measured"])
                notes.append(write_again(run, result, t))
        except MslabError as error:
            notes.append(f"{t('Sections that need the images or the network are left out.')} {error.what} {error.fix}")
        for note in notes:
            log.info(f"note: {note}")
    return result, results, notes


def refuse_other_network(run: RunFolder) -> None:
    """Raise RunError unless best.ckpt is the run's own: its figures would be taken for the run's."""
    digest = run.manifest["artifacts"].get(BEST)
    if digest and compare_file(file_of(run.path, BEST), BEST, digest)["status"] == "changed":
        raise RunError(
            f"{run.path} has no eval.json, and best.ckpt was changed after the run.",
            expected="the network that the run trained, to measure it again",
            fix="put back one of them, from a copy of the run",
        )


def write_again(run: RunFolder, result: Mapping[str, Any], t: Translate) -> str:
    """Write the eval.json that a run has lost. Returns what the page says of it."""
    text = t("eval.json was missing: best.ckpt is measured again on the validation images.")
    try:
        with lock.held(run.path):
            run.write_json("eval.json", result)
    except (OSError, MslabError) as error:
        return f"{text} {getattr(error, 'what', error)}"
    digest = run.manifest["artifacts"].get("eval.json")
    same = digest and compare_file(run.path / "eval.json", "eval.json", digest)["status"] == "same"
    exact = t("It has the bytes that the run wrote.")
    return f"{text} {exact if same else t('Its loss may differ from the one that the run wrote in the last digits.')}"


def contents(page: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(anchor, title) of each section on the page."""
    sections = [
        ("warnings", "Warnings", page["manifest"]["warnings"] or page["manifest"]["rollbacks"]),
        ("curves", "Learning curves", True),
        ("figures", "Figures", page.get("of_task", {}).get("figures")),
        ("names", page.get("of_task", {}).get("names_title"), page.get("of_task", {}).get("by_name")),
        *((group["anchor"], group["title"], group["images"]) for group in page.get("shown_images", ())),
        ("confusion", "Confusion matrix", page.get("matrix")),
        ("classes", "Figures per class", page.get("per_class")),
        ("roc", "ROC and precision-recall", page.get("roc")),
        ("recall", "What a higher recall costs", page.get("recall")),
        ("calibration", "Calibration", page.get("calibration")),
        *((group["anchor"], group["title"], True) for group in page["groups"]),
        ("features", "Map of the features", page.get("maps")),
        ("suspects", "Labels that may be wrong", page.get("suspects")),
        ("data", "Data", True),
        ("network", "Network", True),
        ("repeat", "To repeat this run", True),
    ]
    return [(anchor, title) for anchor, title, present in sections if present]


def curves(run: RunFolder, t: Translate) -> list[dict[str, Any]]:
    """Loss, accuracy and learning rate over the epochs, with marks for the best epoch and for other events."""
    epochs = [row["epoch"] for row in run.history]
    marks: list[tuple[float, str]] = [(run.best["epoch"], t("best"))] if run.best else []
    marks += [
        (int(epoch) - 0.5, t("{part} unfrozen").format(part=part))
        for epoch, part in run.settings.unfreeze.items()
        if int(epoch) <= len(epochs)
    ]
    marks += [(back["epoch"] - 0.5, "rollback") for back in run.manifest["rollbacks"]]
    if run.manifest["ended_by"]:
        marks.append((epochs[-1], t("ended early")))

    def chart(title: str, keys: Mapping[str, str], bounds: tuple[float, float] | None = None) -> dict[str, Any]:
        series = [
            charts.Series(name, epochs, [row[key] for row in run.history], style)
            for style, (key, name) in enumerate(keys.items())
        ]
        svg = charts.line_chart(series, t(title), t("epoch"), marks, bounds)
        return {"title": t(title), "series": series, "svg": svg}

    training, validation = t("training"), t("validation")
    more = {name: name for name in ranking.extra(run.best_by)}  # columns of history.csv, in any language
    return [
        chart("Loss", {"train_loss": training, "val_loss": validation}),
        chart(*measured_curve(run, t, more)),
        chart("Learning rate at the end of the epoch", {"lr": t("learning rate")}),
    ]


def measured_curve(
    run: RunFolder, t: Translate, more: Mapping[str, str]
) -> tuple[str, dict[str, str], tuple[float, float]]:
    """Title, columns and bounds of the curve that decides. Of a task, train_acc is another figure than val_acc."""
    if run.settings.task == CLASSIFY:
        return "Accuracy", {"train_acc": t("training"), "val_acc": t("validation"), **more}, (0, 1)
    training = f"train_acc ({t('share of the targets that is answered right')})"
    return "The measure", {"train_acc": training, "val_acc": ranking.shown(run.settings)}, (0, 1)


def recall_command(run: RunFolder, rows: Sequence[Mapping[str, Any]]) -> str:
    """The command that measures the first class with the threshold of its last row."""
    if not rows:
        return ""
    text = f"{rows[0]['name']}={rows[0]['costs'][-1]['threshold']:g}"
    return command("eval", run.path, "--data", Path(run.settings.val_data), "--threshold", text)


def table_of(matrix: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """The confusion matrix as rows of cells with a depth of colour; with many classes, the commonest mistakes."""
    if len(classes) <= CLASSES:
        totals = np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        depths = np.sqrt(matrix / totals)  # the root, so that a rare mistake has a visible colour
        rows = [
            [{"n": int(n), "share": float(depth)} for n, depth in zip(*both, strict=True)]
            for both in zip(matrix, depths, strict=True)
        ]
        return {"rows": rows}
    wrong = matrix - np.diag(matrix.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:30]
    indices = [divmod(int(index), len(classes)) for index in order]
    return {"pairs": [(classes[i], classes[j], int(wrong[i, j])) for i, j in indices if wrong[i, j]]}


def per_class(result: Mapping[str, Any], matrix: np.ndarray) -> list[dict[str, Any]]:
    """One row per class: precision, recall and F1 with their 95 % intervals, and the number of images."""
    f1 = metrics.f1_intervals(matrix)
    rows = []
    for index, (name, figures) in enumerate(result["per_class"].items()):
        right = matrix[index, index]
        rows.append({"name": name, **figures, "f1_interval": f1[index].tolist()})
        rows[-1]["precision_interval"] = metrics.interval(right, matrix[:, index].sum())
        rows[-1]["recall_interval"] = metrics.interval(right, matrix[index].sum())
    return rows


def origin(manifest: Mapping[str, Any], t: Translate) -> str:
    """A sentence on the origin of the initial weights."""
    parent = manifest["parent"]
    if not parent:
        return t("Trained from random weights.")
    source = parent.get("published") or parent["file"]
    return t("Started from {file} (sha256 {sha}…).").format(file=source, sha=parent["sha256"][:12])
