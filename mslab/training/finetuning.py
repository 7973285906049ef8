"""Beginning from saved weights: transfer puts a fresh head on a backbone, incremental training keeps the head, too."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from easydict import EasyDict

from mslab import checkpoint
from mslab.check import DatasetReport
from mslab.checkpoint import dialects
from mslab.config import load_config
from mslab.errors import CheckpointError, ConfigError
from mslab.evaluation import measuring
from mslab.runs import manifest
from mslab.runs.folder import Run
from mslab.training import freezing, loop

log = logging.getLogger("mslab")


def transfer(
    config: str | Path | Mapping[str, Any],
    backbone: str | Path,
    overrides: Sequence[str] = (),
    report: DatasetReport | None = None,
    name: str | None = None,
    only: str | None = None,
    epoch_images: int | None = None,
) -> EasyDict:
    """Train a fresh head on a saved backbone, frozen or not as the config says. Returns what `train` returns.

    `backbone` is a file (a whole network's too, its head is left out; other projects' as well) or a run. Its own
    normalisation, stage table and profile are used. `only`, a regular expression, names the parameters to load; the
    rest begins fresh. `epoch_images`: as in `train`. Raises CheckpointError where the file does not fit exactly, and
    all that `train` raises.
    """
    resolved = load_config(config, overrides)
    report = loop.checked(resolved, report)
    run = prepare_transfer(resolved, backbone, report, name or loop.name_of(config), only, epoch_images)
    with run.recording():
        return loop.go(run, report)


def incremental(
    config: str | Path | Mapping[str, Any],
    source: str | Path,
    overrides: Sequence[str] = (),
    report: DatasetReport | None = None,
    name: str | None = None,
) -> EasyDict:
    """Train a whole network on, with more images, or with more or fewer classes. Returns what `train` returns.

    `source` is a run (its best.ckpt) or a file with a head and class names. The head's rows of known classes are kept,
    by name; new classes begin fresh (ModelArts calls this incremental training). Raises CheckpointError where the file
    has no head or no class names, and all that `train` raises.
    """
    resolved = load_config(config, overrides)
    report = loop.checked(resolved, report)
    run = prepare_incremental(resolved, source, report, name or loop.name_of(config))
    with run.recording():
        return loop.go(run, report)


def prepare_transfer(
    config: EasyDict,
    backbone: str | Path,
    report: DatasetReport,
    name: str,
    only: str | None = None,
    epoch_images: int | None = None,
) -> Run:
    """The run folder of `transfer`, made after everything about settings and file has been checked."""
    weights = read_backbone(backbone)
    run = _prepare("transfer", config, weights, report, name, only, epoch_images)
    if weights.head:
        left = f"{weights.path} is a whole network ({len(weights.class_names)} classes): its head is left out"
        run.notes.insert(0, left)
    return run


def prepare_incremental(config: EasyDict, source: str | Path, report: DatasetReport, name: str) -> Run:
    """The run folder of `incremental`, made after everything about settings and file has been checked."""
    weights = checkpoint.read(measuring.best_file(source))
    if not weights.head or not weights.info.get("class_names"):
        lacks = "no class names" if weights.head else "no head"
        raise CheckpointError(
            f"{weights.path} has {lacks}, so no row of it can be kept by name.",
            expected="best.ckpt of a mslab run",
            fix="for a fresh head: mslab transfer CONFIG --backbone FILE",
        )
    if weights.hidden != config.head_hidden:
        raise CheckpointError(
            f"{weights.path} has a head with head_hidden: {weights.hidden}, the config says {config.head_hidden}.",
            expected="the same head, whose rows are kept",
            fix=f"head_hidden={weights.hidden}, or for a fresh head: mslab transfer CONFIG --backbone FILE",
        )
    return _prepare("incremental", config, weights, report, name)


def _prepare(
    kind: str,
    config: EasyDict,
    weights: checkpoint.Checkpoint,
    report: DatasetReport,
    name: str,
    only: str | None = None,
    epoch_images: int | None = None,
) -> Run:
    weights.check()
    notes = [f"{weights.path}: {weights.describe()}", *adopt(config, weights)]
    head = [f"{part}{name}" for part in dialects.HEADS for name in ("weight", "bias")]
    names = [*dialects.layout(config.stages, config.profile), *head[: 4 if config.head_hidden else 2]]
    freezing.check(names, config)
    kept = checkpoint.check_only(weights.backbone, only, "backbone") | set(
        weights.head if kind == "incremental" else ()
    )
    if lost := freezing.frozen(names, config) - kept:
        parts = ", ".join(sorted({freezing.part_of(name) for name in lost}))
        why = f"--only {only} leaves it fresh" if only else "the head is new"
        raise ConfigError(
            f"{parts} would be frozen at random weights: {why}.",
            expected="nothing frozen that is not loaded",
            fix="freeze less, or load more",
        )
    run = Run.create(name, config, report, kind, manifest.parent(Path(weights.path), only), epoch_images)
    run.notes = notes
    return run


def read_backbone(path: str | Path) -> checkpoint.Checkpoint:
    """The file (of a run: its best_backbone.ckpt). Raises CheckpointError where it has no backbone."""
    path = Path(path)
    if (path / "checkpoints").is_dir():
        path = path / "checkpoints" / "best_backbone.ckpt"
    weights = checkpoint.read(path)
    if not weights.backbone:
        raise CheckpointError(
            f"{path} has no backbone: {len(weights.head)} head tensors; {'; '.join(weights.notes) or 'nothing else'}.",
            expected="a file such as best_backbone.ckpt",
            fix="give the best_backbone.ckpt of a run",
        )
    return weights


def adopt(config: EasyDict, weights: checkpoint.Checkpoint) -> list[str]:
    """Take the file's own normalisation, stage table and profile into the config; a line for each difference."""
    notes = []
    for key in ("mean", "std"):
        own = weights.info.get(key)
        if own and own != config[key]:
            notes.append(
                f"note: {key}: the backbone was trained with {own}; used instead of the config's {config[key]}"
            )
            config[key] = own
    for key, own in (("stages", weights.stages), ("profile", weights.profile), ("stem", weights.profile["stem"])):
        if config[key] and config[key] != own:
            raise CheckpointError(
                f"{weights.path} was trained with {key} {own}, the config has {config[key]}.",
                expected="one and the same network",
                fix=f"take `{key}` out of the config ({key}=null): the backbone brings its own",
            )
        config[key] = own
    if (size := weights.info.get("image_size")) and size != config.image_size:
        notes.append(f"note: the backbone was trained on {size} pixels, this run on {config.image_size}")
    return notes
