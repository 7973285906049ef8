"""Groups: images of one patient, mushroom or video, which belong on one side of a split. And the rule about leaks.

No name is guessed to be that of a group. `--group` says it, or `mslab data split --group` has: in groups.csv beside the
splits, and in the column `group` of the tables of folds.
"""

import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mslab import files
from mslab.check.labels import read_column
from mslab.check.records import Finding, ImageRecord, Split, printable
from mslab.check.report import DatasetReport
from mslab.errors import DatasetError
from mslab.escaping import command, quoted

RECORD = "groups.csv"  # beside the splits: image (CLASS/FILE), group
COLUMN = "group"  # of the tables of folds


@dataclass(frozen=True)
class Grouping:
    """Which images belong together: an equal part of their names, or an equal cell in a column of a table."""

    text: str  # what --group says
    pattern: re.Pattern[str] | None = None
    cells: Mapping[str, str] = field(default_factory=dict)  # CLASS/FILE -> group

    def group_of(self, image: str) -> str:
        """The group of an image, by its name CLASS/FILE; "" if it has none."""
        if self.pattern is None:
            return self.cells.get(image, "")
        match = self.pattern.search(image.partition("/")[2])
        return ((match[1] if self.pattern.groups else match[0]) or "") if match else ""


def grouping(text: str, report: DatasetReport, table: Path | None = None) -> Grouping:
    """What --group means: a column of the table that is ROOT or --labels, else a regular expression for names.

    Raises DatasetError if no image has a group, and re.error if the text is no expression.
    """
    found = None
    for split in report.splits.values():
        columns = split.table.columns if split.table else {}
        if name := next((name for name in columns if name.casefold() == text.strip().casefold()), None):
            found = Grouping(text, None, {**(found.cells if found else {}), **columns[name]})
    if table is not None:
        (split,) = report.splits.values()
        found = Grouping(text, None, read_column(table, split.root, text))
    found = found or Grouping(text, re.compile(text))
    images = [picture.name for split in report.splits.values() for picture in split.pictures]
    if not any(map(found.group_of, images)):
        others = [name for split in report.splits.values() if split.table for name in split.table.columns]
        raise DatasetError(
            f"--group {text!r} matches none of the {len(images)} names in {report.root}.",
            expected="a regular expression for file names, with the group's name in brackets: '(.+)_frame'"
            + f"; or a column: {', '.join(dict.fromkeys(map(printable, others)))}" * bool(others),
            fix=f"correct it; one of the names is {printable(images[0])}",
        )
    return found


def groups_csv(grouping: Grouping, pictures: list[ImageRecord]) -> str:
    """The record of a split's groups."""
    text = io.StringIO(newline="")
    rows = [(printable(p.name), printable(grouping.group_of(p.name))) for p in pictures]
    csv.writer(text, lineterminator="\n").writerows([("image", "group"), *(row for row in rows if row[1])])
    return text.getvalue()


def recorded(report: DatasetReport) -> dict[str, str]:
    """{CLASS/FILE: group} of groups.csv beside the splits; {} without it. Raises OSError and ValueError."""
    path = (report.layout.folder if report.layout else report.base) / RECORD
    if len(report.splits) < 2 or files.kind_of(path, links=True) != "a file":
        return {}
    rows = list(files.table_rows(files.read_text(path)))
    if rows and not {"image", "group"} <= rows[0].keys():
        raise ValueError("it lacks the columns image and group")
    return {row["image"]: row["group"] for row in rows}


def group_leaks(report: DatasetReport) -> Iterator[Finding]:
    """Groups of which images are in two splits."""
    try:
        known = recorded(report)
    except (OSError, ValueError, csv.Error) as error:
        text = f"(the groups of the split cannot be read: {error}; leaks of groups are not looked for)"
        yield Finding("group-leak", "warning", RECORD, text, "restore it, or split again with --group")
        known = {}
    members: dict[str, dict[str, list[str]]] = defaultdict(dict)  # group -> {split: its images}
    for split in report.splits.values():
        for picture in split.pictures:
            if group := group_in(report, split, picture.name) or known.get(printable(picture.name), ""):
                members[group].setdefault(split.name, []).append(split.show(picture.name))
    sizes = Counter({group: sum(map(len, own.values())) for group, own in members.items()})
    for group, own in sorted(members.items()):
        if len(own) < 2:
            continue
        (before, known_images), *_, (after, images) = own.items()
        text = f"(the group {printable(group)!r} is in {before}, too, such as {known_images[0]}: the network may know "
        text += f"it from there. {len(images)} of its {sizes[group]} images are in {after})"
        if 2 * sizes[group] > report.images:
            text = f"{text[:-1]}; most images are in this group: --group may name a part that most names have)"
        yield Finding("group-leak", "warning", images[0], text, split_again(report))


def group_in(report: DatasetReport, split: Split, image: str) -> str:
    if report.grouping:
        return report.grouping.group_of(image)
    return split.table.columns.get(COLUMN, {}).get(image, "") if split.table else ""


def split_again(report: DatasetReport) -> str:
    option = quoted(report.grouping.text) if report.grouping else "REGEX|COLUMN"
    again = command("data", "split", "ROOT", "--group")
    return f"put all images of the group into one split; {again} {option}    does so with those before the split"


RULES = [group_leaks]
