"""Tables as a terminal shows them, whatever is in their cells."""

import io
import shutil
from collections.abc import Container, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mslab.runtime import console


def empty_table(
    title: str | Text | None, names: Sequence[str | Text], left: Container[str | Text] = ("",), **columns: Any
) -> Table:
    """A table of these columns without rows. Columns named in `left` hold words, the others numbers.

    `columns`: what else Rich is told of each, such as no_wrap.
    """
    table = Table(box=box.SIMPLE, title=title)
    for name in names:
        table.add_column(name, justify="left" if name in left else "right", **columns)
    return table


def render(table: Table) -> str:
    """The table as text, plain where standard output is no terminal."""
    width = max(80, min(120, shutil.get_terminal_size((100, 24)).columns))
    # a notebook's kernel says that it is a terminal with colours, and Rich would show the table there by itself
    console = Console(file=io.StringIO(), width=width, force_jupyter=False, force_terminal=False)
    console.print(table)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]


def shown(text: Any, most: int = 60) -> str:
    """Text from outside on one line of a terminal: no control or direction characters, the middle of a long one cut."""
    plain = console.escape_control(str(text), kept="")
    return plain if len(plain) <= most else f"{plain[: most // 2]}…{plain[len(plain) - most // 2 + 1 :]}"


def cell(text: Any, most: int = 60) -> Text:
    """The same in a table, where [brackets] would else be markup."""
    return Text(shown(text, most))
