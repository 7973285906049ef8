"""Pairs of submissions that are equal or nearly so, with the evidence. For the teacher to look at; never scored.

What everybody was given is no copy: tensors of the given backbone do not count, and of networks that began from it only
what training added is compared. Equal settings and an equal seed give equal bytes on one kind of machine, honestly.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

NEAR = 0.1  # relative distance of weights; trained apart from one seed they are further apart, from two about 1.4
ALIKE = 0.999  # correlation of logits on the hidden images; of networks trained apart it is seldom above 0.95
MISTAKES = 5  # equal wrong rows of predictions.csv that are evidence
BEGUN = 0.5  # cosine to the given backbone from which on a network began from it


@dataclass(frozen=True)
class Traces:
    """What of a submission is compared."""

    id: str
    facts: Mapping[str, Any]
    logits: Mapping[str, np.ndarray] = field(default_factory=dict)
    sketches: Mapping[str, np.ndarray] = field(default_factory=dict)
    last_year: bool = False


@dataclass(frozen=True)
class Given:
    """The backbone that everybody was given: its tensors' hashes and its sketch."""

    tensors: frozenset[str] = frozenset()
    sketch: np.ndarray | None = None


def pairs(traces: Sequence[Traces], given: Given, right: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
    """Rows of a, b, kind, evidence, likeness (1 = equal), last_year; the most alike first.

    `right`: of each predictions file, {image: its class}; where two agree with it no trace of a copy is left.
    """
    found: list[dict[str, Any]] = []
    for rows in (weights(traces, given), answers(traces), histories(traces), tables(traces, right)):
        for one, other, kind, likeness, evidence in rows:
            if one.last_year and other.last_year:
                continue
            a, b = sorted((one, other), key=lambda each: (each.last_year, each.id))
            found.append({"a": a.id, "b": b.id, "kind": kind, "evidence": evidence, "likeness": round(likeness, 4)})
            found[-1]["last_year"] = b.last_year
    return sorted(found, key=lambda row: (-row["likeness"], row["kind"], row["a"], row["b"], row["evidence"]))


Row = tuple[Traces, Traces, str, float, str]


def networks(traces: Sequence[Traces]) -> dict[str, list[Traces]]:
    """The submissions that have a readable network of each name."""
    found: dict[str, list[Traces]] = {}
    for each in traces:
        for name, network in each.facts.get("networks", {}).items():
            if "error" not in network or each.sketches.get(name) is not None:
                found.setdefault(name, []).append(each)
    return found


def weights(traces: Sequence[Traces], given: Given) -> Iterator[Row]:
    """Networks whose tensors are equal, or near each other for networks that were trained apart."""
    for name, members in networks(traces).items():
        # by place: last year's submission may have the same id
        own = [own_tensors(each.facts["networks"][name], given) for each in members]
        vectors = [trained(each, name, given) for each in members]
        for (i, one), (j, other) in combinations(enumerate(members), 2):
            a, b = own[i], own[j]
            shared = sum(a[key] == b.get(key) for key in a)
            if shared and shared == len(a) == len(b):
                yield one, other, "weights", 1.0, f"{name}: all {shared} tensors that were not given are equal"
                continue
            backbone = {key for key in a if not key.startswith(("classifier", "hidden"))}
            same = sum(a[key] == b.get(key) for key in backbone)
            if same and same == len(backbone):
                yield one, other, "backbone", 1.0, f"{name}: all {same} tensors of the backbone are equal"
                continue
            x, y = vectors[i], vectors[j]
            names = [set(each.facts["networks"][name]["tensors"]) for each in (one, other)]
            if x is None or y is None or names[0] != names[1]:
                continue
            size = (np.linalg.norm(x) + np.linalg.norm(y)) / 2
            away = float(np.linalg.norm(x - y) / size) if size > 0 else 9.0
            if away < NEAR:
                text = f"{name}: the trained weights are {away:.3f} of their length apart"
                yield one, other, "weights", 1 - away, text


def own_tensors(network: Mapping[str, Any], given: Given) -> dict[str, str]:
    return {key: value for key, value in network.get("tensors", {}).items() if value not in given.tensors}


def trained(each: Traces, name: str, given: Given) -> np.ndarray | None:
    """The sketch of the weights; of a network that began from the given backbone, of what training added."""
    sketch = each.sketches.get(name)
    if sketch is None:
        return None
    sketch = sketch.astype(np.float64)  # weights of 1e30 have squares, too
    if given.sketch is None:
        return sketch
    cosine = float(sketch @ given.sketch / max(np.linalg.norm(sketch) * np.linalg.norm(given.sketch), 1e-12))
    return sketch - given.sketch if cosine >= BEGUN else sketch


def answers(traces: Sequence[Traces]) -> Iterator[Row]:
    """Networks that answer alike, whatever their weights look like."""
    for name, members in networks(traces).items():
        shapes: dict[tuple[int, ...], list[Traces]] = {}
        for each in members:
            if each.logits.get(name) is not None:
                shapes.setdefault(each.logits[name].shape, []).append(each)
        for group in shapes.values():
            rows = np.stack([each.logits[name].ravel().astype(np.float64) for each in group])
            rows -= rows.mean(axis=1, keepdims=True)
            rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
            likeness = rows @ rows.T
            for i, j in zip(*np.where(np.triu(likeness > ALIKE, 1)), strict=True):
                text = f"{name}: answers on the hidden images correlate by {likeness[i, j]:.5f}"
                yield group[i], group[j], "answers", float(min(likeness[i, j], 1.0)), text


def histories(traces: Sequence[Traces]) -> Iterator[Row]:
    """Histories with the same figures in every epoch; seconds and images/s are left out."""
    seen: dict[str, dict[int, tuple[Traces, str, int]]] = {}  # by digest and place: one row of many copies in one
    for place, each in enumerate(traces):
        for name, history in each.facts.get("histories", {}).items():
            if "error" not in history and history["rows"]:
                seen.setdefault(history["digest"], {}).setdefault(place, (each, name, history["rows"]))
    for members in seen.values():
        for (one, name, count), (other, _, _) in combinations(members.values(), 2):
            yield one, other, "history", 1.0, f"{name}: the same figures in all {count} epochs"


def tables(traces: Sequence[Traces], right: Mapping[str, Mapping[str, str]]) -> Iterator[Row]:
    """Predictions with the same mistakes."""
    for name, truth in right.items():
        wrong: list[tuple[Traces, frozenset[tuple[str, str]]]] = []
        for each in traces:
            rows = each.facts.get("predictions", {}).get(name, {}).get("rows", {})
            by_name = {file.replace("\\", "/").rpartition("/")[2]: answer for file, answer in rows.items()}
            mistakes = {(file, answer) for file, answer in by_name.items() if truth.get(file, answer) != answer}
            wrong.append((each, frozenset(mistakes)))
        for (one, a), (other, b) in combinations(wrong, 2):
            both, either = len(a & b), len(a | b)
            if both >= MISTAKES and both >= 0.95 * either:
                text = f"{name}: {both} equal mistakes, {either - both} that differ"
                yield one, other, "predictions", both / either, text
