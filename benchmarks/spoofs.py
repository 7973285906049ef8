"""Alter backbones: to look as if they were trained from another, or without a change of their function.

Each takes (child, parent) and returns both, altered; `child` is trained from scratch, or from the parent (HONEST).
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Tensors = dict[str, np.ndarray]
Pair = tuple[Tensors, Tensors]


def norms_of(tensors: Tensors) -> list[str]:
    return [name.removesuffix(".gamma") for name in tensors if name.endswith(".gamma")]


def copied(child: Tensors, parent: Tensors, layers: list[str]) -> Tensors:
    return child | {f"{layer}.{part}": parent[f"{layer}.{part}"] for layer in layers for part in ("gamma", "beta")}


def with_dead_channels(tensors: Tensors, layers: list[str]) -> Tensors:
    """Add 100 to the first beta of each layer, as it might be in a channel that no later layer uses."""
    changed = {f"{layer}.beta": tensors[f"{layer}.beta"].copy() for layer in layers}
    for beta in changed.values():
        beta[0] += 100
    return tensors | changed


def one_dead_channel(child: Tensors, parent: Tensors) -> Pair:
    return with_dead_channels(child, ["bn1"]), with_dead_channels(parent, ["bn1"])


def one_dead_channel_per_layer(child: Tensors, parent: Tensors) -> Pair:
    return with_dead_channels(child, norms_of(child)), with_dead_channels(parent, norms_of(parent))


def first_copied(child: Tensors, parent: Tensors) -> Pair:
    return copied(child, parent, ["bn1"]), parent


def half_copied(child: Tensors, parent: Tensors) -> Pair:
    return copied(child, parent, norms_of(child)[::2]), parent


def all_copied(child: Tensors, parent: Tensors) -> Pair:
    return copied(child, parent, norms_of(child)), parent


def constant(child: Tensors, parent: Tensors) -> Pair:
    """All gammas 1 and betas 0."""
    names = [name for name in child if name.endswith((".gamma", ".beta"))]
    return child | {name: np.full_like(child[name], name.endswith("gamma")) for name in names}, parent


def layers_exchanged(child: Tensors, parent: Tensors) -> Pair:
    """Each BatchNorm gets the values of the next one of its size."""
    sizes: dict[int, list[str]] = {}
    for layer in norms_of(child):
        sizes.setdefault(child[f"{layer}.gamma"].size, []).append(layer)
    changed = {
        f"{layer}.{part}": child[f"{other}.{part}"]
        for layers in sizes.values()
        for layer, other in zip(layers, layers[1:] + layers[:1], strict=True)
        for part in ("gamma", "beta")
    }
    return child | changed, parent


def faint(child: Tensors, parent: Tensors) -> Pair:
    """Gammas and betas never trained, then given a thousandth of the parent's differences."""
    flat = constant(child, parent)[0]
    names = [name for name in child if name.endswith((".gamma", ".beta"))]
    return flat | {name: flat[name] + (parent[name] - flat[name]) / 1000 for name in names}, parent


def pruned(child: Tensors, parent: Tensors) -> Pair:
    """The smaller 80 % of a convolution's weights made tiny, in the parent's order; all of BatchNorm copied."""
    changed = {}
    for name, value in child.items():
        if value.ndim > 1:
            flat = value.ravel().copy()
            small = np.flatnonzero(np.abs(flat) <= np.quantile(np.abs(flat), 0.8))
            order = np.argsort(np.argsort(parent[name].ravel()[small]))
            flat[small] = np.sort(flat[small])[order] / 1000
            changed[name] = flat.reshape(value.shape)
    return copied(child | changed, parent, norms_of(child)), parent


def quarter_unused(child: Tensors, parent: Tensors) -> Pair:
    """A quarter of all channels given the same large values in both, as if no later layer used them."""

    def altered(tensors: Tensors) -> Tensors:
        rng, changed = np.random.default_rng(1), dict(tensors)
        for name, value in tensors.items():
            if value.ndim > 1 or name.endswith((".gamma", ".beta")):
                changed[name] = value.copy()
                part = changed[name][: len(value) // 4]
                part[...] = rng.choice([-10, 10], part.shape) + rng.normal(0, 1, part.shape)
        return changed

    return altered(child), altered(parent)


# --- changes that keep the function ----------------------------------------------------------------------------------


def inner(tensors: Tensors) -> Iterator[tuple[str, str, str]]:
    """(convolution, its BatchNorm, next convolution) inside blocks, where channels can be changed freely."""
    for layer in norms_of(tensors):
        block, _, norm = layer.rpartition(".")
        following = f"{block}.conv{int(norm[-1]) + 1}.weight" if block and norm.startswith("bn") else ""
        if following in tensors:
            yield f"{block}.conv{norm[-1]}.weight", layer, following


def permuted(tensors: Tensors, order_of: Callable[[str], np.ndarray]) -> Tensors:
    """Channels inside blocks in another order."""
    changed = dict(tensors)
    for conv, norm, following in inner(tensors):
        order = order_of(norm)
        changed[conv], changed[following] = changed[conv][order], changed[following][:, order]
        for part in ("gamma", "beta", "moving_mean", "moving_variance"):
            changed[f"{norm}.{part}"] = changed[f"{norm}.{part}"][order]
    return changed


def sorted_like_the_parent(child: Tensors, parent: Tensors) -> Pair:
    """The order in which the gammas inside blocks have the parent's ranks."""

    def order_of(norm: str) -> np.ndarray:
        return np.argsort(child[f"{norm}.gamma"])[np.argsort(np.argsort(parent[f"{norm}.gamma"]))]

    return permuted(child, order_of), parent


def shuffled(child: Tensors, parent: Tensors) -> Pair:
    rng = np.random.default_rng(1)
    return permuted(child, lambda norm: rng.permutation(child[f"{norm}.gamma"].size)), parent


def scaled(child: Tensors, parent: Tensors, factors: Any) -> Pair:
    """Gamma and beta inside blocks times a factor a channel, the next convolution's inputs divided by it."""
    changed = dict(child)
    for _, norm, following in inner(child):
        factor = factors(child[f"{norm}.gamma"].size).astype(np.float32)
        changed |= {f"{norm}.{part}": changed[f"{norm}.{part}"] * factor for part in ("gamma", "beta")}
        changed[following] = changed[following] / factor[:, None, None]
    return changed, parent


def scaled_by_layer(child: Tensors, parent: Tensors) -> Pair:
    return scaled(child, parent, lambda channels: np.full(channels, 4.0))


def scaled_by_channel(child: Tensors, parent: Tensors) -> Pair:
    rng = np.random.default_rng(1)
    return scaled(child, parent, lambda channels: np.exp(rng.normal(0, 1, channels)))


def negated(child: Tensors, parent: Tensors) -> Pair:
    """Every other gamma negated, with its filter and its moving mean."""
    changed = dict(child)
    for norm in norms_of(child):
        sign = np.where(np.arange(child[f"{norm}.gamma"].size) % 2, 1, -1).astype(np.float32)
        block, _, last = norm.rpartition(".")
        conv = f"{block}.0.weight" if block.endswith("down_sample") else f"{norm[: -len(last)]}conv{last[-1]}.weight"
        changed[conv] = changed[conv] * sign[:, None, None, None]
        changed |= {f"{norm}.{part}": changed[f"{norm}.{part}"] * sign for part in ("gamma", "moving_mean")}
    return changed, parent


SCRATCH: dict[str, Callable[[Tensors, Tensors], Pair]] = {
    "one dead channel with a beta of 100 in both": one_dead_channel,
    "the same in every layer": one_dead_channel_per_layer,
    "BatchNorm of the stem copied": first_copied,
    "every other BatchNorm copied": half_copied,
    "every BatchNorm copied": all_copied,
    "all copied, small weights in the parent's order": pruned,
    "never trained, a faint copy of all": faint,
    "channels sorted by the parent's gammas": sorted_like_the_parent,
    "gammas 1, betas 0": constant,
    "a quarter of all channels unused and alike": quarter_unused,
}
HONEST: dict[str, Callable[[Tensors, Tensors], Pair]] = {
    "same function: gamma and beta times 4": scaled_by_layer,
    "same function: times a factor a channel": scaled_by_channel,
    "same function: channels shuffled": shuffled,
    "same function: every other gamma negated": negated,
    "BatchNorms exchanged": layers_exchanged,
}
