"""Which parameters are frozen, and when: pure functions of names and settings, and their application to a network."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from mslab.checkpoint import networks
from mslab.config import Settings, tasks
from mslab.config.networks import part_of
from mslab.errors import ConfigError

NEW = ("neck", "head")  # the parts after the backbone
STATISTICS = ("moving_mean", "moving_variance")  # of BatchNorm: never trained, but updated in training mode


def belongs(name: str, part: str, network: str | None = None) -> bool:
    """Whether a parameter is in stem, layer1 …, head or "backbone" (all but the head). `network`: the setting."""
    own = part_of(name, network)
    return own == part or (part == "backbone" and own not in NEW)


def parts_of(names: Iterable[str], network: str | None = None) -> list[str]:
    """The parts that these parameters are of, in their order."""
    return list(dict.fromkeys(part_of(name, network) for name in names))


def frozen(names: Iterable[str], config: Settings, epoch: int = 0) -> frozenset[str]:
    """The parameters that are frozen in this epoch, counted from 0, BatchNorm's statistics included.

    `freeze` is mslab's own setting, `layers_to_freeze` Azure AutoML's, `freeze_layer_pattern` SageMaker's.
    """
    names = list(names)
    frozen_names: set[str] = set()
    if config.freeze == "all":
        frozen_names = {name for name in names if belongs(name, "backbone", config.network)}
    elif config.layers_to_freeze:
        groups = [part for part in parts_of(names, config.network) if part != "neck"][: config.layers_to_freeze]
        frozen_names = {name for name in names if part_of(name, config.network) in groups}
    elif config.freeze_layer_pattern:
        frozen_names = {name for name in names if re.search(config.freeze_layer_pattern, name)}
    # BatchNorm's statistics are frozen if one of its weights is, and only then
    norms = {name.rpartition(".")[0] for name in frozen_names if name.endswith((".gamma", ".beta"))}
    frozen_names = {name for name in frozen_names if not name.endswith(STATISTICS)}
    frozen_names |= {name for name in names if name.endswith(STATISTICS) and name.rpartition(".")[0] in norms}
    unfrozen = [part for start, part in config.unfreeze.items() if epoch + 1 >= int(start)]
    return frozenset(name for name in frozen_names if not any(belongs(name, part, config.network) for part in unfrozen))


def is_requested(config: Settings) -> bool:
    return bool(config.freeze == "all" or config.layers_to_freeze or config.freeze_layer_pattern)


def is_frozen_throughout(names: Sequence[str], config: Settings) -> bool:
    """Whether the entire backbone stays frozen to the end, so that its features of an image never change."""
    last = frozen(names, config, config.epochs)
    return all((name in last) == belongs(name, "backbone", config.network) for name in names)


def check(names: Sequence[str], config: Settings) -> None:
    """Raise ConfigError listing every setting of freezing and lr_scale that does not fit this network."""
    parts = parts_of(names, config.network)
    own = [part for part in parts if part not in NEW]
    problems = []
    if config.layers_to_freeze > len(own):
        groups = ", ".join(own)
        problems.append(("layers_to_freeze", f"{config.layers_to_freeze}: at most {len(own)} are possible: {groups}"))
    pattern = config.freeze_layer_pattern
    frozen_names, last = frozen(names, config), frozen(names, config, config.epochs)
    if pattern and not frozen_names:
        problems.append(("freeze_layer_pattern", f"{pattern!r} matches none of {', '.join(names[:4])} …"))
    elif pattern and all(name in frozen_names for name in names):
        problems.append(("freeze_layer_pattern", f"{pattern!r} matches everything: nothing would be trained"))
    for epoch, part in config.unfreeze.items():
        if part not in (*parts, "backbone"):
            problems.append(("unfreeze", f"{part}: this network has {', '.join(parts)}"))
        elif not any(belongs(name, part, config.network) for name in frozen_names):
            problems.append(("unfreeze", f"{part} is not frozen: there is nothing to unfreeze"))
        if int(epoch) > config.epochs:
            problems.append(("unfreeze", f"epoch {epoch} is never reached: epochs is {config.epochs}"))
    for part in config.lr_scale:
        if part not in (*parts, "backbone"):
            problems.append(("lr_scale", f"{part}: this network has {', '.join(parts)}"))
        elif all(name in last for name in names if belongs(name, part, config.network)):
            text = "is frozen throughout, so its learning rate has no effect; leave it out, or write lr_scale: null"
            problems.append(("lr_scale", f"{part} {text}"))
    if problems:
        raise ConfigError(
            "The freezing settings do not fit the network.",
            details=problems,
            expected=f"parts of this network: {', '.join(parts)}",
            fix="mslab show CONFIG marks what is frozen",
        )


def outline(settings: Settings) -> list[str]:
    """One parameter name per part: enough to check the settings before a network is built."""
    new = [f"{part}." for part in NEW] if settings.task in tasks.MAPS else ["classifier.bias"]
    return [*networks.of_settings(settings).outline(), *new]


def scale_of(name: str, config: Settings) -> float:
    """The factor on a parameter's learning rate: its part's, else the backbone's, else 1."""
    scales, of_backbone = config.lr_scale, belongs(name, "backbone", config.network)
    return float(
        scales.get(
            part_of(name, config.network),
            scales.get("backbone", 1.0) if of_backbone else 1.0,
        )
    )


def apply(network: Any, frozen_names: frozenset[str]) -> None:
    """Set training mode for all but `frozen_names`: no gradients there, and BatchNorm in evaluation mode.

    requires_grad alone would let BatchNorm's statistics change.
    """
    from mindspore import nn

    constants = getattr(network.backbone, "constants", ())  # of mindcv: tables that are never trained
    network.set_train()
    for name, parameter in network.parameters_and_names():
        if not name.endswith(STATISTICS) and parameter.name not in constants:
            parameter.requires_grad = parameter.name not in frozen_names
    for _, cell in network.cells_and_names():
        if isinstance(cell, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) and cell.moving_mean.name in frozen_names:
            cell.set_train(False)


def describe(names: Sequence[str], config: Settings) -> str:
    """For a log: "none", or "55 of 267 tensors (stem, layer1); from epoch 3 on layer1 is trained"."""
    frozen_names = frozen(names, config)
    if not frozen_names:
        return "none"
    parts = ", ".join(dict.fromkeys(part_of(name, config.network) for name in names if name in frozen_names))
    later = "".join(f"; from epoch {epoch} on {part} is trained" for epoch, part in config.unfreeze.items())
    return f"{len(frozen_names)} of {len(names)} tensors ({parts}){later}"
