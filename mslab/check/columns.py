"""Which column of a table has the names of the images, and which the labels. Where that is unclear, it asks."""

import difflib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mslab.check.formats import is_image
from mslab.check.records import printable
from mslab.check.tabular import EXPECTED, Table, TableRow
from mslab.errors import DatasetError
from mslab.escaping import quoted

SAMPLE = 300  # rows in which the names of images are looked for
# how the column of the labels is usually called
WORDS = "label labels class classes class_name classname category target y species breed diagnosis dx expected variety "
WORDS += "label_name class_id classid label_id category_id category_name type cultivar klasse classe clase "
WORDS += "标签 类别 类 分类 标注 种类 品种 ラベル 레이블"
LABELS = frozenset(WORDS.split())
SHOWN = 8  # columns in a message


@dataclass
class Columns:
    """The rows below the header, and what their cells are."""

    names: list[str]  # of every column; 1, 2, … without a header
    rows: list[TableRow]
    image: int
    labels: list[int]  # one column, or several one-hot ones
    has_header: bool = True

    def label_of(self, row: TableRow) -> str:
        """The row's label; "" if it has none."""
        if len(self.labels) == 1:
            return cell(row, self.labels[0])
        return next((self.names[i] for i in self.labels if number(cell(row, i)) == 1), "")

    def described(self) -> str:
        """What the columns are taken for."""
        one_hot = f"the columns {shown([self.names[i] for i in self.labels])} (1 in one of them)"
        labels = one_hot if len(self.labels) > 1 else f"column {printable(self.names[self.labels[0]])}"
        return f"images from column {printable(self.names[self.image])}, labels from {labels}"


def cell(row: TableRow, index: int) -> str:
    return row.cells[index] if index < len(row.cells) else ""


def number(text: str) -> float | None:
    if text.casefold() in ("true", "false"):
        return float(text.casefold() == "true")
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return None


def shown(names: list[str]) -> str:
    return ", ".join(map(printable, names[:SHOWN])) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def find_columns(table: Table, find: Callable[[str], list[str]], image: str = "", label: str = "") -> Columns:
    """Choose the columns. `image` and `label`: their names, or numbers from 1. Raises DatasetError if it is unclear."""
    width = width_of(table)
    first = table.rows[0]
    if len(table.rows) == 1 and not any(map(find, first.cells)):
        raise DatasetError(f"{table.path} has a header and no rows.", expected=EXPECTED, fix="write the rows into it")
    at = column_called(table, image, "--image-column") if image else most_images(table, find, width)
    has_header = not (find(cell(first, at)) or is_image(cell(first, at)) or repeated(table, at, width))
    names = [cell(first, i) or f"{i + 1}" if has_header else f"{i + 1}" for i in range(width)]
    columns = Columns(names, table.rows[has_header:], at, [], has_header)
    if label:
        columns.labels = [column_called(table, label, "--label-column")]
    else:
        columns.labels = label_columns(table.path, columns)
    return columns


def width_of(table: Table) -> int:
    """The number of columns: the first row's, or the usual one if it is larger (empty cells at the end are gone)."""
    counts = Counter(len(row.cells) for row in table.rows)
    return max(len(table.rows[0].cells), max(counts, key=lambda count: (counts[count], count)))


def column_called(table: Table, name: str, option: str) -> int:
    """The index of the column that an option names. Raises DatasetError if there is none."""
    names = table.rows[0].cells
    for same in (str, str.casefold):
        for index, other in enumerate(names):
            if same(other) == same(name.strip()):
                return index
    if name.strip().isdecimal() and 1 <= int(name) <= width_of(table):
        return int(name) - 1
    plain = {other.casefold(): other for other in names}
    close = difflib.get_close_matches(name.casefold(), plain, n=1)
    raise DatasetError(
        f"{table.path} has no column {name!r}.",
        expected=f"one of its columns: {shown(names)}; or a number from 1 to {width_of(table)}",
        fix=f"{option} {quoted(plain[close[0]] if close else names[0])}",
    )


def most_images(table: Table, find: Callable[[str], list[str]], width: int) -> int:
    """The column that names the most images. Raises DatasetError if none names one."""
    step = max(1, len(table.rows) // SAMPLE)
    rows = table.rows[::step]
    found = [{image for row in rows for image in find(cell(row, i))[:1]} for i in range(width)]
    best = max(range(width), key=lambda i: len(found[i]))
    if not found[best]:
        raise DatasetError(
            f"{table.path} names no image that is there.",
            details=[("its line 1", shown(table.rows[0].cells)), ("its last line", shown(table.rows[-1].cells))],
            expected="a column with names or paths of images in the folder, with or without suffix",
            fix="put the table beside its images, or name their column: --image-column NAME",
        )
    return best


def repeated(table: Table, image: int, width: int) -> bool:
    """Whether another cell of the first line comes again below it, as a label does and a header does not."""
    first = table.rows[0]
    others = [i for i in range(width) if i != image and cell(first, i)]
    return any(any(cell(row, i) == cell(first, i) for row in table.rows[1:]) for i in others)


def label_columns(path: Path, columns: Columns) -> list[int]:
    """The column of the labels, or several one-hot ones. Raises DatasetError if it could be any of several."""
    others = [i for i in range(len(columns.names)) if i != columns.image]
    others = [i for i in others if any(cell(row, i) for row in columns.rows)]
    known = [i for i in others if columns.names[i].casefold().replace(" ", "_") in LABELS]
    if len(known) > 1:
        known = same_in_words(columns, known)
    if len(others) == 1 or len(known) == 1:
        return known or others
    flags = [] if known else [i for i in others if {number(cell(row, i)) for row in columns.rows} <= {0, 1}]
    wrong = [row for row in columns.rows if sum(number(cell(row, i)) or 0 for i in flags) != 1]
    if len(flags) > 1 and not wrong:
        return flags
    names = [columns.names[i] for i in others]
    if len(flags) > 1:
        own = [columns.names[i] for i in flags if number(cell(wrong[0], i)) == 1]
        note = f"line {wrong[0].line} has 1 in {shown(own) or 'none'}; here each image has one class"
    else:
        values = {columns.names[i]: Counter(cell(row, i) for row in columns.rows) for i in (known or others)[:SHOWN]}
        note = "; ".join(f"{printable(n)}: {shown([v for v, _ in c.most_common(3)])}" for n, c in values.items())
    best = columns.names[(known or others)[0]] if others else ""
    fix = f"--label-column {quoted(best)}    of mslab data import; for train_data, keep only the image and its label"
    raise DatasetError(
        f"{path} has {'several columns that may be the labels: ' + shown(names) if others else 'no labels'}.",
        details=[("in them", note)] * bool(others),
        expected="one column of labels, or one-hot columns with exactly one 1 in each row",
        fix=fix if others else "write the label beside the name of each image",
    )


def same_in_words(columns: Columns, known: list[int]) -> list[int]:
    """Of the columns of a class's number and name, the one of the name; all of them if they say different things."""
    words = [i for i in known if not all(number(cell(row, i)) is not None for row in columns.rows)]
    if len(words) == 1:
        pairs = {i: {(cell(row, i), cell(row, words[0])) for row in columns.rows} for i in known}
        if all(len(own) == len({a for a, _ in own}) == len({b for _, b in own}) for own in pairs.values()):
            return words
    return known
