"""Temperature scaling (Guo et al. 2017): one number T, by which logits are divided before the softmax.

It is fitted on the validation images (calibrate: true), so that of the images with probability 0.8 four in five are
right. It changes no order of the classes, and so no prediction. T above 1 makes an overconfident network less certain.

`add` sums numbers over the workers of a run: runtime.workers.Group.sum.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mslab.evaluation import metrics

Add = Callable[[Sequence[float]], np.ndarray]
LOWEST, HIGHEST = 0.01, 100.0  # of an entry, too; beyond them the outputs say next to nothing, or anything
FEWEST = 10  # images; from fewer no temperature is fitted
HALVINGS = 40  # of the interval of log T
BINS = 10  # of the expected calibration error, as in the report


def of(info: dict[str, Any]) -> float:
    """The temperature in a checkpoint's entry; 1, which changes nothing, in one without."""
    return float(info.get("temperature", 1.0))


def slope(logits: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    """Derivative of the summed cross-entropy by 1/T, which rises in 1/T. logits float (n, C), labels int (n,)."""
    if not len(labels):
        return 0.0
    expected = (metrics.probabilities(logits, temperature) * logits).sum(axis=1)
    return float((expected - logits[np.arange(len(labels)), labels]).sum())


def fit(logits: np.ndarray, labels: np.ndarray, add: Add = np.asarray) -> tuple[float, str]:
    """(T of the least cross-entropy on these images and those of the other workers, ""); else (1.0, why not).

    logits float (n, C), labels int (n,). The cross-entropy is convex in 1/T: its slope is bisected.
    """
    # fit([[2, 0]] * 75 + [[0, 2]] * 25, [0] * 100) -> (1.82, ""): 2 / ln 3
    logits = logits.astype(np.float64)
    bad = (~np.isfinite(logits)).sum()
    wrong = (logits.argmax(axis=1) != labels).sum() if logits.size else 0
    images, mistakes, infinite = add([len(labels), wrong, bad])
    if infinite:
        return 1.0, "the network's outputs are not finite"
    if images < FEWEST:
        return 1.0, f"{images:.0f} validation images are too few: {FEWEST} or more are needed"
    if not mistakes:
        return 1.0, "every validation image is classified correctly, so any certainty would be right"

    def slope_at(temperature: float) -> float:
        return float(add([slope(logits, labels, temperature)])[0])

    if slope_at(HIGHEST) >= 0:
        return 1.0, f"the best one would be above {HIGHEST:g}: the outputs say nothing about the class"
    if slope_at(LOWEST) <= 0:
        return 1.0, f"the best one would be below {LOWEST:g}"
    low, high = math.log(LOWEST), math.log(HIGHEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope_at(math.exp(middle)) > 0 else (low, middle)
    return float(f"{math.exp(high):.6g}"), ""


def gaps(logits: np.ndarray, labels: np.ndarray, temperature: float) -> np.ndarray:
    """Per bin of confidence, the sum of hit minus confidence over its images: additive over workers. float (BINS,)"""
    total = np.zeros(BINS)
    if len(labels):
        probabilities = metrics.probabilities(logits, temperature)
        confidence, hits = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
        np.add.at(total, np.minimum((confidence * BINS).astype(int), BINS - 1), hits - confidence)
    return total


class Calibration:
    """Collects logits and labels while a network is measured, and says how well its probabilities hold."""

    def __init__(self) -> None:
        self.rows: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, logits: np.ndarray, labels: np.ndarray) -> None:
        self.rows.append((np.array(logits), np.array(labels)))

    def figures(self, known: float | None = None, add: Add = np.asarray) -> dict[str, Any]:
        """temperature (`known`, else fitted here), ece at 1, ece_calibrated at that one, note: why none was fitted."""
        columns = zip(*self.rows, strict=True) if self.rows else (np.zeros((0, 1)), np.zeros(0, int))
        logits, labels = (np.concatenate(column) if isinstance(column, tuple) else column for column in columns)
        value, note = fit(logits, labels, add) if known is None else (known, "")
        images, *sums = add([len(labels), *gaps(logits, labels, 1.0), *gaps(logits, labels, value)])
        before, after = (float(np.abs(part).sum() / images) for part in (sums[:BINS], sums[BINS:]))
        result = {"temperature": value, "ece": before, "ece_calibrated": after}
        return result | ({"note": note} if note else {})


def of_logits(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """The same for all images at once."""
    calibration = Calibration()
    calibration.add(logits, labels)
    return calibration.figures()


def text(figures: dict[str, Any]) -> str:
    """The result of Calibration.figures in a sentence."""
    if "note" in figures:
        return f"no temperature was fitted, probabilities stay as they are: {figures['note']}"
    before, after = figures["ece"], figures["ece_calibrated"]
    return (
        f"temperature {figures['temperature']:.3g}: expected calibration error {before:.3f} before, {after:.3f} with it"
    )
