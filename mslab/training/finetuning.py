"""Beginning from saved weights: transfer puts a fresh head on a backbone, incremental training keeps the head, too."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms
from mindspore import nn

from mslab import checkpoint
from mslab.checkpoint import Checkpoint, dialects, load_exactly
from mslab.config import Settings
from mslab.errors import CheckpointError, ConfigError, RunError
from mslab.evaluation import measuring
from mslab.runs import manifest as manifests
from mslab.runs.folder import RunFolder
from mslab.training import freezing


@dataclass(frozen=True)
class Pretrained:
    """The checkpoint that a run begins from."""

    kind: str  # of the run: transfer or incremental
    checkpoint: Checkpoint
    only: str | None = None  # a regular expression: the backbone's parameters to load; the rest begins fresh

    def record(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return manifests.parent(Path(self.checkpoint.path), self.only)

    def notes(self) -> list[str]:
        """What is said of it when training begins."""
        weights, rows = self.checkpoint, [f"{self.checkpoint.path}: {self.checkpoint.describe()}"]
        if self.kind == "transfer" and weights.head:
            classes = len(weights.class_names)
            rows.insert(0, f"{weights.path} is a whole network ({classes} classes): its head is left out")
        return rows


def backbone_of(path: str | Path, only: str | None = None) -> Pretrained:
    """A backbone to put a fresh head on. Raises CheckpointError where the file is none, or not exactly a network."""
    weights = read_backbone(path)
    weights.check()
    return Pretrained("transfer", weights, only)


def read_backbone(path: str | Path) -> Checkpoint:
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


def network_of(source: str | Path) -> Pretrained:
    """A whole network to train on. Raises CheckpointError where it has no head, or no names of classes."""
    weights = checkpoint.read(measuring.best_file(source))
    if not weights.head or not weights.info.get("class_names"):
        lacks = "no class names" if weights.head else "no head"
        raise CheckpointError(
            f"{weights.path} has {lacks}, so no row of it can be kept by name.",
            expected="best.ckpt of a mslab run",
            fix="for a fresh head: mslab transfer CONFIG --backbone FILE",
        )
    weights.check()
    return Pretrained("incremental", weights)


def check_fit(settings: Settings, parent: Pretrained) -> None:
    """CheckpointError or ConfigError where the file does not suit the settings."""
    weights, whole = parent.checkpoint, parent.kind == "incremental"
    if whole and weights.hidden != settings.head_hidden:
        raise CheckpointError(
            f"{weights.path} has a head with head_hidden: {weights.hidden}, the config says {settings.head_hidden}.",
            expected="the same head, whose rows are kept",
            fix=f"head_hidden={weights.hidden}, or for a fresh head: mslab transfer CONFIG --backbone FILE",
        )
    head = [f"{part}{name}" for part in dialects.HEADS for name in ("weight", "bias")]
    layout = dialects.layout(weights.stages, weights.profile)
    names = [*layout, *head[: 4 if settings.head_hidden else 2]]
    freezing.check(names, settings)
    loaded = checkpoint.select_names(weights.backbone, parent.only, "backbone") | set(weights.head if whole else ())
    if lost := freezing.frozen(names, settings) - loaded:
        parts = ", ".join(sorted({freezing.part_of(name) for name in lost}))
        why = f"--only {parent.only} leaves it fresh" if parent.only else "the head is new"
        raise ConfigError(
            f"{parts} would be frozen at random weights: {why}.",
            expected="nothing frozen that is not loaded",
            fix="freeze less, or load more",
        )


def load_parent(network: nn.Cell, weights: Checkpoint, manifest: Mapping[str, Any]) -> str:
    """Put a parent's weights into a fresh network: its backbone and, in incremental training, its head's known rows."""
    only = manifest["parent"].get("only")
    text = load_exactly(network.backbone.parameters_dict(), weights.backbone, weights.path, "backbone", only)
    names, known = manifest["class_names"], weights.class_names
    if manifest["kind"] != "incremental":
        return f"{text}; head: new ({len(names)} classes)"
    for part, fresh in network.head.parameters_dict().items():
        if part.startswith("hidden."):  # what all classes share
            fresh.set_data(ms.Tensor(weights.head[part]))
            continue
        rows = fresh.asnumpy().copy()
        for index, name in enumerate(names):
            if name in known:
                rows[index] = weights.head[part][known.index(name)]
        fresh.set_data(ms.Tensor(rows))
    new, gone = [n for n in names if n not in known], [n for n in known if n not in names]
    parts = [f"{len(names) - len(new)} of {len(names)} classes kept by name"]
    parts += [f"{what}: {', '.join(rows)}" for what, rows in (("new", new), ("left out", gone)) if rows]
    return f"{text}; head: {'; '.join(parts)}"


def parent_of(run: RunFolder) -> Checkpoint:
    """The file that a run began from. Raises RunError where it has changed since."""
    parent = run.manifest["parent"]
    if not Path(parent["file"]).is_file() or checkpoint.sha256(Path(parent["file"])) != parent["sha256"]:
        raise RunError(
            f"{run.path} began from {parent['file']}, which is not there (seen from {Path.cwd()}), or is another now.",
            expected=f"the file with sha256 {parent['sha256'][:12]}…: no epoch was completed that holds its weights",
            fix="restore the file, or begin a new run",
        )
    return checkpoint.read(parent["file"])
