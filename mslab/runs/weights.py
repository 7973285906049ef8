"""Which file of weights a path stands for: of a run folder best.ckpt or best_backbone.ckpt. Imports no MindSpore."""

import os
from pathlib import Path

from mslab import checkpoint
from mslab.checkpoint import NO_CHOICE, Choice
from mslab.errors import CheckpointError, RunError
from mslab.escaping import command, quoted, typed_with
from mslab.files import kind_of
from mslab.runs import manifest


def best_file(run_or_ckpt: str | Path) -> Path:
    """The path itself, or the best.ckpt of a run folder. Raises RunError for a folder without one."""
    path = path_of(run_or_ckpt)
    if kind_of(path, links=True) != "a folder":
        return path
    best = manifest.file_of(path, "checkpoints/best.ckpt")
    if not best.is_file():
        raise RunError(
            f"{path} has no checkpoints/best.ckpt.",
            expected="a run folder with at least one completed epoch",
            fix=without_best(path),
        )
    return best


def without_best(run: Path) -> str:
    """The fix for a folder without best.ckpt: what is left of the run, or how to get it."""
    if not (run / "manifest.json").is_file():
        return manifest.one_of_the_runs()
    left = [file for file in sorted((run / "checkpoints").glob("*.ckpt")) if file.name != "best_backbone.ckpt"]
    if manifest.load(run)["status"] != "done":  # a finished run is not resumed
        if left:
            return f"{command('train', '--resume', run)}    or use {quoted(left[-1])}"
        return f"{command('train', '--resume', run)}    or use another run or a .ckpt file"
    if not left:
        return f"{command('reproduce', run)}    trains it again"
    return typed_with(run, left[-1]) or f"use {quoted(left[-1])}"


def backbone_file(run_or_ckpt: str | Path) -> Path:
    """The path itself, or the best_backbone.ckpt of a run folder; its best.ckpt or last.ckpt contain that, too."""
    path = path_of(run_or_ckpt)
    if path.name == "checkpoints" or kind_of(path, links=True) != "a folder":
        return path
    files = [path / "checkpoints" / f"{name}.ckpt" for name in ("best_backbone", "best", "last")]
    return next((file for file in files if kind_of(file, links=True) == "a file"), path)


def path_of(value: object) -> Path:
    """A path that a caller gives. Raises CheckpointError for what is none, such as None or ""."""
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise CheckpointError(
            f"{value!r} is no path.", expected="a run folder or a file of weights", fix=manifest.one_of_the_runs()
        )
    return Path(value)


def refuse(network: str | None = None, backbone: str | None = None, choice: Choice = NO_CHOICE) -> None:
    """Raise CheckpointError or RunError unless these files can be read: before images are, which may take minutes."""
    if network is not None:
        checkpoint.read(best_file(network), choice)
    if backbone is not None:
        checkpoint.read(backbone_file(backbone), choice)
