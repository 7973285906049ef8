"""history.csv and steps.csv of a run: a row for each epoch, and the loss of each step."""

import csv
import hashlib
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mslab import files
from mslab.errors import RunError

MAX_EPOCHS = 100_000  # of a history that is read
COLUMNS = ["epoch", "step", "lr", "train_loss", "train_acc", "val_loss", "val_acc", "images_per_s", "seconds"]


def read_history(path: Path) -> list[dict[str, Any]]:
    """Read history.csv; an epoch without evaluation has NaN. [] without a file. Raises RunError."""
    if not path.is_file():
        return []
    try:
        rows = itertools.islice(csv.DictReader(files.read_lines(path)), MAX_EPOCHS + 1)
        history = [
            {key: int(row[key][:20]) if key in ("epoch", "step") else float(row[key] or "nan") for key in COLUMNS}
            for row in rows
        ]
        if len(history) > MAX_EPOCHS or any(not 0 <= row["epoch"] <= MAX_EPOCHS for row in history):
            raise ValueError(f"more than {MAX_EPOCHS:,} epochs")
        return history
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise RunError(
            f"{path} cannot be read: {repr(error)[:200]}.",
            expected=f"the columns {', '.join(COLUMNS)}, with a number in each",
            fix="restore the file that mslab wrote",
        ) from None


def history_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The content of history.csv."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
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
        first, *lines = files.read_text(path).splitlines() or ["step,loss"]
        if first.replace('"', "") != "step,loss":
            raise ValueError("its first line is another")
        if (numbers := step_numbers(lines)) != sorted(numbers):
            raise ValueError("its steps are not in order")
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or str(error)[:200]}.",
            expected="the columns step and loss, with a number in each",
            fix="restore the file that mslab wrote",
        ) from None
    return lines


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
