"""Curves as a picture, and as text for the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mslab import schedule
from mslab.config import Settings
from mslab.files import replace_atomically
from mslab.runs import ranking
from mslab.runtime import streams, tables
from mslab.training.learning_rates import rates_of

BLANK = 0x2800  # the Braille character without a dot
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # bits of a Braille character: four rows of two dots


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
    for number, (position, text) in enumerate(marks):
        axes.axvline(position, color=f"C{number + 1}", linestyle="--", label=text)
    if marks:
        axes.legend()
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_atomically(path, lambda file: figure.savefig(file, dpi=120, format="png"))


def terminal(
    x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray, width: int = 64, height: int = 12
) -> str:
    """Draw y over x as text in Braille dots: highest and lowest y on the left, first and last x below.

    `width`: characters of the curve, on a terminal that is wide enough.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    low, high = y.min(), y.max()
    labels = [f"{high:.4g}", *[""] * (height - 2), f"{low:.4g}"]
    margin = max(map(len, labels))
    if screen := tables.terminal_width():
        width = max(8, min(width, screen - margin - 2))
    codes = braille(np.interp(np.linspace(x[0], x[-1], 2 * width), x, y), low, high, height)
    lines = [f"{label:>{margin}} ┤{''.join(map(chr, row))}" for label, row in zip(labels, codes, strict=True)]
    first, last = f"{x[0]:.4g}", f"{x[-1]:.4g}"
    lines += [f"{'':>{margin}} └{'─' * width}", f"{'':>{margin}}  {first}{last:>{width - len(first)}}"]
    return "\n".join(map(streams.drawn, lines))


def braille(y: np.ndarray, low: float, high: float, height: int, dashed: bool = False) -> np.ndarray:
    """Draw a line through y, float (2 * width,), scaled from low to high. Returns character codes, int (height, width).

    NaN makes a gap. `dashed`: every second character is a gap.
    """
    rows = np.round((high - y) / ((high - low) or 1) * (4 * height - 1))
    codes = np.full((height, len(y) // 2), BLANK)
    for column, row in enumerate(rows):
        if np.isnan(row) or (dashed and column // 2 % 2):
            continue
        before = rows[max(0, column - 1)]
        row, before = int(row), int(row if np.isnan(before) else before)
        for dot in range(
            min(row, before + (before < row)), max(row, before - (before > row)) + 1
        ):  # without gaps between columns
            codes[dot // 4, column // 2] |= DOTS[dot % 4][column % 2]
    return codes


def draw_schedule(config: Settings, out: Path, steps_per_epoch: int = 100) -> str:
    """Write a picture of a config's learning rate over the epochs. Returns the curve and its description as text."""
    rates = rates_of(config, steps_per_epoch)
    epochs = np.arange(len(rates)) / steps_per_epoch
    steps = [int(e) for e in str(config.lr_scheduler_step or "").split(",") if e]
    marks: list[tuple[float, Any]] = [(step, f"after epoch {step}") for step in steps]
    curve(epochs, rates, "epoch", "learning rate", out, marks=marks)
    note = f"{out}: the picture; drawn with {steps_per_epoch} steps per epoch"
    described = [tables.fold(line) for line in describe_schedule(config)]
    return "\n".join([*described, terminal(epochs, rates), "learning rate over epochs", tables.fold(note)])


def describe_schedule(config: Settings) -> list[str]:
    """Describe the schedule in lines of text."""
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
        change = f"multiplied by {config.lr_scheduler_factor:g} after {config.plateau_patience} evaluations"
        change += f" without a better {ranking.column(config.best_by)}"
        lines.append(f"  during training it is {change}; the curve shows its upper limit")
    return lines
