"""The table of `mslab weights`: what is published, and what of it is here."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mslab import files
from mslab.errors import CheckpointError
from mslab.runtime.tables import cell, empty_table, fold, render
from mslab.weights import registry
from mslab.weights.obtaining import folder
from mslab.weights.registry import Published, near

UNKNOWN = "unknown"


def rows(part: str = "") -> list[Published]:
    """The weights whose names contain a text, in any case. Raises CheckpointError if there are none."""
    found = [entry for entry in registry.table().values() if part.lower() in entry.name.lower()]
    if found:
        return found
    names = near(part)
    raise CheckpointError(
        f"No published weights have {part!r} in their names.",
        expected="a part of a name, such as resnet50, torchvision or timm:resnet18",
        fix=f"one of {', '.join(names)}" if names else "mslab weights    lists all of them",
    )


def megabytes_here(entry: Published) -> float | None:
    """The size of the file in the folder; None if it is not there."""
    path = folder() / entry.file
    return path.stat().st_size / 2**20 if files.kind_of(path, links=True) == "a file" else None


def to_json(entries: Sequence[Published]) -> dict[str, Any]:
    """The JSON document of `mslab weights --json`."""
    derived = ("project", "network", "file", "digits")
    listed = [
        asdict(entry) | {key: getattr(entry, key) for key in derived} | {"here": megabytes_here(entry) is not None}
        for entry in entries
    ]
    return {"schema": 1, "folder": str(folder()), "weights": listed}


def table(entries: Sequence[Published]) -> str:
    """The table for a terminal; a name's short form below it."""
    names = ["name", "network", "top-1", "crop", "MiB", "licence", "here"]
    text = {"name", "network", "crop", "licence", "here"}
    grid = empty_table("published weights", names, text, ("network", "licence", "MiB", "crop"), "--json FILE")
    for entry in entries:
        here = megabytes_here(entry)
        size = here or entry.megabytes
        crop = f"{entry.crop} of {entry.resize or UNKNOWN}" if entry.crop else UNKNOWN
        figures = f"{entry.top1:.2f}" if entry.top1 else UNKNOWN, crop, f"{size:.0f}" if size else UNKNOWN
        grid.add_row(cell(entry.name), cell(entry.network), *figures, entry.licence, "yes" if here else "no")
    short = {short: entry.name for short, entry in registry.defaults().items() if short != entry.name}
    ends = [f"{name} is {whole}" for name, whole in short.items() if any(row.name == whole for row in entries)]
    notes = ["top-1: percent of ImageNet-1K's validation images, as the project publishes it, at that crop"]
    notes += [
        "(code): the licence of the project's code; it names none for the weights, to which ImageNet's terms may apply"
    ]
    notes += [f"short names: {'; '.join(ends)}"] if ends else []
    notes += [f"folder: {folder()} (MSLAB_WEIGHTS); mslab weights get NAME    fetches one"]
    return "\n".join([render(grid), *map(fold, notes)])
