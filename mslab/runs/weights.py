"""Which file of weights a path stands for: of a run folder best.ckpt or best_backbone.ckpt. Imports no MindSpore."""

import os
from pathlib import Path

from mslab import checkpoint
from mslab.checkpoint import NO_CHOICE, Choice
from mslab.errors import CheckpointError, RunError
from mslab.escaping import command
from mslab.files import kind_of
from mslab.runs import manifest


def best_file(run_or_ckpt: str | Path) -> Path:
    """The path itself, or the best.ckpt of a run folder. Raises RunError for a folder without one."""
    path = path_of(run_or_ckpt)
    if kind_of(path, links=True) != "a folder":
        return path
    best = manifest.file_of(path, "checkpoints/best.ckpt")
    if not best.is_file():
        resume = f"{command('train', '--resume', path)}    or use another run or a .ckpt file"
        raise RunError(
            f"{path} has no checkpoints/best.ckpt.",
            expected="a run folder with at least one completed epoch",
            fix=resume if (path / "manifest.json").is_file() else manifest.one_of_the_runs(),
        )
    return best


def backbone_file(run_or_ckpt: str | Path) -> Path:
    """The path itself, or the best_backbone.ckpt of a run folder."""
    path = path_of(run_or_ckpt)
    return path / "checkpoints" / "best_backbone.ckpt" if kind_of(path / "checkpoints", links=True) else path


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
