"""Answers with thresholds, for whoever must not miss a class, or must not answer one lightly.

The rule: of the classes whose probability reaches their threshold, the most probable is answered. If none does, the
most probable of the classes without a threshold; if every class has one, the most probable of all.
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mslab.config.correcting import number
from mslab.errors import ConfigError
from mslab.escaping import quoted
from mslab.evaluation import metrics

RULE = "a class that reaches its threshold is answered, of several the most probable; else one without a threshold"
EXAMPLE = (
    "CLASS=NUMBER, such as poisonous=0.2: a class of the network, and a probability from 0 to 1, once for each class"
)
RECALLS = (0.9, 0.95, 0.99, 1.0)  # of which the report says what they cost


def parse(texts: Sequence[str], class_names: Sequence[str]) -> dict[str, float]:
    """{class: threshold} of CLASS=NUMBER texts. Raises ConfigError that names every problem."""
    # parse(["poisonous=0.2"], ["edible", "poisonous"]) -> {"poisonous": 0.2}
    values: dict[str, float] = {}
    corrected: dict[str, float] = {}
    problems = []
    for text in texts:
        name, _, written = text.rpartition("=")  # a class name may contain =
        value, wrong = number_of(written)
        meant = name if name in class_names else near(name, class_names)
        if not name:
            problems.append((text, "is not CLASS=NUMBER"))
            name, meant = text, near(text, class_names)
        elif not meant or meant != name:
            like = f"; did you mean {meant!r}?" if meant else ""
            problems.append((text, f"{name!r} is no class of the network{like}"))
        elif name in values:
            problems.append((text, f"{name!r} has a threshold already: {values[name]:g}"))
        if wrong:
            problems.append((text, wrong))
        values.setdefault(name, value)
        corrected.setdefault(meant or next(iter(class_names), "CLASS"), value if math.isfinite(value) else 0.5)
    if problems:
        raise ConfigError(
            f"--threshold has {len(problems)} problem{'s' * (len(problems) > 1)}.",
            details=problems,
            expected=f"{EXAMPLE}; the classes are {', '.join(class_names[:20])}{', …' * (len(class_names) > 20)}",
            fix=" ".join(f"--threshold {quoted(f'{name}={value:g}')}" for name, value in corrected.items()),
        )
    return values


def near(name: str, class_names: Sequence[str]) -> str:
    """The class that a misspelt name means; "" if none is like it."""
    names = {known.strip().casefold(): known for known in class_names}
    return next((names[key] for key in difflib.get_close_matches(name.strip().casefold(), names, 1, 0.6)), "")


def number_of(text: str) -> tuple[float, str]:
    """(the probability, "") or (a likely one or NaN, what is wrong with the text)."""
    # number_of("0.2") -> (0.2, ""); number_of("20%") -> (0.2, "'20%' is no number from 0 to 1; write 0.2")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if 0 <= value <= 1:
        return value, ""
    found = number(text.strip().removesuffix("%"))
    likely = float(found) / (100 if found >= 2 or text.strip().endswith("%") else 1) if found is not None else math.nan
    likely = likely if 0 <= likely <= 1 else math.nan
    better = f"; write {likely:g}" if math.isfinite(likely) else ""
    return likely, f"{text!r} is no number from 0 to 1{better}"


def decide(probabilities: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """The class of each image by the rule, int (n,). probabilities (n, C); limits (C,), NaN without a threshold."""
    # decide([[0.7, 0.3], [0.9, 0.1]], [nan, 0.2]) -> [1, 0]
    passed = probabilities >= np.where(np.isnan(limits), np.inf, limits)
    free = np.isnan(limits) if np.isnan(limits).any() else np.ones(len(limits), bool)
    allowed = np.where(passed.any(axis=1, keepdims=True), passed, free)
    return np.where(allowed, probabilities, -1).argmax(axis=1)


class Thresholds:
    """Counts a network's answers by the rule, batch by batch."""

    def __init__(self, values: Mapping[str, float], class_names: Sequence[str], temperature: float) -> None:
        self.values, self.class_names, self.temperature = values, class_names, temperature
        self.limits = np.array([values.get(name, math.nan) for name in class_names])
        self.matrix = np.zeros((len(class_names),) * 2, int)
        self.changed = 0  # answers that are others than the most probable class

    def add(self, logits: np.ndarray, labels: np.ndarray) -> None:
        probabilities = metrics.probabilities(logits, self.temperature)
        decided = decide(probabilities, self.limits)
        self.changed += int((decided != probabilities.argmax(axis=1)).sum())
        self.matrix += metrics.confusion(labels, decided, len(self.class_names))

    def figures(self) -> dict[str, Any]:
        """values, rule, changed, and accuracy, per_class and confusion under the rule."""
        found = metrics.figures(np.array([*self.matrix.ravel(), 0, 0], float), self.class_names)
        measured = {key: found[key] for key in ("accuracy", "per_class", "confusion")}
        return {"values": dict(self.values), "rule": RULE, "changed": self.changed} | measured


def costs(probabilities: np.ndarray, labels: np.ndarray, label: int) -> list[dict[str, float]]:
    """What a recall of a class costs: a row of recall, threshold, precision, false_alarms for each of RECALLS.

    With a threshold for this class alone. [] if it has no image, or every image. probabilities (n, C), labels (n,)
    """
    score, own = probabilities[:, label], labels == label
    if own.all() or not own.any():
        return []
    ranked = np.sort(score[own])[::-1]
    limits = [rounded_down(float(ranked[math.ceil(recall * len(ranked) - 1e-9) - 1])) for recall in RECALLS]
    rows = []
    for limit in dict.fromkeys(limits):
        passed = score >= limit
        hits, alarms = int((passed & own).sum()), int((passed & ~own).sum())
        row = {"recall": hits / int(own.sum()), "threshold": limit, "precision": hits / (hits + alarms)}
        rows.append(row | {"false_alarms": alarms})
    return rows


def rounded_down(value: float) -> float:
    """The number with three significant digits that is not above the value: what reached the value reaches it, too."""
    # rounded_down(0.98765) -> 0.987
    if value < 1e-300:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(value)) - 2)
    lower = float(f"{math.floor(value / step) * step:.3g}")
    return lower if lower <= value else float(f"{lower - step:.3g}")
