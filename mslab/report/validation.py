"""What a run's network makes of its validation images: mistakes, heat maps, ROC, calibration, a map of the features."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mslab import checkpoint, model
from mslab.check import DatasetReport
from mslab.check.training_data import report_of
from mslab.data import sources
from mslab.errors import DatasetError
from mslab.evaluation import gradcam, measuring, metrics
from mslab.report import charts, suspects
from mslab.runs.folder import RunFolder
from mslab.runtime import devices
from mslab.training import freezing

SHOWN = 12  # mistakes, and right answers, that are pictured
PICTURES = 360  # thumbnails in all cells of the confusion matrix; about 3 kB each
CLASSES = 40  # up to so many the matrix is a table
CURVES = 24  # classes whose ROC is drawn
MAPPED = 1200  # images on the map of the features
PREDICTED = 200_000  # probabilities in the page's JSON
Translate = Callable[[str], str]


def look(run: RunFolder, t: Translate, device: str) -> dict[str, Any]:
    """Everything that needs the validation images and best.ckpt. Raises MslabError where they are not as they were."""
    report = images_of(run)
    taken = devices.start(device, "graph", seed=0)
    loaded = measuring.load_network(run.path)
    seen = gradcam.inspect(loaded, sources.images_of(report, "val"), taken)
    names = ["/".join(Path(name).parts[-2:]) for name in seen.images.names()]
    heat = gradcam.HeatMap(loaded.network)  # once, so that it is compiled once
    wrong, unsure = seen.mistakes()[:SHOWN], seen.unsure()[:SHOWN]
    return {
        "findings": report.findings,
        "tensors": [parameter.name for parameter in loaded.network.get_parameters()],
        "cells": cells(seen, names),
        "roc": roc(seen, t),
        "calibration": calibration(seen, t),
        "groups": [
            {
                "anchor": "mistakes",
                "title": "The surest mistakes",
                "text": "Wrong with the highest probability first. Heat maps (Grad-CAM) show where the network saw "
                "what spoke for a class: bright is much.",
                "images": pictured(seen, heat, loaded.info, wrong, names),
            },
            {
                "anchor": "unsure",
                "title": "Right, but least certain",
                "text": "The lowest probability of the true class first.",
                "images": pictured(seen, heat, loaded.info, unsure, names),
            },
        ],
        "maps": feature_maps(run, seen, loaded, names, taken, t),
        "suspects": suspicious(run, report),
        "predictions": predictions(seen, names),
    }


def images_of(run: RunFolder) -> DatasetReport:
    """The report of the run's images. Raises DatasetError where they are not those that it was trained on."""
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


def cells(seen: gradcam.Inspection, names: Sequence[str]) -> dict[tuple[int, int], dict[str, Any]]:
    """(true, taken for) -> n and images: jpeg, name, p of the class it was taken for. The surest mistakes first."""
    if len(seen.class_names) > CLASSES:
        return {}
    sure = seen.probabilities.max(axis=1)
    places: dict[tuple[int, int], list[int]] = {}
    for index in [*seen.mistakes(), *seen.unsure()]:  # mistakes first: they have the first claim on the room
        places.setdefault((int(seen.labels[index]), int(seen.predicted[index])), []).append(int(index))
    kept = dict(list(places.items())[:PICTURES])
    each = max(1, min(SHOWN, PICTURES // max(1, len(kept))))
    chosen = [index for members in kept.values() for index in members[:each]]
    pictures = dict(zip(chosen, map(gradcam.data_uri, gradcam.thumbnails(seen.images, chosen, 96)), strict=True))
    return {
        place: {
            "n": len(members),
            "images": [{"jpeg": pictures[i], "name": names[i], "p": float(sure[i])} for i in members[:each]],
        }
        for place, members in kept.items()
    }


def suspicious(run: RunFolder, report: DatasetReport) -> list[dict[str, Any]]:
    """The first rows of RUN/suspects.csv, with thumbnails where they are of the run's images."""
    rows = suspects.load(run.path)[: 2 * SHOWN]
    for name in report.splits:
        images = sources.images_of(report, name)
        place = {"/".join(Path(file).parts[-2:]): index for index, file in enumerate(images.names())}
        own = [row for row in rows if row["split"] == name and row["file"].removeprefix(f"{name}/") in place]
        index = [place[row["file"].removeprefix(f"{name}/")] for row in own]
        for row, thumbnail in zip(own, gradcam.thumbnails(images, index), strict=True):
            row["jpeg"] = gradcam.data_uri(thumbnail)
    return rows


def roc(seen: gradcam.Inspection, t: Translate) -> list[dict[str, Any]]:
    """ROC and precision-recall of each class; of many, of those with the lowest average precision."""
    found = {name: metrics.curves(seen.probabilities, seen.labels, i) for i, name in enumerate(seen.class_names)}
    rows = [curves | {"name": name} for name, curves in found.items() if curves]
    rows = sorted(rows, key=lambda row: row["ap"])[:CURVES] if len(rows) > CURVES else rows
    for row in rows:
        row["roc_svg"] = charts.square_chart(row["fpr"], row["tpr"], f"ROC, AUC {row['auc']:.3f}", diagonal=True)
        text = f"{t('precision over recall')}, {row['ap']:.3f}"
        row["pr_svg"] = charts.square_chart(row["recall"][::-1], row["precision"][::-1], text, diagonal=False)
    return rows


def calibration(seen: gradcam.Inspection, t: Translate) -> dict[str, Any]:
    """metrics.calibration with its picture."""
    found = metrics.calibration(seen.probabilities, seen.labels)
    bins = [(row["low"], row["high"], row["accuracy"], row["images"]) for row in found["bins"]]
    tips = [f"{low:.1f}–{high:.1f}: {accuracy:.3f} ({n})" for low, high, accuracy, n in bins]
    title = t("accuracy over certainty")
    return found | {"svg": charts.reliability_chart(bins, title, t("certainty"), tips)}


def pictured(
    seen: gradcam.Inspection, network: gradcam.HeatMap, info: dict[str, Any], index: np.ndarray, names: Sequence[str]
) -> list[dict[str, Any]]:
    """The image, what the network saw of it, and heat maps: for the class it was taken for, and for the true one."""
    if not len(index):
        return []
    originals = gradcam.thumbnails(seen.images, index)
    x = gradcam.network_input(info, seen.images, index)
    pixels = gradcam.as_pixels(info, x)
    heat = [gradcam.heat_maps(network, x, asked[index]) for asked in (seen.predicted, seen.labels)]
    rows = []
    for row, i in enumerate(index):
        taken, true = int(seen.predicted[i]), int(seen.labels[i])
        maps = [(taken, heat[0][row])] + ([(true, heat[1][row])] if true != taken else [])
        top = np.argsort(-seen.probabilities[i], kind="stable")[:3]
        rows.append(
            {
                "original": gradcam.data_uri(originals[row]),
                "seen": gradcam.data_uri(Image.fromarray(pixels[row])),
                "maps": [
                    {"name": seen.class_names[c], "jpeg": gradcam.data_uri(gradcam.overlay(pixels[row], h))}
                    for c, h in maps
                ],
                "name": names[i],
                "true": seen.class_names[true],
                "taken": seen.class_names[taken],
                "top": [(seen.class_names[c], float(seen.probabilities[i, c])) for c in top],
            }
        )
    return rows


def feature_maps(
    run: RunFolder,
    seen: gradcam.Inspection,
    loaded: measuring.Loaded,
    names: Sequence[str],
    device: str,
    t: Translate,
) -> dict[str, Any]:
    """The features of the images in two dimensions: of the trained network, and of the backbone that it began from."""
    chosen = np.unique(np.linspace(0, len(names) - 1, min(MAPPED, len(names))).round().astype(int))
    images = seen.images.take(chosen)
    found = [("after training", seen.features[chosen])]
    note = "" if len(chosen) == len(names) else "Not all images are drawn."
    if run.manifest["parent"]:
        all_names = [parameter.name for parameter in loaded.network.get_parameters()]
        if freezing.is_frozen_throughout(all_names, run.settings):
            note = "The backbone was frozen: before and after transfer its features are the same."
        elif before := before_transfer(run.manifest["parent"], loaded):
            found.insert(0, ("before transfer", gradcam.inspect(before, images, device).features))
        else:
            note = "What the run began from is not shown: its file is not there any more, or only part of it was taken."
    tips = [f"{names[i]}: {seen.class_names[seen.predicted[i]]}" for i in chosen]
    styles = images.labels.tolist()
    rows = []
    for title, features in found:
        points, method = flattened(features)
        svg = charts.scatter(points, styles, tips, t(title))
        rows.append({"title": title, "svg": svg, "purity": purity(features, images.labels)})
    return {"charts": rows, "method": method, "note": note}


def before_transfer(parent: Mapping[str, Any], loaded: measuring.Loaded) -> measuring.Loaded | None:
    """The network as it began: the parent's backbone under the run's head. None where that file is not there."""
    file = Path(parent["file"])
    if parent.get("only") or not file.is_file() or checkpoint.sha256(file) != parent["sha256"]:
        return None
    weights = checkpoint.read(file)
    backbone = model.resnet50_backbone(weights.stages, weights.profile)
    checkpoint.load_exactly(backbone.parameters_dict(), weights.backbone, weights.path, "backbone")
    network = model.ResNet50(backbone, loaded.network.head)
    network.set_train(False)
    return measuring.Loaded(network, loaded.class_names, loaded.info, file)


def flattened(features: np.ndarray) -> tuple[np.ndarray, str]:
    """Features float (n, C) -> places float (n, 2), by t-SNE (van der Maaten & Hinton 2008) or, of few, PCA; which."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    count = len(features)
    reduced = PCA(min(50, *features.shape), random_state=0).fit_transform(features.astype(np.float64))
    if count < 30:
        return np.pad(reduced, ((0, 0), (0, max(0, 2 - reduced.shape[1]))))[:, :2], "PCA"
    return TSNE(2, perplexity=min(30, (count - 1) / 3), init="pca", random_state=0).fit_transform(reduced), "t-SNE"


def purity(features: np.ndarray, labels: np.ndarray) -> float:
    """Share of the images whose nearest neighbour in all dimensions is of their class."""
    from sklearn.neighbors import NearestNeighbors

    if len(labels) < 2:
        return 1.0
    _, near = NearestNeighbors(n_neighbors=2).fit(features).kneighbors()
    return float((labels[near[:, 0]] == labels).mean())


def predictions(seen: gradcam.Inspection, names: Sequence[str]) -> list[dict[str, Any]]:
    """For the page's JSON: file, label, predicted, and every class's probability where there is room for them."""
    every = seen.probabilities.size <= PREDICTED
    shares = seen.probabilities if every else seen.probabilities.max(axis=1, keepdims=True)
    rows = zip(names, seen.labels.tolist(), seen.predicted.tolist(), shares.tolist(), strict=True)
    return [
        {"file": name, "label": label, "predicted": predicted, "probabilities": [round(p, 5) for p in row]}
        for name, label, predicted, row in rows
    ]
