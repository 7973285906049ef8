"""A table of labels as spreadsheets, scripts and competitions write it -> rows of cells. Guesses are notes."""

import csv
import io
import re
from dataclasses import dataclass, field
from pathlib import Path

from mslab import files
from mslab.errors import DatasetError

SUFFIXES = (".csv", ".tsv", ".txt", ".lst", ".list", ".tab")
SAMPLE = 200  # lines that decide what separates the columns
NOT_TEXT = {b"PK\3\4": "an Excel file or an archive", b"\xd0\xcf\x11\xe0": "an old Excel file"}
NOT_TEXT |= {b"PAR1": "a Parquet file", b"%PDF": "a PDF", b"{": "JSON", b"[{": "JSON", b"SQLite": "a database"}
EXPECTED = "a CSV or TXT file with an image and its class in each line, such as 0001.jpg,cat"
SAVE = "open it in a spreadsheet or with pandas and save it as CSV (UTF-8)"


@dataclass
class TableRow:
    """One line of the table."""

    line: int  # from 1
    cells: list[str]


@dataclass
class Table:
    """The rows of a table, without empty ones. `notes`: what was guessed."""

    path: Path
    rows: list[TableRow]
    notes: list[str] = field(default_factory=list)


def is_table(path: Path) -> bool:
    """Whether a path is a file that is called like a table of text."""
    return path.suffix.lower() in SUFFIXES and files.kind_of(path, links=True) == "a file"


def read_table(path: Path) -> Table:
    """Read the rows. Raises DatasetError if the file is no text, or has no rows."""
    table = Table(path, [])
    try:
        content = files.read_bytes(path)
        for start, kind in NOT_TEXT.items():
            if content.startswith(start):
                raise DatasetError(f"{path} is {kind}, not a table of text.", expected=EXPECTED, fix=SAVE)
        text = decoded(table, content)
        table.rows = [row for row in rows_of(text) if row.cells]
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be read: {error.strerror}.", expected=EXPECTED, fix="correct the path, or make it readable"
        ) from None
    except (files.FormatError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read: {error}.", expected=EXPECTED, fix=SAVE) from None
    if not table.rows:
        raise DatasetError(f"{path} is empty.", expected=EXPECTED, fix="write the names and classes into it")
    return table


def decoded(table: Table, content: bytes) -> str:
    """The text: UTF-8, UTF-16, GBK, or else Western Windows' letters."""
    try:
        text = files.decode(content)
    except files.FormatError:
        if b"\0" in content:
            raise
        table.notes.append("it is not UTF-8: read as Windows' Western letters (cp1252)")
        return content.decode("cp1252", "replace")
    if "\0" in text:
        raise files.FormatError("it contains null characters, as no text does")
    return text


def rows_of(text: str) -> list[TableRow]:
    """The lines as cells, without blanks around them. The separator is the one that gives every line as many cells."""
    named = re.match(r"sep=(.)\r?\n", text)  # Excel's own line
    text = "\n" + text[named.end() :] if named else text
    sample = text.splitlines()[:SAMPLE]
    scores = {mark: consistency(sample, mark) for mark in ([named[1]] if named else "\t;,|")}
    mark = max(scores, key=lambda mark: scores[mark])
    if not scores[mark]:  # "path label", as torchvision's and Paddle's lists
        lines = enumerate(text.splitlines(), 1)
        return [TableRow(number, stripped(line.rsplit(None, 1))) for number, line in lines]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, skipinitialspace=True)
    return [TableRow(reader.line_num, stripped(cells)) for cells in reader]


def stripped(cells: list[str]) -> list[str]:
    """The cells without blanks around them, and without the empty ones that spreadsheets put at the end."""
    texts = [cell.strip() for cell in cells]
    while texts and not texts[-1]:
        texts.pop()
    return texts


def consistency(lines: list[str], mark: str) -> float:
    """How many of the lines have the usual number of cells between these marks; 0 if that is one cell."""
    counts = [len(cells) for cells in csv.reader(lines, delimiter=mark, skipinitialspace=True) if any(cells)]
    usual = max(set(counts), key=lambda count: (counts.count(count), count), default=1)
    return 0.0 if usual < 2 else counts.count(usual) / len(counts)


def plain_number(text: str) -> str:
    """The text of a number as it was before a spreadsheet: "1.0" -> "1". Anything else is unchanged."""
    return re.sub(r"^(\d+)[.,]0+$", r"\1", text)
