"""Tables for a terminal, with cells of any text."""

import io
import shutil
from collections.abc import Container, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mslab.escaping import escape_control


def empty_table(
    title: str | Text | None, names: Sequence[str | Text], left: Container[str | Text] = ("",), **columns: Any
) -> Table:
    """Return a table with these columns and no rows. Columns named in `left` contain text, the others numbers.

    `columns`: further options of Rich for each column, such as no_wrap.
    """
    table = Table(box=box.SIMPLE, title=title)
    for name in names:
        table.add_column(name, justify="left" if name in left else "right", **columns)
    return table


def render(table: Table) -> str:
    """Return the table as plain text, as wide as the terminal allows."""
    width = max(80, min(120, shutil.get_terminal_size((100, 24)).columns))
    # a notebook's kernel claims to be a terminal with colours, and Rich would display the table there
    console = Console(file=io.StringIO(), width=width, force_jupyter=False, force_terminal=False)
    console.print(table)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]


def one_line(text: Any, most: int = 60) -> str:
    """Return any text as one line of a terminal: control characters are escaped, the middle of a long text is cut."""
    plain = escape_control(str(text), safe="")
    return plain if len(plain) <= most else f"{plain[: most // 2]}…{plain[len(plain) - most // 2 + 1 :]}"


def cell(text: Any, most: int = 60) -> Text:
    """Return the same for a table cell, in which Rich would read [brackets] as markup."""
    return Text(one_line(text, most))


def plural(number: int, noun: str) -> str:
    """plural(2, "epoch") -> "2 epochs"."""
    return f"{number} {noun}{'s' * (number != 1)}"
