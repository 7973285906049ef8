"""Which file of weights a path stands for: of a run folder best.ckpt or best_backbone.ckpt. Imports no MindSpore."""

from pathlib import Path

from mslab import checkpoint
from mslab.checkpoint import NO_CHOICE, Choice
from mslab.errors import RunError
from mslab.escaping import command
from mslab.files import kind_of
from mslab.runs import finding, manifest


def best_file(run_or_ckpt: object) -> Path:
    """The file itself, or the best.ckpt of a run. Raises RunError for one without, and what find_network raises."""
    path = finding.find_network(run_or_ckpt)
    if kind_of(path, links=True) != "a folder":
        return path
    best = manifest.file_of(path, "checkpoints/best.ckpt")
    if not best.is_file():
        raise RunError(
            f"{path} has no checkpoints/best.ckpt.",
            expected="a run folder with at least one completed epoch",
            fix=f"{command('train', '--resume', path)}    or use another run or a .ckpt file",
        )
    return best


def backbone_file(run_or_ckpt: object) -> Path:
    """The file itself, or the best_backbone.ckpt of a run. Raises RunError for a run without one, as best_file does."""
    path = finding.find_network(run_or_ckpt)
    if kind_of(path, links=True) != "a folder":
        return path
    if manifest.is_pack(path):
        return best_file(path)
    best = path / "checkpoints" / "best_backbone.ckpt"
    if not best.is_file():
        raise RunError(
            f"{path} has no checkpoints/best_backbone.ckpt.",
            expected="a run folder with at least one completed epoch",
            fix=f"{command('train', '--resume', path)}    or use another run or a file of weights",
        )
    return best


def refuse(network: object = None, backbone: object = None, choice: Choice = NO_CHOICE) -> None:
    """Raise CheckpointError or RunError unless these files can be read: before images are, which may take minutes."""
    if network is not None:
        checkpoint.read(best_file(network), choice)
    if backbone is not None:
        checkpoint.read(backbone_file(backbone), choice)
