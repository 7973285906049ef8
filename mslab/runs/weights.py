"""Which file of weights a path stands for: of a run folder best.ckpt or best_backbone.ckpt. Imports no MindSpore."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mslab import checkpoint, files, weights
from mslab.checkpoint import NO_CHOICE, Choice
from mslab.config.tasks import CLASSIFY
from mslab.errors import RunError
from mslab.escaping import command, quoted, typed_with
from mslab.files import kind_of
from mslab.runs import finding, lock, manifest


def best_file(run_or_ckpt: object) -> Path:
    """The file itself, or the best.ckpt of a run. Raises RunError for one without, and what find_network raises."""
    path = finding.find_network(run_or_ckpt)
    if kind_of(path, links=True) != "a folder":
        return path
    best = manifest.file_of(path, "checkpoints/best.ckpt")
    if kind_of(best, links=True) != "a file":
        raise RunError(
            f"{path} has no checkpoints/best.ckpt.",
            expected="a run folder with at least one completed epoch",
            fix=without_best(path),
        )
    return best


def without_best(run: Path) -> str:
    """The fix for a folder without best.ckpt: what is left of the run, or how to get it."""
    if not kind_of(run / "manifest.json", links=True):
        return finding.one_of_the_runs()
    left = [file for file in sorted((run / "checkpoints").glob("*.ckpt")) if file.name != "best_backbone.ckpt"]
    if manifest.load(run)["status"] != "done":  # a finished run is not resumed
        if left:
            return f"{lock.go_on(run)}    or use {quoted(left[-1])}"
        return f"{lock.go_on(run)}    or use another run or a .ckpt file"
    if not left:
        return f"{command('reproduce', run)}    trains it again"
    return typed_with(run, left[-1]) or f"use {quoted(left[-1])}"


def backbone_file(run_or_ckpt: object) -> Path:
    """The file itself, or the best_backbone.ckpt of a run; its best.ckpt or last.ckpt contain that, too."""
    path = finding.find_network(run_or_ckpt)
    if path.name == "checkpoints" or kind_of(path, links=True) != "a folder":
        return path
    if manifest.is_pack(path):
        return best_file(path)
    files = [path / "checkpoints" / f"{name}.ckpt" for name in ("best_backbone", "best", "last")]
    best = next((file for file in files if kind_of(file, links=True) == "a file"), None)
    if best is None:
        raise RunError(
            f"{path} has no checkpoints/best_backbone.ckpt.",
            expected="a run folder with at least one completed epoch",
            fix=f"{lock.go_on(path)}    or use another run or a file of weights",
        )
    return best


def parent_file(parent: Mapping[str, Any]) -> Path:
    """The file that a run began from, by the manifest's entry: where it was, or published weights by their name.

    Raises CheckpointError if it is published, not there, and cannot be fetched. Otherwise it may not exist.
    """
    file = Path(parent["file"])
    if parent.get("published") and not (kind_of(file, links=True) and files.sha256(file) == parent["sha256"]):
        return weights.obtain(parent["published"])
    return file


def reading_of(network: object, choice: Choice = NO_CHOICE) -> dict[str, Any]:
    """What check_dataset takes to read data as this network was trained: the folders of its classes, if they were
    chosen or merged, and how images become square. Raises what refuse() raises.
    """
    info = checkpoint.read(best_file(network), choice).info
    return {"trained": info.get("folders"), "resize_mode": info.get("resize_mode", "crop")}


def task_of(network: object, choice: Choice = NO_CHOICE) -> str:
    """What a network says of an image. Raises what refuse() raises."""
    return checkpoint.read(best_file(network), choice).task


def refuse_task(network: str | Path, what: str) -> None:
    """Raise RunError for a network of another task than classification. `what`: a clause, what needs classes."""
    task = task_of(network)
    if task != CLASSIFY:
        raise RunError(
            f"{network} is of task: {task}; {what}.",
            expected="a network of task: classify",
            fix=f"{command('report', network)}    shows the images of its worst answers"
            if kind_of(Path(str(network)), links=True) == "a folder"
            else f"{command('eval', network, '--data', 'ROOT')}    has its figures",
        )


def refuse(network: object = None, backbone: object = None, choice: Choice = NO_CHOICE) -> None:
    """Raise CheckpointError or RunError unless these files can be read: before images are, which may take minutes."""
    if network is not None:
        checkpoint.read(best_file(network), choice)
    if backbone is not None:
        checkpoint.read(backbone_file(backbone), choice)
