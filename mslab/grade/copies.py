"""Find pairs of submissions that are equal or nearly equal, with evidence for the teacher. Pairs are never scored.

Work that every student received does not count as a copy: tensors of the given backbone are ignored, and for networks
trained from it only the change is compared. Honest runs with equal settings and seeds can be equal byte by byte.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from mslab.checkpoint.sharing import HEADS

NEAR = 0.1  # relative distance of weights; separate runs from one seed are further apart, from two seeds about 1.4
ALIKE = 0.999  # correlation of logits on the hidden images; for separately trained networks seldom above 0.95
MISTAKES = 5  # equal wrong rows of predictions.csv, at least
DERIVED = 0.5  # cosine to the given backbone; from here on the network was trained from it


@dataclass(frozen=True)
class Traces:
    """The parts of a submission that are compared."""

    id: str
    facts: Mapping[str, Any]
    logits: Mapping[str, np.ndarray] = field(default_factory=dict)
    sketches: Mapping[str, np.ndarray] = field(default_factory=dict)
    last_year: bool = False


@dataclass(frozen=True)
class GivenBackbone:
    """The backbone that every student received: hashes of its tensors, and its sketch."""

    tensors: frozenset[str] = frozenset()
    sketch: np.ndarray | None = None


def pairs(
    traces: Sequence[Traces], given_backbone: GivenBackbone, truth: Mapping[str, Mapping[str, str]]
) -> list[dict[str, Any]]:
    """Rows of a, b, kind, evidence, likeness (1 = equal), last_year; highest likeness first.

    `truth`: for each predictions file {image: true class}; predictions that agree with it are no evidence.
    """
    pair_rows: list[dict[str, Any]] = []
    for rows in (weights(traces, given_backbone), answers(traces), histories(traces), prediction_tables(traces, truth)):
        for first, second, kind, likeness, evidence in rows:
            if first.last_year and second.last_year:
                continue
            a, b = sorted((first, second), key=lambda submission: (submission.last_year, submission.id))
            pair_rows.append({"a": a.id, "b": b.id, "kind": kind, "evidence": evidence, "likeness": round(likeness, 4)})
            pair_rows[-1]["last_year"] = b.last_year
    return sorted(pair_rows, key=lambda row: (-row["likeness"], row["kind"], row["a"], row["b"], row["evidence"]))


Row = tuple[Traces, Traces, str, float, str]


def networks(traces: Sequence[Traces]) -> dict[str, list[Traces]]:
    """For each network name, the submissions that have a readable network of that name."""
    by_name: dict[str, list[Traces]] = {}
    for submission in traces:
        for name, network in submission.facts.get("networks", {}).items():
            if "error" not in network or submission.sketches.get(name) is not None:
                by_name.setdefault(name, []).append(submission)
    return by_name


def weights(traces: Sequence[Traces], given_backbone: GivenBackbone) -> Iterator[Row]:
    """Networks with equal tensors, or with weights nearer than those of separately trained networks."""
    for name, members in networks(traces).items():
        # by index: last year's submission may have the same id
        tensors = [own_tensors(submission.facts["networks"][name], given_backbone) for submission in members]
        vectors = [training_sketch(submission, name, given_backbone) for submission in members]
        for (i, first), (j, second) in combinations(enumerate(members), 2):
            a, b = tensors[i], tensors[j]
            shared = sum(a[key] == b.get(key) for key in a)
            if shared and shared == len(a) == len(b):
                yield first, second, "weights", 1.0, f"{name}: all {shared} tensors besides the given ones are equal"
                continue
            backbone_keys = {key for key in a if not key.startswith(HEADS)}
            same = sum(a[key] == b.get(key) for key in backbone_keys)
            if same and same == len(backbone_keys):
                yield first, second, "backbone", 1.0, f"{name}: all {same} tensors of the backbone are equal"
                continue
            x, y = vectors[i], vectors[j]
            names = [set(submission.facts["networks"][name]["tensors"]) for submission in (first, second)]
            if x is None or y is None or names[0] != names[1]:
                continue
            size = (np.linalg.norm(x) + np.linalg.norm(y)) / 2
            distance = float(np.linalg.norm(x - y) / size) if size > 0 else 9.0
            if distance < NEAR:
                text = f"{name}: the distance between the trained weights is {distance:.3f} of their length"
                yield first, second, "weights", 1 - distance, text


def own_tensors(network: Mapping[str, Any], given_backbone: GivenBackbone) -> dict[str, str]:
    return {key: value for key, value in network.get("tensors", {}).items() if value not in given_backbone.tensors}


def training_sketch(submission: Traces, name: str, given_backbone: GivenBackbone) -> np.ndarray | None:
    """Sketch of the weights, or of their change if the network was trained from the given backbone."""
    sketch = submission.sketches.get(name)
    if sketch is None:
        return None
    sketch = sketch.astype(np.float64)  # so that weights of 1e30 can be squared
    if given_backbone.sketch is None:
        return sketch
    cosine = float(
        sketch @ given_backbone.sketch / max(np.linalg.norm(sketch) * np.linalg.norm(given_backbone.sketch), 1e-12)
    )
    return sketch - given_backbone.sketch if cosine >= DERIVED else sketch


def answers(traces: Sequence[Traces]) -> Iterator[Row]:
    """Networks with nearly equal logits, even if their weights differ."""
    for name, members in networks(traces).items():
        shapes: dict[tuple[int, ...], list[Traces]] = {}
        for submission in members:
            if submission.logits.get(name) is not None:
                shapes.setdefault(submission.logits[name].shape, []).append(submission)
        for group in shapes.values():
            rows = np.stack([submission.logits[name].ravel().astype(np.float64) for submission in group])
            rows -= rows.mean(axis=1, keepdims=True)
            rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
            likeness = rows @ rows.T
            for i, j in zip(*np.where(np.triu(likeness > ALIKE, 1)), strict=True):
                text = f"{name}: the correlation of the answers on the hidden images is {likeness[i, j]:.5f}"
                yield group[i], group[j], "answers", float(min(likeness[i, j], 1.0)), text


def histories(traces: Sequence[Traces]) -> Iterator[Row]:
    """Histories with equal figures in every epoch, except seconds and images/s."""
    # by digest and index: copies within one submission count once
    by_digest: dict[str, dict[int, tuple[Traces, str, int]]] = {}
    for index, submission in enumerate(traces):
        for name, history in submission.facts.get("histories", {}).items():
            if "error" not in history and history["rows"]:
                by_digest.setdefault(history["digest"], {}).setdefault(index, (submission, name, history["rows"]))
    for members in by_digest.values():
        for (first, name, count), (second, _, _) in combinations(members.values(), 2):
            yield first, second, "history", 1.0, f"{name}: equal figures in all {count} epochs"


def prediction_tables(traces: Sequence[Traces], truth_by_file: Mapping[str, Mapping[str, str]]) -> Iterator[Row]:
    """Prediction tables with the same mistakes."""
    for name, truth in truth_by_file.items():
        wrong: list[tuple[Traces, frozenset[tuple[str, str]]]] = []
        for submission in traces:
            rows = submission.facts.get("predictions", {}).get(name, {}).get("rows", {})
            by_name = {file.replace("\\", "/").rpartition("/")[2]: answer for file, answer in rows.items()}
            mistakes = {(file, answer) for file, answer in by_name.items() if truth.get(file, answer) != answer}
            wrong.append((submission, frozenset(mistakes)))
        for (first, a), (second, b) in combinations(wrong, 2):
            both, either = len(a & b), len(a | b)
            if both >= MISTAKES and both >= 0.95 * either:
                text = f"{name}: {both} mistakes are equal, {either - both} differ"
                yield first, second, "predictions", both / either, text
