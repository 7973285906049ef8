"""Transfer: a saved backbone under a fresh head."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from easydict import EasyDict

from mslab import checkpoint, evaluation, training
from mslab.check import DatasetReport
from mslab.config import load_config
from mslab.errors import CheckpointError
from mslab.runfolder import Run

say = logging.getLogger("mslab")


def transfer(
    config: str | Path | Mapping[str, Any],
    backbone: str | Path,
    overrides: Sequence[str] = (),
    report: DatasetReport | None = None,
    name: str | None = None,
) -> EasyDict:
    """Train a fresh head on a saved backbone, frozen or not as `freeze` says. Returns what `train` returns.

    `backbone` is a file, a whole network's too (its head is left out), or a run. The backbone's own normalisation and
    stage table are used. Raises CheckpointError where the file does not fit exactly, and all that `train` raises.
    """
    resolved = load_config(config, overrides)
    weights, tensors = read_backbone(backbone)
    report = training.checked(resolved, report)
    notes = adopt(resolved, weights)
    parent = {"file": str(weights.path), "sha256": checkpoint.sha256(weights.path)}
    run = Run.create(name or training.name_of(config), resolved, report, parent)
    with run.recording():
        for note in notes:
            say.info(note)
        training.start_device(run, resolved)
        network = training.new_network(resolved)
        loaded = checkpoint.load_exactly(network.backbone.parameters_dict(), tensors, weights.path, "backbone")
        say.info(f"{loaded}; head: new ({resolved.class_num} classes); freeze: {resolved.freeze}")
        return training.run_training(run, network, report)


def read_backbone(path: str | Path) -> tuple[checkpoint.Weights, dict]:
    """The file (of a run: its best_backbone.ckpt) and its backbone tensors. Raises CheckpointError."""
    path = Path(path)
    if (path / "checkpoints").is_dir():
        path = path / "checkpoints" / "best_backbone.ckpt"
    weights = checkpoint.read(path)
    tensors, head, optimizer = weights.split()
    if not tensors:
        raise CheckpointError(
            f"{path} has no backbone: {len(head)} head and {len(optimizer)} optimizer tensors.",
            expected="a file such as best_backbone.ckpt",
            fix="give the best_backbone.ckpt of a run",
        )
    if head:
        say.info(f"{path} is a whole network ({len(weights.class_names)} classes): its head is left out")
    return weights, tensors


def adopt(config: EasyDict, weights: checkpoint.Weights) -> list[str]:
    """Take the backbone's own normalisation and stage table into the config; returns a line for each difference."""
    notes = []
    for key in ("mean", "std"):
        own = weights.info.get(key)
        if own and own != config[key]:
            notes.append(
                f"note: {key}: the backbone was trained with {own}; used instead of the config's {config[key]}"
            )
            config[key] = own
    table = [list(row) for row in evaluation.stages_of(weights)]
    if config.stages and [list(row) for row in config.stages] != table:
        raise CheckpointError(
            f"{weights.path} was trained with the stage table {table}, the config has {config.stages}.",
            expected="one and the same table",
            fix="take `stages` out of the config (stages=null): the backbone brings its own",
        )
    config.stages = table
    if (size := weights.info.get("image_size")) and size != config.image_size:
        notes.append(f"note: the backbone was trained on {size} pixels, this run on {config.image_size}")
    return notes
