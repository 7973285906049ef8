"""Whether one backbone was trained from another: layer by layer, and by ranks, so that no few values decide.

Training moves BatchNorm's gammas and betas away from values that all channels share at first. Which channels it moves
most differs between trainings, even from equal convolutions; so equal ranks are evidence. Since gammas and betas could
be copied alone, convolutions are compared as well. From one seed these start equal: alone they would prove nothing.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mslab.grade.contents import BadSubmission

QUARTER = 0.25  # of the layers may be less alike than the figure says
SAMPLE = 2048  # weights of a convolution that are compared
SEPARATE = 0.2  # correlation of convolutions; below it they did not start as the same ones
CLEAR = 0.2  # expected correlation; below it a low one means nothing
DERIVED = 0.5  # correlation to the given backbone; from here on a network was trained from it

Tensors = Mapping[str, np.ndarray]


def relation(child: Tensors, parent: Tensors, seed: bytes, given: Tensors | None = None) -> dict[str, Any]:
    """Compare two backbones. Returns `equal` of `tensors`, equal to the last bit, and three correlations.

    `batchnorm`, `convolutions`: of ranks; three quarters of the layers have at least that. `expected`: what BatchNorm
    of a network trained from the parent would still show. `seed` chooses the weights that are compared; it must depend
    on both networks, so that nobody can prepare only these. `given`: a backbone that both may have been trained from;
    then BatchNorm counts what the parent's training changed in it. Raises BadSubmission.
    """
    equal = sum(child[name].tobytes() == parent[name].tobytes() for name in child if name in parent)
    start = given if given and was_trained_from(parent, given, seed) else {}
    norms, convolutions = batchnorm(child, parent, start), []
    rng = np.random.default_rng(list(seed))
    for name in tensors_of("convolution", child, parent):
        some = rng.integers(0, child[name].size, SAMPLE) if child[name].size > SAMPLE else slice(None)
        a, b = (tensors[name].ravel()[some].astype(np.float64) for tensors in (child, parent))
        # many tiny weights could be put in order without an effect; a few large ones in unused channels, too
        convolutions.append(min(correlation(ranks(a), ranks(b)), correlation(a, b)))
    found, reachable = np.quantile(norms or [(0, 0)], QUARTER, axis=0)
    figures = {"batchnorm": found, "expected": reachable, "convolutions": np.quantile(convolutions or [0], QUARTER)}
    rounded = {key: round(float(value), 6) for key, value in figures.items()}
    return {"tensors": max(len(child), len(parent)), "equal": equal} | rounded


def was_trained_from(parent: Tensors, given: Tensors, seed: bytes) -> bool:
    """Whether the parent's BatchNorm is the given one's, changed."""
    try:
        near = verdict(relation(parent, given, seed), DERIVED) == "near"
        return near and any(not np.array_equal(parent[name], given[name]) for name in tensors_of("batchnorm", parent))
    except BadSubmission:  # the given backbone is of another kind
        return False


def batchnorm(child: Tensors, parent: Tensors, start: Tensors) -> list[Any]:
    """(correlation, expected) of each layer: the means over gamma and beta; (0, 0) if both are constant."""
    layers: dict[str, list[tuple[float, float]]] = {}
    for name in tensors_of("batchnorm", child, parent):
        a, b = (tensors[name].astype(np.float64).ravel() - start.get(name, 0) for tensors in (child, parent))
        if start and not b.any():  # the parent kept what was given
            continue
        pairs = layers.setdefault(name.rpartition(".")[0], [])
        if np.ptp(a) or np.ptp(b):
            spread_a, spread_b = (float(np.subtract(*np.percentile(values, [90, 10]))) for values in (a, b))
            # a faint copy of the parent's pattern has its ranks; training does not make it fainter
            found = correlation(ranks(a), ranks(b)) * share(spread_a, spread_b)
            # what adding independent changes to b would leave
            pairs.append((found, share(spread_b, spread_a)))
    return [np.mean(pairs or [(0, 0)], axis=0) for pairs in layers.values()]


def tensors_of(kind: str, *networks: Tensors) -> list[str]:
    """Names of all tensors of a kind; each must be comparable. Raises BadSubmission."""
    names = sorted({name for tensors in networks for name, value in tensors.items() if kind_of(name, value) == kind})
    shapes = [{tensors[name].shape if name in tensors else None for tensors in networks} for name in names]
    if different := [name for name, found in zip(names, shapes, strict=True) if len(found) > 1]:
        text = f"the backbones have different layers: {len(different)} tensors are not in both with one shape, such as"
        raise BadSubmission(f"{text} {different[0]}")
    for name in names:
        if not all(np.isfinite(tensors[name]).all() for tensors in networks):
            raise BadSubmission(f"{name} has values that are not finite")
    return names


def kind_of(name: str, value: np.ndarray) -> str:
    """The kind of a tensor that is compared, or "". Moving statistics depend on the images: they are not."""
    if not value.size or value.dtype.kind != "f":
        return ""
    return "batchnorm" if name.endswith((".gamma", ".beta")) else "convolution" if value.ndim > 1 else ""


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation; 0 if one of them does not vary."""
    x, y = (values / max(np.abs(values).max(), 1e-300) for values in (a, b))  # their squares cannot overflow
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / max(np.sqrt((x @ x) * (y @ y)), 1e-12))


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share theirs. [5, 9, 5] -> [1.5, 3, 1.5]."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # type: ignore[no-any-return]


def share(part: float, whole: float) -> float:
    return min(1.0, part / whole) if whole > 0 else float(part > 0)


def verdict(figures: Mapping[str, float], nearness: float) -> str:
    """near: both correlations reach `nearness`; far: one is too low for a network from this parent; else unclear."""
    norms, reachable, convolutions = (figures[key] for key in ("batchnorm", "expected", "convolutions"))
    if min(norms, convolutions) >= nearness:
        return "near"
    # networks from the parent show about what is expected; others, of the same seed and images, far less than half
    low = norms < nearness and reachable >= CLEAR and norms < reachable / 2
    return "far" if low or convolutions < SEPARATE else "unclear"
