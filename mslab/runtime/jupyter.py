"""Output in a notebook: messages as plain output, and one table of epochs that grows while a run trains.

IPython is never imported here: in a notebook it is there already.
"""

import importlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from mslab.escaping import escape_control
from mslab.runtime.tables import decimals

COLUMNS = ("epoch", "train_loss", "train_acc", "val_loss", "val_acc", "seconds")
PAUSE = 1.0  # seconds between two drawings of the progress bar, and before its first


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook: of Jupyter, VS Code or Colab, and no IPython in a terminal."""
    ipython = sys.modules.get("IPython")
    return getattr(ipython and ipython.get_ipython(), "kernel", None) is not None


class Cell:
    """What the current cell prints, for messages: standard error would be shown in red."""

    def write(self, text: str) -> None:
        sys.stdout.write(text)

    def flush(self) -> None:
        sys.stdout.flush()

    def isatty(self) -> bool:
        return False


class LiveView:
    """A table with a row per epoch and a progress bar below it, drawn in place; the bar goes when the work ends."""

    def __init__(self) -> None:
        self.rows: list[tuple[Mapping[str, Any], str]] = []
        self.text, self.open = "", True
        self.fraction: float | None = None
        self.handle: Any = None  # of the display, once there is one
        self.drawn = time.monotonic()

    def add(self, row: Mapping[str, Any], line: str) -> None:
        """Add an epoch: its row of history.csv, and the line that a terminal shows."""
        self.rows.append((row, line))
        self._draw()

    def show(self, text: str, fraction: float | None) -> None:
        """Change the progress bar. What ends within a second is not shown at all."""
        self.text, self.fraction = text, fraction
        if time.monotonic() - self.drawn > PAUSE:
            self._draw()

    def close(self) -> None:
        """Remove the bar. Without a row its text stays, as an output cannot be taken back and would be empty."""
        self.open = False
        if self.rows:
            self.text = ""
        if self.handle:
            self._draw()

    def _draw(self) -> None:
        self.drawn = time.monotonic()
        content = {"text/plain": self._plain(), "text/html": self._html()}
        if self.handle:
            self.handle.update(content, raw=True)
        else:
            self.handle = importlib.import_module("IPython.display").display(content, raw=True, display_id=True)

    def _plain(self) -> str:
        return "\n".join([*(line for _, line in self.rows), *[self.text] * bool(self.text)])

    def _html(self) -> str:
        more = [name for name in (self.rows[0][0] if self.rows else ()) if name.startswith("val_")]  # best_by adds some
        usual = [name for name in COLUMNS[:-1] if self.rows and name in self.rows[0][0]]  # a task has no val_acc
        columns = [*usual, *(name for name in more if name not in COLUMNS), COLUMNS[-1]]
        head = cells("th", columns)
        body = Markup("").join(cells("td", [shown(row, name) for name in columns]) for row, _ in self.rows)
        page = Markup("<table>{}{}</table>").format(head, body) if self.rows else Markup("")
        if self.text:
            value = "" if self.fraction is None else Markup(' value="{:.3f}"').format(self.fraction)
            bar = Markup("<progress{}></progress> ").format(value) if self.open else Markup("")
            page += bar + self.text
        return escape_control(page)


def cells(tag: str, texts: Sequence[str]) -> Markup:
    # cells("td", ["1", "0.5"]) -> <tr><td>1</td><td>0.5</td></tr>
    return Markup("<tr>{}</tr>").format(Markup("").join(Markup(f"<{tag}>{{}}</{tag}>").format(text) for text in texts))


def shown(row: Mapping[str, Any], column: str) -> str:
    # shown({"val_acc": 0.98765}, "val_acc") -> "0.988"; nothing for an epoch without evaluation
    value = row[column]
    if value != value:
        return ""
    return str(value) if column == "epoch" else f"{value:.0f}" if column == "seconds" else decimals(value)
