"""Results of a run's network on its validation images: mistakes, heat maps, ROC, calibration, a map of the features."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mslab import checkpoint, files
from mslab.check import DatasetReport
from mslab.check.training_data import report_of
from mslab.data import sources
from mslab.errors import DatasetError, MslabError
from mslab.evaluation import engines, gradcam, metrics, models, temperature, thresholds
from mslab.evaluation.models import Model
from mslab.report import charts, suspects
from mslab.runs.folder import RunFolder
from mslab.runtime import devices
from mslab.runtime.console import log
from mslab.training import finetuning, freezing

SHOWN = 12  # mistakes, and correct predictions, with pictures
PICTURES = 360  # thumbnails in all cells of the confusion matrix; about 3 kB each
CLASSES = 40  # with more classes the matrix is a list of pairs, not a table
CURVES = 24  # classes whose ROC is drawn
MAPPED = 1200  # images on the map of the features
PREDICTED = 200_000  # probabilities in the page's JSON
Translate = Callable[[str], str]
HEATED = (
    "Mistakes with the highest probability first. Heat maps (Grad-CAM) show which parts of the image support a class: "
    "the brighter, the more."
)
UNHEATED = "Mistakes with the highest probability first. This network has no feature map to draw heat maps from."


def inspect_run(run: RunFolder, t: Translate, device: str, engine: str, precision: str) -> dict[str, Any]:
    """All sections that need the validation images and best.ckpt. Raises MslabError if they are missing or changed."""
    report = images_of(run)
    chosen_device = devices.start(engines.device_for(engine, device), "graph", seed=0)
    trained = models.open_weights(run.path, chosen_device, engine=engine, precision=precision)
    inspection = gradcam.inspect(trained, sources.images_of(report, "val"))
    names = ["/".join(Path(name).parts[-2:]) for name in inspection.images.names()]
    wrong, unsure = inspection.mistakes()[:SHOWN], inspection.unsure()[:SHOWN]
    return {
        "engine": trained.runner.engine.record(),
        "measured": measured(run, inspection),
        "findings": report.findings,
        "tensors": tensor_names(trained),
        "cells": cells(inspection, names),
        "roc": roc(inspection, t),
        "recall": recall_costs(inspection, t),
        "calibration": calibration(inspection, t),
        "groups": [
            {
                "anchor": "mistakes",
                "title": "The most confident mistakes",
                "text": HEATED if trained.heat_map else UNHEATED,
                "images": image_rows(inspection, trained, wrong, names),
            },
            {
                "anchor": "unsure",
                "title": "Correct, but least confident",
                "text": "Images with the lowest probability of the true class first.",
                "images": image_rows(inspection, trained, unsure, names),
            },
        ],
        "maps": feature_maps(run, inspection, trained, names, chosen_device, t),
        "suspects": suspects_of(run, report),
        "predictions": predictions(inspection, names),
    }


def measured(run: RunFolder, inspection: gradcam.Inspection) -> dict[str, Any]:
    """What the run has measured for its eval.json."""
    logits, labels = inspection.logits, inspection.labels
    figures = metrics.figures(metrics.counts(logits, labels), inspection.class_names)
    return figures | ({"calibration": temperature.of_logits(logits, labels)} if run.settings.calibrate else {})


def tensor_names(trained: Model) -> list[str]:
    return [*trained.weights.backbone, *trained.weights.head] if trained.weights else []


def images_of(run: RunFolder) -> DatasetReport:
    """Check the run's images. Returns the report. Raises DatasetError unless the run was trained on these images."""
    config, data = run.settings, run.manifest["data"]
    report = report_of(config, data.get("skip_check", False))
    report.raise_errors()
    if report.fingerprint != data["fingerprint"]:
        raise DatasetError(
            f"The images in {config.train_data} and {config.val_data} are not those that the run was trained on.",
            expected=f"the data set with the fingerprint {data['fingerprint'][:12]}…",
            fix="restore the images",
        )
    return report


def cells(inspection: gradcam.Inspection, names: Sequence[str]) -> dict[tuple[int, int], dict[str, Any]]:
    """{(true, predicted): {n, images}}; images: jpeg, name, p of the predicted class. Most confident mistakes first."""
    if len(inspection.class_names) > CLASSES:
        return {}
    confidence = inspection.probabilities.max(axis=1)
    members_of: dict[tuple[int, int], list[int]] = {}
    for index in [*inspection.mistakes(), *inspection.unsure()]:  # mistakes first: the number of pictures is limited
        members_of.setdefault((int(inspection.labels[index]), int(inspection.predicted[index])), []).append(int(index))
    pictured = dict(list(members_of.items())[:PICTURES])
    most = max(1, min(SHOWN, PICTURES // max(1, len(pictured))))
    chosen = [index for members in pictured.values() for index in members[:most]]
    pictures = dict(zip(chosen, map(gradcam.data_uri, gradcam.thumbnails(inspection.images, chosen, 96)), strict=True))
    return {
        cell: {
            "n": len(members),
            "images": [{"jpeg": pictures[i], "name": names[i], "p": float(confidence[i])} for i in members[:most]],
        }
        for cell, members in pictured.items()
    }


def suspects_of(run: RunFolder, report: DatasetReport) -> list[dict[str, Any]]:
    """The first rows of RUN/suspects.csv, with thumbnails for the run's own images."""
    rows = suspects.load(run.path)[: 2 * SHOWN]
    for name in report.splits:
        images = sources.images_of(report, name)
        index_of = {"/".join(Path(file).parts[-2:]): index for index, file in enumerate(images.names())}
        tails = ["/".join(row["file"].split("/")[-2:]) for row in rows]  # the folder of a split may have another name
        own = [row for row, tail in zip(rows, tails, strict=True) if row["split"] == name and tail in index_of]
        index = [index_of["/".join(row["file"].split("/")[-2:])] for row in own]
        for row, thumbnail in zip(own, gradcam.thumbnails(images, index), strict=True):
            row["jpeg"] = gradcam.data_uri(thumbnail)
    return rows


def roc(inspection: gradcam.Inspection, t: Translate) -> list[dict[str, Any]]:
    """ROC and precision-recall curves of each class, or of the classes with the lowest average precision."""
    try:
        all_curves = {
            name: metrics.curves(inspection.probabilities, inspection.labels, i)
            for i, name in enumerate(inspection.class_names)
        }
    except MslabError as error:
        log.info(f"note: the report has no ROC curves and no map of the features: {error.what} Then: {error.fix}")
        return []
    rows = [curves | {"name": name} for name, curves in all_curves.items() if curves]
    rows = sorted(rows, key=lambda row: row["ap"])[:CURVES] if len(rows) > CURVES else rows
    for row in rows:
        row["roc_svg"] = charts.square_chart(row["fpr"], row["tpr"], f"ROC, AUC {row['auc']:.3f}", diagonal=True)
        text = f"{t('precision over recall')}, {row['ap']:.3f}"
        row["pr_svg"] = charts.square_chart(row["recall"][::-1], row["precision"][::-1], text, diagonal=False)
    return rows


def recall_costs(inspection: gradcam.Inspection, t: Translate) -> list[dict[str, Any]]:
    """What a higher recall of each class costs in false alarms, or of the classes for which it costs most."""
    rows: list[dict[str, Any]] = []
    for label, name in enumerate(inspection.class_names):
        if found := thresholds.costs(inspection.probabilities, inspection.labels, label):
            own = inspection.labels == label
            score = inspection.probabilities[:, label]
            limits = np.sort(score[own])[::-1]
            recall = np.arange(1, len(limits) + 1) / len(limits)
            alarms = np.searchsorted(np.sort(-score[~own]), -limits, side="right") / (~own).sum()
            svg = charts.square_chart(recall, alarms, t("false alarms over recall"), diagonal=False)
            rows.append({"name": name, "costs": found, "others": int((~own).sum()), "svg": svg})
    return sorted(rows, key=lambda row: row["costs"][-1]["precision"])[:CURVES] if len(rows) > CURVES else rows


def calibration(inspection: gradcam.Inspection, t: Translate) -> dict[str, Any]:
    """The result of metrics.calibration with its chart."""
    result = metrics.calibration(inspection.probabilities, inspection.labels)
    bins = [(row["low"], row["high"], row["accuracy"], row["images"]) for row in result["bins"]]
    tips = [f"{low:.1f}–{high:.1f}: {accuracy:.3f} ({n})" for low, high, accuracy, n in bins]
    title = t("accuracy over confidence")
    if inspection.temperature != 1:
        raw = metrics.calibration(metrics.probabilities(inspection.logits), inspection.labels)
        result |= {"temperature": inspection.temperature, "before": raw["ece"]}
    return result | {"svg": charts.reliability_chart(bins, title, t("confidence"), tips)}


def image_rows(
    inspection: gradcam.Inspection, trained: Model, index: np.ndarray, names: Sequence[str]
) -> list[dict[str, Any]]:
    """Per image of `index`: original, network input, heat maps of the predicted and the true class, top classes."""
    if not len(index):
        return []
    originals = gradcam.thumbnails(inspection.images, index)
    x = gradcam.network_input(trained.info, inspection.images, index)
    pixels = gradcam.as_pixels(trained.info, x)
    classes = np.concatenate([inspection.predicted[index], inspection.labels[index]])
    heat = np.split(gradcam.heat_maps(trained, np.concatenate([x, x]), classes), 2) if trained.heat_map else None
    rows = []
    for row, i in enumerate(index):
        predicted, true = int(inspection.predicted[i]), int(inspection.labels[i])
        maps = [(predicted, heat[0][row])] if heat else []
        maps += [(true, heat[1][row])] if heat and true != predicted else []
        top = np.argsort(-inspection.probabilities[i], kind="stable")[:3]
        rows.append(
            {
                "original": gradcam.data_uri(originals[row]),
                "input": gradcam.data_uri(Image.fromarray(pixels[row])),
                "maps": [
                    {"name": inspection.class_names[c], "jpeg": gradcam.data_uri(gradcam.overlay(pixels[row], h))}
                    for c, h in maps
                ],
                "name": names[i],
                "true": inspection.class_names[true],
                "predicted": inspection.class_names[predicted],
                "top": [(inspection.class_names[c], float(inspection.probabilities[i, c])) for c in top],
            }
        )
    return rows


def feature_maps(
    run: RunFolder,
    inspection: gradcam.Inspection,
    trained: Model,
    names: Sequence[str],
    device: str,
    t: Translate,
) -> dict[str, Any]:
    """The images' features in two dimensions: of the trained network, and of the backbone it started from."""
    chosen = np.unique(np.linspace(0, len(names) - 1, min(MAPPED, len(names))).round().astype(int))
    images = inspection.images.take(chosen)
    features_of = [("after training", inspection.features[chosen])]
    note = "" if len(chosen) == len(names) else "Not all images are drawn."
    if run.manifest["parent"]:
        all_names = tensor_names(trained)
        if freezing.is_frozen_throughout(all_names, run.settings):
            note = "The backbone was frozen: its features are the same before and after transfer."
        elif before := before_transfer(run.manifest["parent"], trained, device):
            features_of.insert(0, ("before transfer", gradcam.inspect(before, images).features))
        else:
            note = "Features before transfer are missing: the parent's file is gone, or only part of it was loaded."
    tips = [f"{names[i]}: {inspection.class_names[inspection.predicted[i]]}" for i in chosen]
    styles = images.labels.tolist()
    rows = []
    for title, features in features_of:
        try:
            points, method = project(features)
            pure = purity(features, images.labels)
        except MslabError as error:  # roc() has said it, too
            return {"charts": [], "method": "", "note": error.what}
        rows.append({"title": title, "svg": charts.scatter(points, styles, tips, t(title)), "purity": pure})
    return {"charts": rows, "method": method, "note": note}


def before_transfer(parent: Mapping[str, Any], trained: Model, device: str) -> Model | None:
    """The parent's backbone with the run's head. None if the parent's file is missing, changed or partly loaded."""
    file = Path(parent["file"])
    if parent.get("only") or not file.is_file() or files.sha256(file) != parent["sha256"] or not trained.weights:
        return None
    weights = checkpoint.read(file, finetuning.choice_of(parent))
    info = trained.info | {"class_names": trained.class_names} | weights.network.record()
    before = replace(weights, info=info, head=trained.weights.head)
    before.check()
    return models.of_weights(before, device, trained.runner.engine)


def project(features: np.ndarray) -> tuple[np.ndarray, str]:
    """Features float (n, C) -> (points float (n, 2), method): t-SNE (van der Maaten & Hinton 2008); PCA if n < 30."""
    with metrics.scikit_learn():
        from sklearn.decomposition import PCA
        from sklearn.manifold import TSNE

    count = len(features)
    reduced = PCA(min(50, *features.shape), random_state=0).fit_transform(features.astype(np.float64))
    if count < 30:
        return np.pad(reduced, ((0, 0), (0, max(0, 2 - reduced.shape[1]))))[:, :2], "PCA"
    return TSNE(2, perplexity=min(30, (count - 1) / 3), init="pca", random_state=0).fit_transform(reduced), "t-SNE"


def purity(features: np.ndarray, labels: np.ndarray) -> float:
    """Fraction of the images whose nearest neighbour, in all dimensions, has the same class."""
    with metrics.scikit_learn():
        from sklearn.neighbors import NearestNeighbors

    if len(labels) < 2:
        return 1.0
    _, near = NearestNeighbors(n_neighbors=2).fit(features).kneighbors()
    return float((labels[near[:, 0]] == labels).mean())


def predictions(inspection: gradcam.Inspection, names: Sequence[str]) -> list[dict[str, Any]]:
    """For the page's JSON: file, label, predicted, and the probability of every class, or of many only the highest."""
    complete = inspection.probabilities.size <= PREDICTED
    values = inspection.probabilities if complete else inspection.probabilities.max(axis=1, keepdims=True)
    rows = zip(names, inspection.labels.tolist(), inspection.predicted.tolist(), values.tolist(), strict=True)
    return [
        {"file": name, "label": label, "predicted": predicted, "probabilities": [round(p, 5) for p in row]}
        for name, label, predicted, row in rows
    ]
