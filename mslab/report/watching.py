"""The curves of a run in the terminal, while it trains or after it. Reads files only: the run need not know."""

import functools
import operator
import statistics
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.text import Text

from mslab.report import plots
from mslab.runs import folder, manifest
from mslab.runs.folder import RunFolder
from mslab.runtime.console import log
from mslab.runtime.tables import shown

PAUSE = 0.5  # seconds from one look at the files to the next
WIDEST = 100  # characters of a chart
SHAPES = (("val", "yellow", False), ("train", "cyan", True))  # series, colour, whether it is dashed
AGAIN = "mslab train --resume RUN goes on"
WORDS = {  # status -> what it means to somebody who watches
    "failed": "failed: train.log says why",
    "interrupted": f"interrupted; {AGAIN}",
    "paused": f"paused; {AGAIN}",
    "gone": f"killed: its process is gone; {AGAIN}",
}


def watch(path: str | Path, once: bool = False) -> int:
    """Draw a run's curves until it has ended; once only where asked, or where standard output is no terminal.

    Returns the exit code: 0, or 130 after Ctrl-C, which the run does not notice. Raises what Run.read raises.
    """
    run, console = RunFolder.read(path), Console(file=sys.stdout)
    stopped = False
    if not once and sys.stdout.isatty() and not console.is_dumb_terminal:
        try:
            follow(run, console)
        except KeyboardInterrupt:
            stopped = True
            log.info("stopped watching; the run goes on as it is")
    console.print(picture(run, status_of(run), console), soft_wrap=True)  # every line fits
    return 130 if stopped else 0


def follow(run: RunFolder, console: Console) -> None:
    """Keep the whole screen up to date until the run has ended. What was on it comes back."""
    seen = drawn = None
    with Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
        while True:
            status = status_of(run)
            if (now := changed(run.path)) != seen:
                run.history, seen = folder.read_history(run.path / "history.csv"), now
            if (new := (seen, console.size, line(run, status, 1000))) != drawn:
                live.update(picture(run, status, console), refresh=True)
                drawn = new
            if status != "running":
                return
            time.sleep(PAUSE)


def changed(folder: Path) -> tuple[int, int]:
    """Something that differs once history.csv has been written anew; it is put in place whole."""
    try:
        found = (folder / "history.csv").stat()
    except OSError:
        return 0, 0
    return found.st_ino, found.st_mtime_ns


def status_of(run: RunFolder) -> str:
    """manifest.json's status, read now; "gone" where it says running, and no process does.

    A process that trains holds a lock on train.log. It lets go after it has written how it ended, so that the file has
    to be read after the lock was found open.
    """
    gone = is_free(run.path / "train.log")
    run.manifest = manifest.load(run.path)
    status = shown(run.manifest.get("status"), 20)
    return "gone" if gone and status == "running" else status


def is_free(log: Path) -> bool:
    """Whether no process has a lock on this file, twice, since one that begins has made it just before it locks it."""
    try:
        import fcntl  # Windows has none

        for pause in (0.05, 0):
            with log.open() as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            time.sleep(pause)
    except (OSError, ImportError):  # there is none yet, somebody has it, or the disk has no locks
        return False
    return True


def picture(run: RunFolder, status: str, console: Console) -> Text:
    """The run's name, one line in words, and two charts as large as the terminal lets them be."""
    words = line(run, status, console.width if sys.stdout.isatty() else 1000)
    parts = [Text(shown(run.path, console.width), "bold"), Text(words)]
    width, height = min(WIDEST, console.width), min(12, max(3, (console.height - 10) // 2))
    if run.history:
        for name, key in (("loss", "loss"), ("accuracy", "acc")):
            series = {part: np.array([row[f"{part}_{key}"] for row in run.history]) for part, _, _ in SHAPES}
            parts += [Text(), *chart(name, series, width, height)]
    return Text("\n").join(parts)


def chart(name: str, series: Mapping[str, np.ndarray], width: int, height: int) -> list[Text]:
    """Lines of a terminal: what is drawn how and where it is now, the curves over the epochs, the first and last epoch.

    `series`: floats (epochs,) by the names in SHAPES, NaN where an epoch was not measured.
    """
    known = {part: np.where(np.abs(y) < 1e30, y, np.nan) for part, y in series.items()}  # such as Braille can show
    values = np.concatenate(list(known.values()))
    low, high = (np.nanmin(values), np.nanmax(values)) if np.isfinite(values).any() else (0.0, 1.0)
    labels = [f"{high:.4g}", *[""] * (height - 2), f"{low:.4g}"]
    margin = max(map(len, labels))
    inside, epochs = max(8, width - margin - 2), len(values) // len(known)
    across = np.linspace(1, max(2, epochs), 2 * inside)
    title, layers = Text(f"{name:<10}"), []
    for part, colour, dashed in SHAPES:
        there = np.isfinite(known[part])
        if not there.any():
            continue
        x, y = np.flatnonzero(there) + 1, known[part][there]
        drawn = np.interp(across, x, y, left=np.nan, right=np.nan)
        drawn[np.abs(across - x[0]).argmin()] = y[0]  # a single epoch is a dot
        layers.append((plots.braille(drawn, low, high, height, dashed), colour))
        title.append(f"{'- -' if dashed else '───'} {part} {y[-1]:.4g}   ", colour)
    title.truncate(width)
    lines = [title]
    for number, label in enumerate(labels):
        row = Text(f"{label:>{margin}} ┤")
        for column in range(inside):
            here = [(cells[number, column], colour) for cells, colour in layers if cells[number, column] > plots.BLANK]
            dots = functools.reduce(operator.or_, (int(code) for code, _ in here), plots.BLANK)
            row.append(chr(dots), here[0][1] if len(here) == 1 else "")  # no colour where both are
        lines.append(row)
    return [*lines, Text(f"{'':>{margin}} └1{f' epoch {epochs}':─>{inside - 1}}")]


def line(run: RunFolder, status: str, width: int) -> str:
    """Where the run is, in words; two lines where it is wider, and none of its parts on both."""
    rows, warnings, why = run.history, run.manifest["warnings"], run.manifest["ended_by"]
    parts = [f"epoch {len(rows)}/{run.settings.epochs}" if rows else "no epoch yet"]
    parts.append(WORDS.get(status, status) + (f" ({why})" if why else ""))
    if rows and status == "running":
        parts.append(f"about {left(run)} left")
    if best := run.best:
        parts.append(f"best val_acc {best['val_acc']:.3f} in epoch {best['epoch']}")
    if rows:
        parts += [f"lr {rows[-1]['lr']:.3g}", f"{rows[-1]['images_per_s']:.0f} images/s"]
    if codes := [str(one.get("code")) for one in warnings if isinstance(one, dict)]:
        parts.append(f"warnings: {', '.join(codes)}")
    whole = "  ".join(shown(part, 120).replace(" ", "\0") for part in parts)
    return textwrap.fill(whole, width, break_on_hyphens=False).replace("\0", " ")


def left(run: RunFolder) -> str:
    """The time until the last epoch ends, if the next ones take as long as the last five did."""
    typical = statistics.median(row["seconds"] for row in run.history[-5:])
    try:
        since = time.time() - (run.path / "history.csv").stat().st_mtime
    except OSError:
        since = 0.0
    return duration(max(0.0, typical * (run.settings.epochs - len(run.history)) - min(max(since, 0.0), typical)))


def duration(seconds: float) -> str:
    """duration(125) -> "2 min" """
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
