"""Training from saved weights: transfer puts a fresh head on a backbone, incremental training reuses the head too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mindspore as ms
from mindspore import nn

from mslab import checkpoint, files
from mslab.check.report import counted
from mslab.checkpoint import NO_CHOICE, Checkpoint, Choice, dialects, load_exactly
from mslab.config import Settings, tasks
from mslab.config.networks import part_of
from mslab.errors import CheckpointError, ConfigError, RunError
from mslab.escaping import quoted
from mslab.runs import manifest as manifests
from mslab.runs import weights as weight_files
from mslab.runs.folder import RunFolder
from mslab.tasks import layout
from mslab.training import freezing


@dataclass(frozen=True)
class Pretrained:
    """The checkpoint that a run begins from."""

    kind: str  # of the run: transfer or incremental
    checkpoint: Checkpoint
    include_pattern: str | None = None  # regular expression of the backbone's parameters to load; the rest stay random
    choice: Choice = NO_CHOICE  # what the user decided about the file

    def record(self) -> dict[str, Any]:
        """The manifest's entry for it."""
        chosen = {name: value for name, value in vars(self.choice).items() if value}
        chosen |= {"published": self.checkpoint.published.name} if self.checkpoint.published else {}
        return manifests.parent(Path(self.checkpoint.path), self.include_pattern) | chosen

    def notes(self) -> list[str]:
        """Log lines about it for the beginning of training."""
        weights, rows = self.checkpoint, [f"{self.checkpoint.path}: {self.checkpoint.describe()}"]
        if self.kind == "transfer" and weights.head:
            classes = len(weights.class_names)
            rows.insert(0, f"{weights.path} is a complete network ({classes} classes): its head is left out")
        return rows


def backbone_of(given: object, include_pattern: str | None = None, choice: Choice = NO_CHOICE) -> Pretrained:
    """A backbone for a fresh head. Raises CheckpointError if the file has none, or is not exactly a network."""
    weights = read_backbone(given, choice)
    weights.check()
    return Pretrained("transfer", weights, include_pattern, choice)


def read_backbone(given: object, choice: Choice = NO_CHOICE) -> Checkpoint:
    """Read the file (of a run: its best_backbone.ckpt). Raises CheckpointError if it has no backbone."""
    path = weight_files.backbone_file(given)
    weights = checkpoint.read(path, choice)
    if not weights.backbone:
        raise CheckpointError(
            f"{path} has no backbone: {len(weights.head)} head tensors; {'; '.join(weights.notes) or 'nothing else'}.",
            expected="a file such as best_backbone.ckpt",
            fix="use the best_backbone.ckpt of a run",
        )
    return weights


def network_of(source: object) -> Pretrained:
    """A complete network to train further. Raises CheckpointError if it has no head or no class names."""
    weights = checkpoint.read(weight_files.best_file(source))
    if not weights.head or not weights.info.get("class_names"):
        problem = "no class names" if weights.head else "no head"
        raise CheckpointError(
            f"{weights.path} has {problem}, so no row of the head can be reused by name.",
            expected="best.ckpt of an mslab run",
            fix="for a fresh head: mslab transfer CONFIG --backbone FILE",
        )
    weights.check()
    return Pretrained("incremental", weights)


def check_fit(settings: Settings, parent: Pretrained, class_names: Sequence[str] = ()) -> None:
    """Raise CheckpointError or ConfigError if the file does not fit the settings. `class_names`: of the data."""
    weights, incremental = parent.checkpoint, parent.kind == "incremental"
    if incremental:
        refuse_other_task(settings, weights, class_names)
    if incremental and weights.hidden != settings.head_hidden:
        raise CheckpointError(
            f"{weights.path} has a head with head_hidden: {weights.hidden}, "
            f"{settings.said_by('head_hidden')} sets {settings.head_hidden}.",
            expected="the same head_hidden: the head's rows are reused",
            fix=f"head_hidden={weights.hidden}, or for a fresh head: mslab transfer CONFIG --backbone FILE",
        )
    names = [*weights.network.layout(), *head_names(settings, weights)]
    freezing.check(names, settings)
    loaded = checkpoint.select_names(weights.backbone, parent.include_pattern, "backbone") | set(
        weights.head if incremental else ()
    )
    if not_loaded := freezing.frozen(names, settings) - loaded:
        parts = ", ".join(sorted({part_of(name, settings.network) for name in not_loaded}))
        reason = (
            f"--only {quoted(parent.include_pattern)} does not load it" if parent.include_pattern else "the head is new"
        )
        raise ConfigError(
            f"{parts} would be frozen at random weights: {reason}.",
            expected="every frozen parameter loaded from the file",
            fix="freeze less, or load more",
        )


def head_names(settings: Settings, weights: Checkpoint) -> list[str]:
    """The names of what a network of these settings has after its backbone."""
    if settings.task in tasks.MAPS:
        return list(layout.tensors(weights.map_shapes, settings.class_num))
    names = [f"{part}{name}" for part in dialects.HEADS for name in ("weight", "bias")]
    return names[: 4 if settings.head_hidden else 2]


def refuse_other_task(settings: Settings, weights: Checkpoint, class_names: Sequence[str]) -> None:
    """Raise CheckpointError unless a complete network can be trained further on this task. Only a head of classes has
    rows that are reused by name.
    """
    same = settings.task == weights.task
    if same and (settings.task == tasks.CLASSIFY or list(class_names) == weights.class_names):
        return
    what = f"is of task {weights.task}, {settings.said_by('task')} sets {settings.task}."
    if same:
        what = f"has {', '.join(weights.class_names)}, and the data {', '.join(class_names)}."
    raise CheckpointError(
        f"{weights.path} {what}",
        expected="a network of the same task, and with the same names in the same order unless it classifies",
        fix="for a fresh head on its backbone: mslab transfer CONFIG --backbone FILE",
    )


def load_parent(network: nn.Cell, weights: Checkpoint, manifest: Mapping[str, Any], task: str) -> str:
    """Load a parent's weights into a fresh network: the backbone and, in incremental training, rows of the head."""
    pattern = manifest["parent"].get("only")
    text = load_exactly(network.backbone.parameters_dict(), weights.backbone, weights.path, "backbone", pattern)
    names, parent_names = manifest["class_names"], weights.class_names
    if manifest["kind"] != "incremental":
        noun = tasks.NOUNS.get(task, "class")
        return f"{text}; head: new ({counted(len(names), noun)})"
    if weights.task != tasks.CLASSIFY:
        own = {name: p for name, p in network.parameters_dict().items() if name in weights.head}
        return f"{text}; {load_exactly(own, weights.head, weights.path, 'head')}"
    for part, fresh in network.head.parameters_dict().items():
        if part.startswith("hidden."):  # shared by all classes
            fresh.set_data(ms.Tensor(weights.head[part]))
            continue
        rows = fresh.asnumpy().copy()
        for index, name in enumerate(names):
            if name in parent_names:
                rows[index] = weights.head[part][parent_names.index(name)]
        fresh.set_data(ms.Tensor(rows))
    new, dropped = [n for n in names if n not in parent_names], [n for n in parent_names if n not in names]
    parts = [f"{len(names) - len(new)} of {len(names)} classes reused by name"]
    parts += [f"{label}: {', '.join(rows)}" for label, rows in (("new", new), ("left out", dropped)) if rows]
    return f"{text}; head: {'; '.join(parts)}"


def parent_of(run: RunFolder) -> Checkpoint:
    """Read the file that a run began from. Raises RunError if it has changed since."""
    parent = run.manifest["parent"]
    file = weight_files.parent_file(parent)
    if not file.is_file() or files.sha256(file) != parent["sha256"]:
        raise RunError(
            f"{run.path} began from {parent['file']}, which is missing (looked up from {Path.cwd()}) or has changed.",
            expected=f"the file with sha256 {parent['sha256'][:12]}…: no completed epoch has saved its weights",
            fix="restore the file, or begin a new run",
        )
    return checkpoint.read(file, choice_of(parent))


def choice_for(settings: Settings, choice: Choice = NO_CHOICE) -> Choice:
    """The choice about a file that these settings begin from: their network, if it is mindcv's, tells its names."""
    return replace(choice, network=settings.network or "")


def choice_of(parent: Mapping[str, Any]) -> Choice:
    """What the user decided about the parent's file, as the manifest records it."""
    return Choice(*(parent.get(name, "") for name in ("dialect", "weights", "network")))
