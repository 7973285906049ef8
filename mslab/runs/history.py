"""history.csv and steps.csv of a run: a row for each epoch, and the loss of each step.

Whoever has saved history.csv since, a figure is what the run has measured, or an error.
"""

import csv
import hashlib
import io
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mslab.errors import RunError
from mslab.escaping import quoted
from mslab.files import FormatError, decode, delimiter_of, read_bytes
from mslab.runs.manifest import lost

COLUMNS = ["epoch", "step", "lr", "train_loss", "train_acc", "val_loss", "val_acc", "images_per_s", "seconds"]
FRACTIONS = ("_acc", "_accuracy", "_f1", "_recall")  # ends of columns with numbers from 0 to 1
MAX_EPOCHS = 100_000  # of a history that is read


def read_history(path: Path, extra: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Read history.csv; an epoch without evaluation has NaN. [] without a file. Raises RunError.

    `extra`: further columns of the run, of ranking.extra.
    """
    if not path.is_file():
        return []
    try:
        content = read_bytes(path)
        if not content.strip(b"\0\r\n\t "):
            raise FormatError("it contains zero bytes only, as after a crash" if b"\0" in content else "it is empty")
        return list(rows_of(decode(content), [*COLUMNS, *extra]))
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RunError(
            f"{path} cannot be read: {reason}.",
            expected=f"the columns {', '.join([*COLUMNS, *extra])}, with a number in each, epoch after epoch",
            fix=f"{lost(path.parent, path.name)}\n"
            f"or have reports without its curves (steps.csv still has the loss of each step):\nrm {quoted(path)}",
        ) from None


def rows_of(text: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a text, which may be a spreadsheet's: with other separators, quotation marks, further columns."""
    if "\0" in text:
        raise FormatError(f"line {text[: text.index(chr(0))].count(chr(10)) + 1} contains a zero byte")
    if text.count("\n") > MAX_EPOCHS + 1:
        raise FormatError(f"more than {MAX_EPOCHS:,} epochs")
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter_of(text), strict=True)
    header = [name.strip() for name in next(lines)]
    if missing := [name for name in columns if name not in header]:
        raise FormatError(f"its first line has no {', '.join(missing)}")
    if twice := [name for name, count in Counter(header).items() if count > 1 and name in columns]:
        raise FormatError(f"it has the column {twice[0]} twice")
    if not text.endswith(("\n", "\r")):
        raise FormatError("its last line has no end, so it was cut")
    epoch = 0
    for values in lines:
        if not any(values):  # a blank line, as editors leave at the end
            continue
        if len(values) != len(header):
            raise FormatError(f"line {lines.line_num} has {len(values)} values for {len(header)} columns")
        row = dict(zip(header, values, strict=True))
        numbers = {key: number(key, row[key].strip(), lines.line_num) for key in columns}
        epoch += 1
        if numbers["epoch"] > MAX_EPOCHS:
            raise FormatError(f"more than {MAX_EPOCHS:,} epochs")
        if numbers["epoch"] != epoch:
            raise FormatError(f"line {lines.line_num} is epoch {numbers['epoch']}, where epoch {epoch} belongs")
        yield numbers


def number(key: str, text: str, line: int) -> float:
    """A value of this column. Raises FormatError that says which one is wrong."""
    whole, place = key in ("epoch", "step"), f"line {line}, {key}: {text[:40]!r}"
    try:
        value = int(text[:20]) if whole else float(text or "nan")
    except ValueError:
        comma = "; a spreadsheet has written decimal commas" * (text.count(",") == 1)
        raise FormatError(f"{place} is no {'whole ' * whole}number{comma}") from None
    if key.endswith(FRACTIONS) and not math.isnan(value) and not 0 <= value <= 1:
        raise FormatError(f"{place} is no fraction from 0 to 1")
    return value


def history_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The content of history.csv."""
    text, columns = io.StringIO(), list(rows[0]) if rows else COLUMNS
    columns = [*COLUMNS, *(name for name in columns if name not in COLUMNS)]  # those of best_by last
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {key: ("" if math.isnan(v) else f"{v:.6g}") if isinstance(v, float) else v for key, v in row.items()}
        for row in rows
    )
    return text.getvalue()


def digest_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """The sha256 of a history.csv with these rows, however a spreadsheet has saved it."""
    return hashlib.sha256(history_text(rows).encode()).hexdigest()


def read_steps(path: Path) -> list[str]:
    """The lines of steps.csv below its first: "STEP,LOSS". [] without a file. Raises RunError."""
    if not path.is_file():
        return []
    try:
        first, *lines = (text := decode(read_bytes(path))).splitlines() or ["step,loss"]
        if first != "step,loss":
            lines = list(steps_of(text))
        if (numbers := step_numbers(lines)) != sorted(numbers):
            raise ValueError("its steps are not in order")
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or str(error)[:200]}.",
            expected="the columns step and loss, with a number in each",
            fix=lost(path.parent, path.name),
        ) from None
    return lines


def steps_of(text: str) -> Iterator[str]:
    """The lines of a steps.csv that a spreadsheet has saved, as mslab writes them."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter_of(text), strict=True)
    if [name.strip() for name in next(rows)] != ["step", "loss"]:
        raise FormatError("its first line is another")
    for step, loss in filter(any, rows):
        numbers = number("step", step.strip(), rows.line_num), number("loss", loss.strip(), rows.line_num)
        yield f"{numbers[0]},{np.float32(numbers[1])!s}"


def step_numbers(lines: Sequence[str]) -> list[int]:
    return [int(line.partition(",")[0]) for line in lines]


def steps_text(before: Sequence[str], last: int, losses: Sequence[float]) -> str:
    """The content of steps.csv: the loss of each step up to number `last`, with all digits that a float32 has.

    `before`: lines of the file so far; steps of a killed epoch are repeated.
    """
    first = last - len(losses)
    kept = [line for line, number in zip(before, step_numbers(before), strict=True) if number <= first]
    new = [f"{first + number},{np.float32(loss)!s}" for number, loss in enumerate(losses, 1)]
    return "\n".join(["step,loss", *kept, *new]) + "\n"
