"""Load tensors into parameters: names and shapes are compared in both directions before anything is assigned."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mslab.checkpoint.dialects import HEAD
from mslab.errors import MODEL, CheckpointError

MAX_ROWS = 8  # differences that a message lists


def load_exactly(
    parameters: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    path: Path,
    part: str,
    include_pattern: str | None = None,
) -> str:
    """Load the tensors into the parameters of the same names (`cell.parameters_dict()`).

    strict_load alone does not notice a missing tensor, so both sides are compared first. `include_pattern`, a regular
    expression, selects the parameters to load; the others stay unchanged. Returns "backbone: 265 of 265 tensors from
    FILE". Raises CheckpointError, before anything is assigned, if names, shapes or values are wrong.
    """
    from mindspore import Tensor

    selected = select_names(parameters, include_pattern, part)
    values = {name: value for name, value in tensors.items() if include_pattern is None or name in selected}
    compare({name: tuple(parameters[name].shape) for name in selected}, values, path, part, built=True)
    for name in selected:
        parameters[name].set_data(Tensor(np.array(values[name]), parameters[name].dtype))
    text = f"{part}: {len(selected)} of {len(parameters)} tensors from {path}"
    if len(selected) == len(parameters):
        return text
    fresh = {name.partition(".")[0] for name in parameters.keys() - selected}
    return f"{text}; fresh: {len(parameters) - len(selected)} in {', '.join(sorted(fresh))}"


def compare(
    shapes: Mapping[str, tuple[int, ...]], tensors: Mapping[str, np.ndarray], path: Path, part: str, built: bool = False
) -> None:
    """Raise CheckpointError that lists tensors that are missing, unknown, of another shape or not finite.

    `built`: whether model.py has built the network whose shapes these are.
    """
    rows = [("missing", f"{name} {shapes[name]}") for name in shapes.keys() - tensors.keys()]
    rows += [("unknown", f"{name[:100]} {value.shape}") for name, value in tensors.items() if name not in shapes]
    for name in shapes.keys() & tensors.keys():
        if shapes[name] != tensors[name].shape:
            rows.append(("shape", f"{name} is {tensors[name].shape} in the file, {shapes[name]} in the network"))
        elif not np.isfinite(tensors[name]).all():
            rows.append(("not finite", f"{name} contains NaN or infinity: the run that wrote it had diverged"))
    if rows:
        hidden = len(rows) - MAX_ROWS
        raise CheckpointError(
            f"{path} does not fit the {part}: {len(shapes.keys() & tensors.keys())} of {len(shapes)} names agree.",
            details=sorted(rows)[:MAX_ROWS] + ([("…", f"and {hidden} more")] if hidden > 0 else []),
            expected=f"exactly the {len(shapes)} tensors of this {part}, with the same shapes and finite values",
            fix=_guess(shapes, tensors, built),
        )


def select_names(names: Iterable[str], include_pattern: str | None, part: str) -> set[str]:
    """Return the names that the pattern matches, or all. Raises CheckpointError if it is invalid or matches none."""
    try:
        matches, problem = (
            {name for name in names if include_pattern is None or re.search(include_pattern, name)},
            "matches no parameter of the",
        )
    except re.error:
        matches, problem = set(), "is not a regular expression for the"
    if not matches:
        raise CheckpointError(
            f"{include_pattern!r} {problem} {part}.",
            expected=f"a regular expression for names such as {', '.join(list(names)[:3])}",
            fix="for example '^(conv1|bn1|layer1)\\.'; mslab show lists the parts",
        )
    return matches


def _guess(shapes: Mapping[str, tuple[int, ...]], tensors: Mapping[str, np.ndarray], built: bool) -> str:
    """Return the most likely cause and its fix; the strongest sign comes first."""
    names = tensors.keys()
    head = f"{HEAD}weight"
    other_head = head in shapes and head in names and shapes[head] != tensors[head].shape
    same = [name for name in shapes.keys() & names if shapes[name] == tensors[name].shape]
    if any(not np.isfinite(value).all() for value in tensors.values()):
        return "use a checkpoint from before the loss diverged; best.ckpt is always from a finite epoch"
    if other_head and len(same) >= len(shapes) - 2:
        return (
            f"its head has {len(tensors[head])} classes, the network {shapes[head][0]}: mslab transfer puts a new head "
            "on the backbone, mslab train --from preserves the rows of classes that both have"
        )
    if built and same:  # the file's own table fits its tensors, so the code around the table has changed
        return f"undo the changes of the network's code in {MODEL}: it built another network when this file was written"
    if not same and any(name.partition(".")[2] in shapes for name in names):
        return "the file contains only an optimizer's tensors; use best.ckpt or best_backbone.ckpt beside it"
    if any(name.startswith("layer") for name in names):
        return (
            "the file is another kind of ResNet (wide, ResNeXt, squeeze-and-excitation …), incomplete, or of a changed "
            "model.py; use another"
        )
    return "the file is of another network; use best_backbone.ckpt of a mslab run, or a ResNet of another project"
