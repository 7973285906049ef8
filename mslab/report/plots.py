"""Curves, as a picture and as text for the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mslab import schedule
from mslab.checkpoint import replace_atomically
from mslab.config import Settings
from mslab.training.learning_rates import rates_of

BLANK = 0x2800  # the Braille character without a dot
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a Braille character: four rows of two


def curve(
    x: Sequence[float] | np.ndarray,
    y: Sequence[float] | np.ndarray,
    xlabel: str,
    ylabel: str,
    path: Path,
    log_x: bool = False,
    marks: Sequence[tuple[float, str]] = (),
) -> None:
    """Write y over x as a PNG. `marks`: (x, text) of vertical lines."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(x, y)
    if log_x:
        axes.set_xscale("log")
    for number, (place, text) in enumerate(marks):
        axes.axvline(place, color=f"C{number + 1}", linestyle="--", label=text)
    if marks:
        axes.legend()
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_atomically(path, lambda temporary: figure.savefig(temporary, dpi=120, format="png"))


def terminal(
    x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray, width: int = 64, height: int = 12
) -> str:
    """The same as lines of text, in Braille dots: the highest and lowest y on the left, the first and last x below."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    across, low, high = np.linspace(x[0], x[-1], 2 * width), y.min(), y.max()
    cells = braille(np.interp(across, x, y), low, high, height)
    labels = [f"{high:.4g}", *[""] * (height - 2), f"{low:.4g}"]
    margin = max(map(len, labels))
    lines = [f"{label:>{margin}} ┤{''.join(map(chr, row))}" for label, row in zip(labels, cells, strict=True)]
    first, last = f"{x[0]:.4g}", f"{x[-1]:.4g}"
    return "\n".join([*lines, f"{'':>{margin}} └{'─' * width}", f"{'':>{margin}}  {first}{last:>{width - len(first)}}"])


def braille(y: np.ndarray, low: float, high: float, height: int, dashed: bool = False) -> np.ndarray:
    """Characters, int (height, width), of a line through y, float (2 * width,), on a scale from low to high.

    NaN is a gap, and every second character is one where it is `dashed`.
    """
    rows = np.round((high - y) / ((high - low) or 1) * (4 * height - 1))
    cells = np.full((height, len(y) // 2), BLANK)
    for column, row in enumerate(rows):
        if np.isnan(row) or (dashed and column // 2 % 2):
            continue
        before = rows[max(0, column - 1)]
        row, before = int(row), int(row if np.isnan(before) else before)
        for dot in range(min(row, before + (before < row)), max(row, before - (before > row)) + 1):  # joined up
            cells[dot // 4, column // 2] |= DOTS[dot % 4][column % 2]
    return cells


def draw_schedule(config: Settings, out: Path, steps_per_epoch: int = 100) -> str:
    """Write the picture of a config's learning rate over the epochs. Returns it as text, with what it is in words."""
    rates = rates_of(config, steps_per_epoch)
    epochs = np.arange(len(rates)) / steps_per_epoch
    ends = [int(e) for e in str(config.lr_scheduler_step or "").split(",") if e]
    marks: list[tuple[float, Any]] = [(end, f"after epoch {end}") for end in ends]
    curve(epochs, rates, "epoch", "learning rate", out, marks=marks)
    drawn = f"{out}: the picture; drawn with {steps_per_epoch} steps an epoch"
    return "\n".join([*described(config), terminal(epochs, rates), "learning rate over epochs", drawn])


def described(config: Settings) -> list[str]:
    """The schedule in words."""
    if config.lr_scheduler == "strategy" and config.learning_rate_strategy:
        phases, lines, begin = schedule.parse(config.learning_rate_strategy), [], 0
        for phase in phases:
            rate = f"{phase.first:g}" if phase.shape == "constant" else f"from {phase.first:g} to {phase.last:g}"
            lines.append(f"  epochs {begin} to {phase.end}: {phase.shape} {rate}")
            begin = phase.end
        return [f"learning_rate_strategy {schedule.format_strategy(phases)}", *lines]
    rates = rates_of(config, 100)
    text = f"lr_scheduler {config.lr_scheduler}: {config.epochs} epochs, from {rates[0]:.4g}, at most {rates.max():.4g}"
    lines = [f"{text}, {rates[-1]:.4g} in the last step"]
    if config.lr_scheduler == "plateau":
        fall = f"times {config.lr_scheduler_factor:g} after {config.plateau_patience} evaluations"
        lines.append(f"  it falls while training, {fall} without a better val_acc; the highest it can be is drawn")
    return lines
