"""Tags in a table: a column of images, and a column of 0 and 1 for each tag."""

import csv
import io
from pathlib import Path

import numpy as np

from mslab import files
from mslab.tasks.labels import ImageLabels, LabelSet, Problems
from mslab.tasks.names import file_name

NAMES = ("file_name", "filename", "file", "image", "image_name", "image_path", "path", "id", "name")
MOST_TAGS = 10_000


def read_tags(path: Path) -> tuple[LabelSet, Problems]:
    """(the sound rows, the problems of the others)."""
    problems, found = Problems(), dict[str, ImageLabels]()
    tags: list[str] = []
    try:
        text = files.read_text(path)
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=files.delimiter_of(text), skipinitialspace=True)
        columns = [column.strip() for column in next(rows, [])]
        image = next((i for i, column in enumerate(columns) if column.casefold() in NAMES), 0)
        tags = columns[:image] + columns[image + 1 :]
        if problem := unusable(tags):
            problems.add("label-file", "error", "", problem)
            return LabelSet(), problems
        for row in filter(None, rows):
            name = file_name(row[image], problems) if image < len(row) else ""
            if name in found:
                problems.add("duplicate-row", "error", name, f"(line {rows.line_num} names it again)")
            elif name:
                bits = bits_of(row[:image] + row[image + 1 :], tags, (name, rows.line_num), problems)
                found |= {name: ImageLabels(name, tags=bits)} if bits is not None else {}
    except (OSError, files.FormatError, csv.Error) as error:
        problems.add("label-file", "error", "", f"(it cannot be read: {getattr(error, 'strerror', 0) or error})")
    return LabelSet(tuple(found[name] for name in sorted(found)), (), tuple(tags)), problems


def unusable(tags: list[str]) -> str:
    """Why these columns cannot be tags, or ""."""
    if not tags:
        return "(it has no column beside that of the images)"
    if len(tags) > MOST_TAGS:
        return f"(it has {len(tags):,} columns)"
    twice = next((tag for tag in tags if tags.count(tag) > 1), None) if len(set(tags)) < len(tags) else None
    return "" if twice is None else f"(two of its columns are called {twice!r})"


def bits_of(cells: list[str], tags: list[str], place: tuple[str, int], problems: Problems) -> np.ndarray | None:
    """(T,) 0 or 1; None, and a problem, for a row with anything else. `place`: the image and the line."""
    values = [cell.strip() for cell in cells]
    if len(values) != len(tags):
        problems.add("tag-value", "error", place[0], f"(line {place[1]} has {len(values)} values for {len(tags)} tags)")
        return None
    wrong = next((f"{tag} is {value!r}" for tag, value in zip(tags, values, strict=True) if not is_bit(value)), "")
    if wrong:
        problems.add("tag-value", "error", place[0], f"(line {place[1]}: {wrong}, and not 0 or 1)")
        return None
    return np.array([float(value) for value in values], np.uint8)


def is_bit(text: str) -> bool:
    return text in ("0", "1", "0.0", "1.0")
