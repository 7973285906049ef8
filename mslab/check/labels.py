"""A table of names and labels beside images in folders that say nothing -> the class of each image.

The images stay where they are. All that is wrong with the table is one error; what was left out or guessed is a note.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from mslab import files
from mslab.check.columns import Columns, cell, find_columns, shown
from mslab.check.folder_names import folder_names
from mslab.check.named_images import ImageFinder, images_below, plain
from mslab.check.records import Labels, printable
from mslab.check.tabular import Table, TableRow, plain_number, read_table
from mslab.errors import DatasetError
from mslab.files import kind_of

NO_LABEL = {"", "nan", "null", "#n/a", "<na>"}  # "None" and "NA" may be classes
NAMES = ("labels", "label_list", "classes", "class_names", "classnames", "names", "label_names", "categories")
LISTED = 4
Problem = tuple[str, str]  # what is wrong, where
Find = Callable[[str], list[str]]  # a cell of the table -> the images that it may mean
EXPECTED = "one label for each image, and one spelling for each label"


def folder_of(table: Path) -> Path:
    """The folder in which a table's images are looked for: its own, or, if there are none in it, the one above."""
    here = Path(os.path.abspath(table)).parent  # noqa: PTH100
    return table.parent if images_below(here) or here.parent == here else Path(os.path.normpath(table.parent / ".."))


def read_labels(
    path: Path, folder: Path | None = None, image_column: str = "", label_column: str = "", inside: bool = False
) -> Labels:
    """Read a table of labels for the images in `folder`, by default those beside or below the table.

    `inside`: paths in the table lead nowhere else. Raises DatasetError that lists every problem.
    """
    table = read_table(path)
    labels = Labels(path, folder or folder_of(path), notes=[("labels", note) for note in table.notes])
    present = images_below(labels.folder)
    find = finder_of(labels, present, inside)
    columns = find_columns(table, find, image_column, label_column)
    labels.notes.insert(0, ("labels", columns.described()))
    rows, problems = matched(columns, find, labels)
    texts = {image: label for image, (_, label) in rows.items()}
    problems += [*misspelt(texts.values()), *too_many(texts)]
    if problems:
        raise refused(table, problems)
    texts = named_by_list(labels, texts)
    without_row(labels, present, texts.keys())
    place(labels, columns, {image: row for image, (row, _) in rows.items()}, texts)
    return labels


def finder_of(labels: Labels, present: Sequence[str], inside: bool) -> Find:
    """What finds the images of a table's cells: paths that lead to a file, else names among the images present."""
    finder, start = ImageFinder(present, labels.table), labels.table.parent

    def find(name: str) -> list[str]:
        direct = os.path.normpath(start / name.replace("\\", "/")) if name and not inside else ""
        if direct and kind_of(Path(direct), links=True) == "a file":
            return [Path(os.path.relpath(direct, labels.folder)).as_posix()]
        return finder.find(name)

    return find


def read_column(path: Path, folder: Path, column: str) -> dict[str, str]:
    """{image, relative to `folder`: its cell} of a table's column, of the images that it names. Raises DatasetError."""
    table, labels = read_table(path), Labels(path, folder)
    find = finder_of(labels, images_below(folder), inside=True)
    rows, problems = matched(find_columns(table, find, "", column), find, labels)
    if problems:
        raise refused(table, problems)
    return {image: text for image, (_, text) in rows.items()}


def matched(columns: Columns, find: Find, labels: Labels) -> tuple[dict[str, tuple[TableRow, str]], list[Problem]]:
    """({image: its first row and its label}, what is wrong)."""
    rows: dict[str, tuple[TableRow, str]] = {}
    left: dict[str, list[str]] = defaultdict(list)
    problems: dict[str, list[str]] = defaultdict(list)
    for row in columns.rows:
        name, label = cell(row, columns.image), columns.label_of(row)
        found = find(name)
        if len(row.cells) > len(columns.names):
            problems["cells"].append(f"line {row.line} has {len(row.cells)} cells, the others {len(columns.names)}")
        elif not found:
            left["row-without-image"].append(name or f"line {row.line}, which has no name")
        elif len(found) > 1:
            problems["two images"].append(f"line {row.line}: {name} may be {found[0]} or {found[1]}")
        elif label.casefold() in NO_LABEL:
            left["no-label"].append(name)
        elif found[0] not in rows:
            rows[found[0]] = row, label
        elif rows[found[0]][1] != label:
            first, other = rows[found[0]]
            problems["two labels"].append(f"{name}: {other} in line {first.line}, {label} in line {row.line}")
        else:
            left["duplicate-row"].append(name)
    missing = left["row-without-image"]
    if 2 * len(missing) > len(columns.rows):
        problems["no image"] = missing
    labels.notes += [(code, f"{count_of(code, len(names))}: {some(names)}") for code, names in left.items() if names]
    return rows, [(what, text) for what, texts in problems.items() for text in several(texts)]


def count_of(code: str, count: int) -> str:
    """What rows that are left out lack."""
    texts = {
        "row-without-image": "whose image is not there",
        "no-label": "without a label",
        "duplicate-row": "for images that an earlier row names with the same label",
    }
    rows = "1 row" if count == 1 else f"{count} rows"
    return f"{rows} {texts[code]}"


def some(names: list[str]) -> str:
    return shown(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


def several(texts: list[str]) -> list[str]:
    return texts[:LISTED] + [f"… and {len(texts) - LISTED} more"] * (len(texts) > LISTED)


def misspelt(labels: Iterable[str]) -> Iterator[Problem]:
    """Labels that differ only in capitals or Unicode form: on macOS and Windows they are one folder."""
    counts = Counter(labels)
    spelled: dict[str, list[str]] = defaultdict(list)
    for label in sorted(counts):
        spelled[plain(label)].append(label)
    for names in spelled.values():
        if len(names) > 1:
            yield "spelling", " and ".join(f"{name!r} ({counts[name]} images)" for name in names)


def too_many(texts: dict[str, str]) -> Iterator[Problem]:
    """A column of measurements or of names is none of labels: nearly each image has its own."""
    different = len(set(texts.values()))
    if len(texts) >= 10 and 2 * different > len(texts):
        yield "labels", f"{different} different ones for {len(texts)} images: {shown(list(texts.values())[:3])} …"


def refused(table: Table, problems: list[Problem]) -> DatasetError:
    kinds = {what for what, _ in problems}
    fixes = {
        "cells": "put a cell that contains the separator between double quotes",
        "no image": "give the folder of these images, or the column of their names: --image-column NAME",
        "two images": "write the name with its folder and suffix, as train/0001.jpg",
        "two labels": "keep the row with the right label",
        "spelling": "spell each label in one way",
        "labels": "name the column of the labels: --label-column NAME",
    }
    return DatasetError(
        f"{table.path} does not say which image has which label.",
        details=[(what, printable(text)) for what, text in problems],
        expected=EXPECTED,
        fix="\n".join(fix for what, fix in fixes.items() if what in kinds),
    )


def named_by_list(labels: Labels, texts: dict[str, str]) -> dict[str, str]:
    """The labels, with the names from a list beside the table (labels.txt) in the place of whole numbers."""
    values = {plain_number(text) for text in texts.values()}
    if not all(re.fullmatch(r"\d{1,6}", value) for value in values):
        return texts
    texts = {image: plain_number(text) for image, text in texts.items()}
    names, source = class_list(labels)
    if not names:
        return texts
    if unknown := sorted((v for v in values if int(v) not in names), key=int):
        labels.notes.append(("labels", f"{source.name} has no name for {shown(unknown)}: the numbers stay"))
        return texts
    labels.notes.append(("labels", f"{source.name} names them: {shown([f'{k} {names[k]}' for k in sorted(names)])}"))
    return {image: names[int(text)] for image, text in texts.items()}


def class_list(labels: Labels) -> tuple[dict[int, str], Path]:
    """({index: name}, the file) of a list of classes beside the table: a name a line, or an index and a name."""
    for name in NAMES:
        path = labels.table.with_name(f"{name}.txt")
        if path.name != labels.table.name and kind_of(path, links=True) == "a file":
            try:
                lines = [line.strip() for line in files.read_text(path).splitlines() if line.strip()]
            except (OSError, ValueError):
                continue
            pairs = [re.fullmatch(r"(\d{1,6})[\s,;:]+(\S.*)", line) for line in lines]
            if all(pairs):
                return {int(pair[1]): pair[2].strip() for pair in pairs if pair}, path
            return dict(enumerate(lines)), path
    return {}, labels.table


def without_row(labels: Labels, present: Iterable[str], named: Iterable[str]) -> None:
    """Note the images that the table does not name."""
    has_row = set(named)
    left = [image for image in present if image not in has_row]
    if left:
        places = Counter(image.rpartition("/")[0] or "." for image in left)
        where = shown([f"{count} in {place}/" for place, count in places.most_common()])
        images = "1 image" if len(left) == 1 else f"{len(left)} images"
        text = f"{images} without a row ({where}), such as {printable(left[0])}"
        labels.notes.append(("image-without-row", text))


def place(labels: Labels, columns: Columns, rows: dict[str, TableRow], texts: dict[str, str]) -> None:
    """Fill in the images' names, CLASS/FILE, and the other columns."""
    folders = folder_names(texts.values())
    for label, name in folders.items():
        if label != name:
            labels.notes.append(("labels", f"the class of {label!r} is called {name}, which every system can store"))
    same = Counter(plain(f"{folders[text]}/{image.rpartition('/')[2]}") for image, text in texts.items())
    names: dict[str, str] = {}
    taken = {name for name, count in same.items() if count == 1}
    for image, text in texts.items():
        name = f"{folders[text]}/{image.rpartition('/')[2]}"
        if same[plain(name)] > 1:  # a/1.jpg and b/1.jpg of one class
            base = "-".join(part for part in image.split("/") if part != "..")
            name, number = f"{folders[text]}/{base}", 2
            while plain(name) in taken:
                name, number = f"{folders[text]}/{number}-{base}", number + 1
            taken.add(plain(name))
        names[image] = name
    order = sorted(names, key=lambda image: names[image])
    labels.files = {names[image]: labels.folder / image for image in order}
    others = [i for i in range(len(columns.names)) if i != columns.image]
    labels.columns = {columns.names[i]: {names[image]: cell(rows[image], i) for image in order} for i in others}
