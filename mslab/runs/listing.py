"""The runs in a folder, a row each: what `mslab runs` shows. Reads only, also while runs are written or removed."""

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mslab import files, safe_yaml
from mslab.config import paths
from mslab.errors import MslabError, RunError
from mslab.escaping import command, quoted
from mslab.runs import finding, history, lock, manifest, ranking
from mslab.runtime.tables import cell, empty_table, plural, render

STATUS = {"done": "finished", "interrupted": "stopped"}  # of the manifest -> as it is shown; others stay
WORST = ("running", "damaged", "killed", "failed", "stopped", "paused", "finished")  # a group has the first that it has
SORTS = ("start", "name", "data", "kind", "parent", "best", "seconds", "status")
KINDS = {"sweep.json": "sweep", "comparison.json": "comparison", "repeat.json": "repetition"}


@dataclass
class RunRow:
    """A run, or a folder of runs such as a sweep. None is what is not known."""

    name: str
    path: str
    kind: str  # train, transfer, incremental; of a folder sweep, comparison, repetition, folder
    status: str  # finished, running, killed, failed, stopped, paused, damaged
    runs: int = 1
    data: str | None = None  # train_data
    parent: str | None = None  # the run that it started from, or the file
    best: dict[str, Any] | None = None  # what best_figure() returns
    epochs: int | None = None
    seconds: float | None = None  # of its epochs
    start: str | None = None
    problem: str | None = None  # why something is not known


def rows_in(given: str | None = None) -> tuple[Path, list[RunRow]]:
    """(folder, its runs and folders of runs). Raises RunError if there are none, and says where it looked."""
    folder = folder_of(given)
    rows = [row for place in entries(folder) if (row := row_of(place))] if folder else []
    if not folder or not rows:
        raise nothing_in(Path(given or finding.RUNS))
    return folder, rows


def folder_of(given: str | None) -> Path | None:
    """The folder whose runs are meant: the one that is given, or runs/ in it. Raises RunError for what is none."""
    path = Path(given or finding.RUNS)
    kind = files.kind_of(path, links=True)
    if given and not kind:
        raise paths.missing(path, RunError, WANTED, f"{command('runs')}    lists those in runs/")
    if given and kind != "a folder":
        where = command("runs", path.parent)
        raise RunError(f"{path} is {kind}, and no folder of runs.", expected=WANTED.expected, fix=where)
    try:
        with os.scandir(path) if kind else os.scandir("."):
            pass
    except OSError as error:
        expected, fix = "a folder of runs that you may read", f"chmod u+rx {quoted(path)}"
        raise RunError(f"{path} cannot be read: {error.strerror}.", expected=expected, fix=fix) from None
    if given and not any(map(paths.is_whole_run, entries(path))) and list(runs_below(path / finding.RUNS)):
        return path / finding.RUNS
    return path if kind else None


WANTED = paths.Wanted("folder", "a folder of runs, such as runs/", lambda path: bool(list(runs_below(path))))


def nothing_in(path: Path) -> RunError:
    """The error for a folder without runs: where it looked, and where they are."""
    fix = finding.elsewhere()
    if path != finding.RUNS and list(runs_below(finding.RUNS)):
        fix = f"{command('runs')}    lists those in runs/"
    elif any(map(paths.is_whole_run, entries(Path()))):
        fix = f"{command('runs', '.')}    lists those in this folder"
    return RunError(
        f"There are no runs in {paths.here() / path}.",
        expected="a folder in which mslab train has left runs",
        fix=fix or "cd to the folder above runs/, name it (mslab runs FOLDER), or train first: mslab train CONFIG",
    )


def entries(folder: Path) -> list[Path]:
    """The folders in a folder, by name, without what a removal has left; the folder itself if it is a run."""
    if paths.is_whole_run(folder):
        return [folder]
    try:
        with os.scandir(folder) as found:
            places = [folder / entry.name for entry in found if not paths.REMOVED.fullmatch(entry.name)]
    except OSError:  # it may have been removed just now
        return []
    return sorted(place for place in places if files.kind_of(place, links=True) == "a folder")


def runs_below(folder: Path) -> Iterator[Path]:
    """The runs in a folder, and in the folders in it: those of sweeps, comparisons and repetitions."""
    for place in entries(folder):
        if paths.is_whole_run(place):
            yield place
        elif place != folder:
            yield from (inner for inner in entries(place) if paths.is_whole_run(inner))


# --- a row -----------------------------------------------------------------------------------------------------------


def row_of(place: Path) -> RunRow | None:
    """The row of a run or of a folder of runs; None for any other folder."""
    if paths.is_whole_run(place):
        return row_of_run(place)
    if inner := [row_of_run(run) for run in entries(place) if paths.is_whole_run(run)]:
        return row_of_group(place, inner)
    if not os.access(place, os.R_OK | os.X_OK):
        return damaged(place, f"it may not be entered: chmod u+rx {quoted(place)}")
    lacks = [name for name in ("manifest.json", "config.yaml") if not files.kind_of(place / name)]
    has_networks = files.kind_of(place / "checkpoints") == "a folder"
    return damaged(place, f"it has no {' and no '.join(lacks)}") if has_networks and len(lacks) < 3 else None


def row_of_run(run: Path) -> RunRow:
    alive = is_written(run)  # before the manifest: a process writes how it has ended, and then lets go
    try:
        content = manifest.load(run)
    except MslabError as error:
        return damaged(run, error.what)
    status = content["status"]
    if status == "running":
        status = "running" if alive else "killed"
    row = RunRow(run.name, str(run), content["kind"], STATUS.get(status, status), start=content["start"])
    row.data = train_data(run, content)
    if parent := content["parent"]:
        row.parent = Path(parent["run"]["path"]).name if parent["run"] else parent.get("published") or parent["file"]
    rows: list[dict[str, Any]] = []
    best_by: str | None = None
    try:
        best_by = ranking.recorded(content, run)
        rows = history.read_history(run / "history.csv", ranking.extra(best_by))
        seconds = (epoch["seconds"] for epoch in rows)
        row.epochs, row.seconds = len(rows), round(sum(value for value in seconds if math.isfinite(value)), 3)
    except MslabError as error:
        row.problem = error.what
    row.best = best_figure(rows, content["metrics"], best_by)
    if row.best and row.best["measure"] == "val_acc":
        row.best["measure"] = ranking.recorded_name(content)
    return row


def train_data(run: Path, content: Mapping[str, Any]) -> str | None:
    """The path of the training images; older manifests leave it to config.yaml."""
    settings = content["settings"]
    if settings is None:
        with suppress(OSError, ValueError):
            text = files.read_text(run / "config.yaml", safe_yaml.MAX_YAML)
            line = re.search(r"^train_data:.*", text, re.MULTILINE)  # alone: the file takes 20 ms
            settings = safe_yaml.parse_yaml(line[0]) if line else None
    value = settings.get("train_data") if isinstance(settings, dict) else None
    return value if isinstance(value, str) else None


def row_of_group(place: Path, inner: Sequence[RunRow]) -> RunRow:
    """The row of a folder of runs: the best figure of all, the seconds of all, and the status that matters most."""
    kind = next((kind for file, kind in KINDS.items() if files.kind_of(place / file)), "folder")
    status = min((row.status for row in inner), key=lambda status: WORST.index(status))
    status = "running" if lock.holder_of(place) else status
    figures = [row.best for row in inner if row.best]
    return RunRow(
        place.name,
        str(place),
        kind,
        status,
        runs=len(inner),
        data=next((row.data for row in inner if row.data), None),
        parent=next((row.parent for row in inner if row.parent), None),
        best=max(figures, key=goodness, default=None),
        seconds=round(sum(row.seconds or 0 for row in inner), 3),
        start=min((row.start for row in inner if row.start), default=None),
    )


def damaged(run: Path, problem: str) -> RunRow:
    return RunRow(run.name, str(run), "", "damaged", problem=problem)


def best_figure(
    rows: Sequence[dict[str, Any]], metrics: Mapping[str, Any], best_by: str | None
) -> dict[str, Any] | None:
    """The figure of a run's best epoch, by best_by: {"measure", "value", "epoch"}; None before there is one.

    `rows`: of history.csv; `metrics`: the manifest's, for a run whose history.csv is lost.
    """
    name, best = ranking.column(best_by), ranking.best(rows, best_by)
    value, epoch = (best[name], best["epoch"]) if best else (metrics.get(name), metrics.get("best_epoch"))
    if value is None or not math.isfinite(value):
        return None
    return {"measure": name, "value": value, "epoch": epoch and int(epoch)}


def goodness(figure: Mapping[str, Any]) -> float:
    """A best figure as a number of which higher is better."""
    return -figure["value"] if figure["measure"] == "val_loss" else float(figure["value"])


def is_written(run: Path) -> bool:
    """Whether a process trains this run, or writes into its folder in another way."""
    if files.kind_of(run / lock.NAME):
        return bool(lock.holder_of(run))
    log = run / "train.log"  # which a training locks, also one of an mslab without RUN/.lock
    return files.kind_of(log) == "a file" and os.access(log, os.R_OK) and not lock.is_free(log)


# --- the table -------------------------------------------------------------------------------------------------------


def ordered(rows: Sequence[RunRow], by: str) -> list[RunRow]:
    """The rows by a column: the newest, best and longest first, names in the order of the alphabet."""
    rows = sorted(rows, key=lambda row: row.name)
    values: dict[str, Callable[[RunRow], Any]] = {
        "best": lambda row: row.best and goodness(row.best),
        "data": lambda row: data_name(row.data) or None,
        "start": began,
    }
    value = values.get(by, lambda row: getattr(row, by))
    known = [row for row in rows if value(row) is not None]
    known.sort(key=value, reverse=by in ("start", "best", "seconds"))
    return [*known, *(row for row in rows if value(row) is None)]


def began(row: RunRow) -> datetime | None:
    """When a run began; clocks of other zones are comparable then."""
    with suppress(ValueError, TypeError):
        return datetime.fromisoformat(row.start or "").astimezone()
    return None


def data_name(train_data: str | None) -> str:
    """The name of a data set, from the path of its training images."""
    # data_name("datasets/nine/train") -> "nine"; data_name("nine-folds/fold1/train.csv") -> "nine-folds/fold1"
    path = Path(train_data or "")
    if path.name in ("train", "train.csv", "train.txt") and path.parent.name:
        path = path.parent
    return "/".join(path.parts[-2:]) if re.fullmatch(r"fold\d+", path.name) else path.name


def table(folder: Path, rows: Sequence[RunRow]) -> str:
    """The table for a terminal, and below it what could not be read."""
    text = {"name", "data", "kind", "parent", "status"}
    names = ["name", "data", "kind", "parent", "best", "seconds", "status"]
    count = sum(row.runs for row in rows)
    grid = empty_table(
        f"{cell(folder)}: {plural(count, 'run')}", names, text, ("parent", "seconds", "data"), "--json FILE"
    )
    for row in rows:
        kind = f"{row.kind}, {plural(row.runs, 'run')}" if row.kind in (*KINDS.values(), "folder") else row.kind
        measure = row.best["measure"] if row.best else ""
        best = f"{row.best['value']:.3f}" + f" {measure}" * (measure != "val_acc") if row.best else ""
        seconds = "" if row.seconds is None else f"{row.seconds:.0f}"
        texts = (row.name, data_name(row.data), kind, row.parent or "")
        grid.add_row(*map(cell, texts), best, seconds, row.status)
    notes = [f"note: {cell(row.name)}: {cell(row.problem, 300)}" for row in rows if row.problem]
    for left in left_of(folder):
        notes.append(f"note: {quoted(left)} is left of a removal that was stopped: rm -r {quoted(left)}")
    return "\n".join([render(grid), *notes]).rstrip()


def left_of(folder: Path) -> list[Path]:
    """What removals that were stopped have left in a folder."""
    try:
        with os.scandir(folder) as found:
            return sorted(folder / entry.name for entry in found if paths.REMOVED.fullmatch(entry.name))
    except OSError:
        return []


def to_json(folder: Path, rows: Sequence[RunRow]) -> dict[str, Any]:
    return {"schema": 1, "folder": str(folder), "runs": [asdict(row) for row in rows]}
