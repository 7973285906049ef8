"""A table of labels in the place of class folders -> Split. Its images are read where they are."""

import os
from collections.abc import Iterator
from pathlib import Path

from mslab.check.labels import read_labels
from mslab.check.levels import Shape
from mslab.check.records import Finding, Split
from mslab.check.report import DatasetReport
from mslab.check.scan import Folders, record_of

SEVERITY = {"row-without-image": "warning", "no-label": "warning"}  # of the notes on a table; others are infos
FIXES = {
    "row-without-image": "put the images there, or delete the rows",
    "no-label": "write the labels into it, or delete the rows",
    "duplicate-row": "nothing; or delete the rows",
    "image-without-row": "nothing, if they are of another split; or add rows",
}


def scan_table(name: str, table: Path, base: Path, follow_links: bool, ignore: frozenset[str]) -> Split:
    """The split that a table describes. `base`: what the paths of its findings begin at. Raises DatasetError."""
    labels = read_labels(table)
    prefix = Path(os.path.relpath(table.parent, base)).as_posix()
    split = Split(name, table, "" if prefix == "." else f"{prefix}/", table=labels, shape=Shape())
    inside = os.path.commonpath([os.path.abspath(path.parent) for path in labels.files.values()])  # noqa: PTH100
    folders = Folders(Path(inside), follow_links, ignore)
    for image, path in labels.files.items():
        class_name = image.partition("/")[0]
        if ignore & {class_name, image, path.name, os.path.relpath(path, labels.folder)}:
            continue
        records = split.classes.setdefault(class_name, [])
        if not (follow_links or Path(os.path.realpath(path)).is_relative_to(folders.inside)):
            split.links[image] = "leaves"
            continue
        records.append(record_of(image, path.stat()))
    return split


def table_notes(report: DatasetReport) -> Iterator[Finding]:
    """What was guessed or left out when a table was read."""
    for split in report.splits.values():
        for code, text in split.table.notes if split.table else ():
            fix = FIXES.get(code, "nothing, if that is right; else keep two columns, the image and its label")
            yield Finding(code, SEVERITY.get(code, "info"), split.show(), f"({text})", fix)


RULES = [table_notes]
