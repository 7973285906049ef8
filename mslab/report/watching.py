"""Draw the curves of a run in the terminal, while it trains or afterwards. It only reads files of the run."""

import functools
import operator
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.text import Text

from mslab.config import tasks
from mslab.files import open_regular
from mslab.report import plots
from mslab.runs import history, manifest, ranking
from mslab.runs.folder import RunFolder
from mslab.runs.results import changed
from mslab.runtime import streams
from mslab.runtime.console import log
from mslab.runtime.progress import duration
from mslab.runtime.tables import fold, one_line, shorten, terminal_width

PAUSE = 0.5  # seconds between two reads of the files
MAX_WIDTH, LEAST_WIDTH = 100, 20  # characters of a chart
SHAPES = (("val", "yellow", False), ("train", "cyan", True))  # series, colour, whether it is dashed
RESUME = "mslab train --resume RUN continues it"
STATUS_TEXTS = {  # status -> text on the screen
    "failed": "failed: see train.log for the reason",
    "interrupted": f"interrupted; {RESUME}",
    "paused": f"paused; {RESUME}",
    "gone": f"killed: its process is gone; {RESUME}",
}


def watch(path: str | Path, once: bool = False) -> int:
    """Draw a run's curves until it ends; `once`, or without a terminal as standard output, draw them once.

    Returns the exit code: 0, or 130 after Ctrl-C, which does not reach the run. Raises what RunFolder.read raises.
    """
    run, console = RunFolder.read(path), Console(file=sys.stdout)
    stopped = False
    if not once and sys.stdout.isatty() and not console.is_dumb_terminal:
        try:
            follow(run, console)
        except KeyboardInterrupt:
            stopped = True
            log.info("stopped watching; the run continues")
    console.print(picture(run, status_of(run), console), soft_wrap=True)  # every line fits
    return 130 if stopped else 0


def follow(run: RunFolder, console: Console) -> None:
    """Update the full screen until the run ends. Restores the screen afterwards."""
    read = drawn = None
    with Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
        while True:
            status = status_of(run)
            if (version := history_version(run.path)) != read:
                rows = history.read_history(run.path / "history.csv", ranking.extra(run.best_by))
                run.history, read = rows, version
            if (new := (read, console.size, status_line(run, status, 1000))) != drawn:
                live.update(picture(run, status, console), refresh=True)
                drawn = new
            if status != "running":
                return
            time.sleep(PAUSE)


def history_version(folder: Path) -> tuple[int, int]:
    """A value that changes whenever history.csv is replaced, which is done atomically."""
    try:
        file = (folder / "history.csv").stat()
    except OSError:
        return 0, 0
    return file.st_ino, file.st_mtime_ns


def status_of(run: RunFolder) -> str:
    """Read manifest.json and return its status; "gone" if it is running but no process trains the run.

    A training process has a lock on train.log and releases it after it has written its final status. So the manifest
    has to be read after the lock is tested.
    """
    gone = is_free(run.path / "train.log")
    run.manifest = manifest.load(run.path)
    status = one_line(run.manifest.get("status"), 20)
    return "gone" if gone and status == "running" else status


def is_free(log: Path) -> bool:
    """Whether no process has a lock on this file. Tested twice: a new run creates the file just before it locks it."""
    try:
        import fcntl  # Windows has none

        for pause in (0.05, 0):
            with open_regular(log) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            time.sleep(pause)
    except (OSError, ImportError):  # no such file yet, locked by a process, or a file system without locks
        return False
    return True


def picture(run: RunFolder, status: str, console: Console) -> Text:
    """The run's name, a status line, and two charts that fill the terminal."""
    columns = terminal_width() or console.width  # rich takes a terminal that draws nothing (TERM=dumb) for 80 wide
    summary = status_line(run, status, terminal_width() or 1000)
    parts = [Text(shorten(streams.drawn(one_line(run.path, 1000)), columns), "bold"), Text(summary)]
    free = console.height - 3 - summary.count("\n")  # lines; a chart has three beside its curve
    width, height = min(MAX_WIDTH, columns), min(12, max(3, (free - 6) // 2))
    free = free if console.is_terminal else 1000
    if run.history and width >= LEAST_WIDTH:
        classes = run.settings.task == tasks.CLASSIFY
        measure = "accuracy" if classes else f"{ranking.shown(run.settings)}, train_acc"
        for name, key in (("loss", "loss"), (measure, "acc"))[: max(0, free) // (height + 3)]:
            series = {part: np.array([row[f"{part}_{key}"] for row in run.history]) for part, _, _ in SHAPES}
            parts += [Text(), *chart(name, series, width, height)]
    return Text("\n").join(parts)


def chart(name: str, series: Mapping[str, np.ndarray], width: int, height: int) -> list[Text]:
    """Lines of text: a legend with the latest values, the curves over the epochs, the first and the last epoch.

    `series`: floats (epochs,) by the names in SHAPES, NaN for epochs that were not measured.
    """
    drawable = {part: np.where(np.abs(y) < 1e30, y, np.nan) for part, y in series.items()}  # what dots can show
    values = np.concatenate(list(drawable.values()))
    low, high = (np.nanmin(values), np.nanmax(values)) if np.isfinite(values).any() else (0.0, 1.0)
    labels = [f"{high:.4g}", *[""] * (height - 2), f"{low:.4g}"]
    margin = max(map(len, labels))
    inside, epochs = max(8, width - margin - 2), len(values) // len(drawable)
    columns = np.linspace(1, max(2, epochs), 2 * inside)
    entries: list[tuple[str, str]] = []
    layers = []
    for part, colour, dashed in SHAPES:
        measured = np.isfinite(drawable[part])
        if not measured.any():
            continue
        x, y = np.flatnonzero(measured) + 1, drawable[part][measured]
        line = np.interp(columns, x, y, left=np.nan, right=np.nan)
        line[np.abs(columns - x[0]).argmin()] = y[0]  # a single epoch is a dot
        layers.append((plots.braille(line, low, high, height, dashed), colour))
        entries.append((streams.drawn(f"{'- -' if dashed else '───'} {part} {y[-1]:.4g}   "), colour))
    needed = max(10, len(name) + 1) + len("".join(text for text, _ in entries).rstrip())
    title = Text(f"{name:<9} " if needed <= width else f"{name} ")
    for text, colour in entries:
        if len(title) + len(text.rstrip()) <= width:  # half a figure would be another one
            title.append(text, colour)
    title.rstrip()
    lines = [title]
    for number, label in enumerate(labels):
        row = Text(streams.drawn(f"{label:>{margin}} ┤"))
        for column in range(inside):
            drawn = [(codes[number, column], colour) for codes, colour in layers if codes[number, column] > plots.BLANK]
            dots = functools.reduce(operator.or_, (int(code) for code, _ in drawn), plots.BLANK)
            colour = drawn[0][1] if len(drawn) == 1 else ""  # none where both curves meet
            row.append(streams.drawn(chr(dots)), colour)
        lines.append(row)
    return [*lines, Text(streams.drawn(f"{'':>{margin}} └1{f' epoch {epochs}':─>{inside - 1}}"))]


def status_line(run: RunFolder, status: str, width: int) -> str:
    """Epoch, status, time left, best accuracy, speed and warnings; a line ends before a part, if it can."""
    rows, warnings, reason = run.history, run.manifest["warnings"], run.manifest["ended_by"]
    none = "no epoch yet" if status == "running" else "no epoch"
    parts = [f"epoch {len(rows)}/{run.settings.epochs}" if rows else none]
    parts.append(STATUS_TEXTS.get(status, status) + (f" ({reason})" if reason else ""))
    if rows and status == "running":
        parts.append(f"about {time_left(run)} left")
    if best := run.best:
        parts.append(ranking.best_text(best, run.best_by, ranking.shown(run.settings)))
    if rows:
        parts += [f"lr {rows[-1]['lr']:.3g}", f"{rows[-1]['images_per_s']:.0f} images/s"]
    parts += changed(run.path, run.manifest)
    if codes := [str(warning.get("code")) for warning in warnings if isinstance(warning, dict)]:
        parts.append(f"warnings: {', '.join(codes)}")
    lines = [""]
    for part in (streams.drawn(one_line(part, 120)) for part in parts):
        if lines[-1] and len(lines[-1]) + 2 + len(part) > width:
            lines.append("")
        lines[-1] += f"  {part}" if lines[-1] else part
    return "\n".join(fold(line, width) for line in lines)


def time_left(run: RunFolder) -> str:
    """Time until the last epoch ends, if each epoch takes as long as the median of the last five."""
    typical = statistics.median(row["seconds"] for row in run.history[-5:])
    try:
        since = time.time() - (run.path / "history.csv").stat().st_mtime
    except OSError:
        since = 0.0
    return duration(max(0.0, typical * (run.settings.epochs - len(run.history)) - min(max(since, 0.0), typical)))
