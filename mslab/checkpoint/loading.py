"""Tensors -> parameters: names and shapes are compared both ways before anything is assigned."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mslab.checkpoint.dialects import COUNTERS, HEAD, SLOTS
from mslab.errors import CheckpointError

SHOWN = 8  # differences that a message lists


def load_exactly(
    wanted: Mapping[str, Any], tensors: Mapping[str, np.ndarray], path: Path, what: str, only: str | None = None
) -> str:
    """Put the tensors into the parameters of the same names (`cell.parameters_dict()`).

    strict_load alone does not notice a missing one, so both sides are compared first. `only`, a regular expression,
    names the parameters to load; the others stay as they are. Returns "backbone: 265 of 265 tensors from FILE". Raises
    CheckpointError, with nothing assigned, where names, shapes or numbers are not what they should be.
    """
    from mindspore import Tensor

    asked = check_only(wanted, only, what)
    given = {name: value for name, value in tensors.items() if only is None or name in asked}
    compare({name: tuple(wanted[name].shape) for name in asked}, given, path, what)
    for name in asked:
        wanted[name].set_data(Tensor(np.array(given[name]), wanted[name].dtype))
    text = f"{what}: {len(asked)} of {len(wanted)} tensors from {path}"
    if len(asked) == len(wanted):
        return text
    parts = {re.match(r"layer\d+|[a-z]+\d*", name)[0] for name in wanted.keys() - asked}  # type: ignore[index]
    return f"{text}; fresh: {len(wanted) - len(asked)} in {', '.join(sorted(parts))}"


def compare(shapes: Mapping[str, tuple[int, ...]], tensors: Mapping[str, np.ndarray], path: Path, what: str) -> None:
    """CheckpointError that lists what is missing, unknown, of another shape or not finite."""
    rows = [("missing", f"{name} {shapes[name]}") for name in shapes.keys() - tensors.keys()]
    rows += [("unknown", f"{name} {value.shape}") for name, value in tensors.items() if name not in shapes]
    for name in shapes.keys() & tensors.keys():
        if shapes[name] != tensors[name].shape:
            rows.append(("shape", f"{name} is {tensors[name].shape} in the file, {shapes[name]} in the network"))
        elif not np.isfinite(tensors[name]).all():
            rows.append(("not finite", f"{name} holds NaN or infinity: the run that wrote it had exploded"))
    if rows:
        hidden = len(rows) - SHOWN
        raise CheckpointError(
            f"{path} does not fit the {what}: {len(shapes.keys() & tensors.keys())} of {len(shapes)} names agree.",
            details=sorted(rows)[:SHOWN] + ([("…", f"and {hidden} more")] if hidden > 0 else []),
            expected=f"exactly the {len(shapes)} tensors of this {what}, each with its shape and finite",
            fix=_guess(shapes, tensors),
        )


def check_only(names: Iterable[str], only: str | None, what: str) -> set[str]:
    """The names that `only` finds, all without it. Raises CheckpointError where it finds none, or is no expression."""
    try:
        asked, why = {name for name in names if only is None or re.search(only, name)}, "matches no parameter of the"
    except re.error:
        asked, why = set(), "is no regular expression for the"
    if not asked:
        raise CheckpointError(
            f"{only!r} {why} {what}.",
            expected=f"a regular expression for names such as {', '.join(list(names)[:3])}",
            fix="for example '^(conv1|bn1|layer1)\\.'; mslab show lists the parts",
        )
    return asked


def _guess(shapes: Mapping[str, tuple[int, ...]], tensors: Mapping[str, np.ndarray]) -> str:
    """What probably happened, from the most telling sign on."""
    names = tensors.keys()
    head = f"{HEAD}weight"
    other_head = head in shapes and head in names and shapes[head] != tensors[head].shape
    same = [name for name in shapes.keys() & names if shapes[name] == tensors[name].shape]
    if any(not np.isfinite(value).all() for value in tensors.values()):
        return "take a checkpoint from before the loss exploded; best.ckpt is always of a finite epoch"
    if other_head and len(same) >= len(shapes) - 2:
        return (
            f"its head has {len(tensors[head])} classes, the network {shapes[head][0]}: mslab transfer puts a new head "
            "on the backbone, mslab train --from keeps the rows of known classes"
        )
    if any(name in COUNTERS or name.startswith(SLOTS) for name in names) and not same:
        return "it holds an optimizer's tensors only; take best.ckpt or best_backbone.ckpt beside it"
    if any(name.startswith("layer") for name in names):
        return "it is a ResNet of another plan (wide, ResNeXt, squeeze-and-excitation …), or not whole; take another"
    return "it is another network's file; take best_backbone.ckpt of a mslab run, or a ResNet of another project"
