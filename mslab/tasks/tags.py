"""Tags in a table: a column of images, and a column of 0 and 1 for each tag."""

import csv
from pathlib import Path

import numpy as np

from mslab import files
from mslab.tasks.labels import ImageLabels, LabelSet, Problems
from mslab.tasks.names import file_name

NAMES = ("file_name", "filename", "file", "image", "image_name", "image_path", "path", "id", "name")
MOST_TAGS = 10_000
NOTHING = ""


def read_tags(path: Path) -> tuple[LabelSet, Problems]:
    """(the sound rows, the problems of the others)."""
    problems, found = Problems(), {}
    try:
        rows = list(files.table_rows(files.read_text(path)))
    except (OSError, files.FormatError, csv.Error) as error:
        problems.add("label-file", "error", "", f"(it cannot be read: {getattr(error, 'strerror', 0) or error})")
        return LabelSet(), problems
    columns = [column for column in (rows[0] if rows else {}) if column is not None]
    image = next((c for c in columns if c.strip().casefold() in NAMES), columns[0] if columns else NOTHING)
    tags = [column for column in columns if column != image]
    if not rows or not tags or len(tags) > MOST_TAGS:
        text = "(it has no rows, or no column beside that of the images)"
        problems.add("label-file", "error", "", text if len(tags) <= MOST_TAGS else f"(it has {len(tags):,} columns)")
        return LabelSet(), problems
    for number, row in enumerate(rows, 2):
        name = file_name(row[image] or "", problems)
        if not name:
            continue
        if name in found:
            problems.add("duplicate-row", "error", name, f"(line {number} names it again)")
            continue
        values = [(row[tag] or "").strip() for tag in tags]
        if wrong := next(
            (f"{tag} is {value!r}" for tag, value in zip(tags, values, strict=True) if not is_bit(value)), ""
        ):
            problems.add("tag-value", "error", name, f"(line {number}: {wrong}, and not 0 or 1)")
            continue
        bits = np.array([float(value) for value in values], np.uint8)
        found[name] = ImageLabels(name, tags=bits)
    images = tuple(found[name] for name in sorted(found))
    return LabelSet(images, (), tuple(tag.strip() for tag in tags)), problems


def is_bit(text: str) -> bool:
    return text in ("0", "1", "0.0", "1.0")
