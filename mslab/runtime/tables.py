"""Tables for a terminal, with cells of any text.

A terminal gets what fits into its width: names are shortened, then columns left out, and a line below says so. Anything
else (a pipe, a file, a notebook) gets the complete table, each row in one line.
"""

import re
import shutil
import sys
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.cells import cell_len, get_character_cell_size

from mslab.escaping import escape_control
from mslab.runtime import streams

LEAST, LEAST_FIRST = 12, 20  # cells to which a name is shortened before a column goes; the first one says which row
TINY = 4  # the same for the last two columns
LEAST_HEADER = 6  # the same for a header that is a name
COMMAND = r"(?:mslab|mv|rm|mkdir|pip|git|dvc) \S"  # how a command begins in a message
# where a line of Chinese, which has no spaces, may end: not before a closing sign, not after an opening one
CLOSING, OPENING = "，。、；：！？）》」』”’…", "（《「『“‘"
CHINESE = "\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef"
BREAK = re.compile(rf"(?:(?<=[{CHINESE}{CLOSING}])|(?=[{CHINESE}]))(?<![{OPENING}])(?<!^)(?![{CLOSING}])(?!$)")
NAMED = 5  # columns that the line below names


@dataclass
class Grid:
    """A table that render() lays out. Columns in `left` contain text, the others numbers, which are never shortened."""

    title: str
    names: Sequence[str]
    left: Container[str]
    leave_out: Sequence[str] = ()  # the columns that go first where the terminal is narrow; then those on the right
    complete: str = ""  # the option that writes all of it, such as --json FILE
    rows: list[list[str]] = field(default_factory=list)
    sections: list[int] = field(default_factory=list)  # numbers of rows below which a line is drawn

    def add_row(self, *cells: Any) -> None:
        self.rows.append([*map(str, cells), *[""] * (len(self.names) - len(cells))])

    def add_section(self) -> None:
        self.sections.append(len(self.rows))


def empty_table(
    title: str | None,
    names: Sequence[str],
    left: Container[str] = ("",),
    leave_out: Sequence[str] = (),
    complete: str = "",
) -> Grid:
    """Return a table with these columns and no rows."""
    return Grid(title or "", names, left, leave_out, complete)


def decimals(value: float, digits: int = 3) -> str:
    """A figure with so many digits after its point; a loss that exploded in the short form."""
    # decimals(0.51234) -> "0.512"; decimals(1.24576e30) -> "1.25e+30"
    return f"{value:.{digits}f}" if abs(value) < 1e6 else f"{value:.3g}"


def terminal_width() -> int:
    """Columns of the terminal that standard output is; 0 if it is none: then lines have any length."""
    return shutil.get_terminal_size((80, 24)).columns if sys.stdout and sys.stdout.isatty() else 0


def render(grid: Grid) -> str:
    """Return the table as plain text, as wide as the terminal allows."""
    width = terminal_width()
    lines = [[streams.drawn(text) for text in line] for line in ([*map(str, grid.names)], *grid.rows)]
    count = len(grid.names)
    natural = [max(cell_len(line[i]) for line in lines) for i in range(count)]
    least = [least_width(grid, lines, i) for i in range(count)]
    kept = list(range(count))
    order = [*(i for name in grid.leave_out for i in range(count) if grid.names[i] == name), *reversed(range(count))]
    for i in dict.fromkeys(order):
        if len(kept) == 2:
            least = [min(TINY, cells) if is_text(grid, k) else cells for k, cells in enumerate(least)]
        if not width or room(width, kept) >= sum(least[k] for k in kept) or len(kept) == 1:
            break
        if i != 0:
            kept.remove(i)
    widths = {i: natural[i] for i in kept}
    while width and sum(widths.values()) > max(1, room(width, kept)):
        over = [i for i in kept if widths[i] > (least[i] if len(kept) > 1 else 1)]
        widths[max(over, key=lambda i: widths[i])] -= 1
    padded = [[pad(shorten(line[i], widths[i]), widths[i], is_text(grid, i)) for i in kept] for line in lines]
    header, *body = (f"  {'   '.join(cells)}".rstrip() for cells in padded)
    for at in reversed(grid.sections):
        body.insert(at, "")
    rule = streams.drawn(f" {'─' * (sum(widths.values()) + 3 * len(kept) - 1)}")
    is_short = any(widths[i] < natural[i] for i in kept)
    title = fold(grid.title, width).splitlines()
    return "\n".join([*title, "", header, rule, *body, "", *remark(grid, kept, is_short, width)])


def room(width: int, kept: Sequence[int]) -> int:
    """Cells for texts: three are between two columns, two at each end."""
    return width - 3 * len(kept) - 1


def is_text(grid: Grid, i: int) -> bool:
    return grid.names[i] in grid.left


def least_width(grid: Grid, lines: Sequence[Sequence[str]], i: int) -> int:
    """The cells that a column needs: of a name some, of a number all, of a header that is a name some."""
    header, *cells = (cell_len(line[i]) for line in lines)
    if is_text(grid, i):
        return min(max(header, *cells, 1), LEAST if i else LEAST_FIRST)
    is_name = isinstance(grid.names[i], HeaderName)
    return max([min(header, LEAST_HEADER) if is_name else header, *cells])


class HeaderName(str):
    """A column's header that is a name, such as a class's, and may be shortened."""


def pad(text: str, width: int, left: bool) -> str:
    space = " " * (width - cell_len(text))
    return text + space if left else space + text


def shorten(text: str, most: int) -> str:
    """The same text in at most so many cells, without its middle."""
    # shorten("a_long_name_1", 7) -> "a_l…e_1"
    if cell_len(text) <= most:
        return text
    mark = streams.drawn("…")[:2]
    left = chop(text, (most - len(mark) + 1) // 2)
    right = chop(text[::-1], most - len(mark) - cell_len(left))[::-1]
    return f"{left}{mark}{right}" if most > len(mark) else chop(text, most)


def chop(text: str, most: int) -> str:
    """The beginning of a text that takes at most so many cells."""
    used = 0
    for number, c in enumerate(text):
        used += get_character_cell_size(c)
        if used > most:
            return text[:number]
    return text


def fold(text: str, width: int | None = None) -> str:
    """Prose in lines that fit into the terminal, broken between words; the middle of a longer word is left out."""
    width = terminal_width() if width is None else width
    text = streams.drawn(text)
    if not width:
        return text
    return "\n".join(part for line in text.splitlines() for part in fold_line(line, width))


def fold_line(line: str, width: int, whole: bool = False) -> list[str]:
    """The same of one line; what follows an indented one is indented by two more. `whole`: a longer word stays so."""
    if cell_len(line) <= width:
        return [line]
    indent = " " * min(len(line) - len(line.lstrip()), width // 3)
    start = f"{indent}  " if indent else ""
    lines = [indent]
    for part in line.split():
        space = " "
        for word in BREAK.split(part):
            word = word if whole else shorten(word, width - len(start))
            if lines[-1].strip() and cell_len(lines[-1]) + len(space) + cell_len(word) > width:
                lines.append(start)
            lines[-1] += f"{space}{word}" if lines[-1].strip() else word
            space = ""
    return lines


def fold_around_commands(line: str, indent: int = 0, width: int | None = None) -> str:
    """The same of a line that shows commands: each of them stays in one line, to be copied, as a path does.

    Four spaces end a command. What comes after the first line begins at `indent`.
    """
    # fold_around_commands("fix  correct it; or mslab check x    lists all", 5, 20)
    # -> "fix  correct it; or", "     mslab check x", "     lists all"
    width, text = terminal_width() if width is None else width, streams.drawn(line)
    if not width or cell_len(text) <= width:
        return text
    lines: list[str] = []
    for part in re.split(rf" (?={COMMAND})", text[indent:]):
        command, _, prose = part.partition("    ") if re.match(COMMAND, part) else ("", "", part)
        lines += [command] * bool(command)
        lines += fold_line(prose, max(LEAST_FIRST, width - indent), whole=True) * bool(prose)
    return text[:indent] + f"\n{'':{indent}}".join(lines)


def remark(grid: Grid, kept: Sequence[int], is_short: bool, width: int) -> list[str]:
    """The line that says what does not fit, and what shows it."""
    out = [shorten(str(name), 16) or "the last" for i, name in enumerate(grid.names) if i not in kept]
    if not out and not is_short:
        return []
    names = ", ".join(out[:NAMED]) + f" and {len(out) - NAMED} more" * (len(out) > NAMED)
    what = f"without {names}" if out else "names are shortened"
    return [fold(f"{what}: a wider terminal or {grid.complete or '| cat'} shows all", width)]


def one_line(text: Any, most: int = 60) -> str:
    """Return any text as one line of a terminal: control characters are escaped, the middle of a long text is cut."""
    plain = escape_control(str(text), safe="")
    return plain if len(plain) <= most else f"{plain[: most // 2]}…{plain[len(plain) - most // 2 + 1 :]}"


def cell(text: Any, most: int = 180) -> str:
    """The same for a table's cell, which render() shortens where the terminal is narrow."""
    return one_line(text, most)


def plural(number: int, noun: str) -> str:
    """plural(2, "epoch") -> "2 epochs"."""
    return f"{number} {noun}{'s' * (number != 1)}"
