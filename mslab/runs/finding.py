"""Which run is meant: a path, a Run, `latest`, `latest:NAME`, or the beginning of a run's name. Imports no MindSpore.

What exists at a path is taken as it is, so a folder that is called latest is that folder. A file or folder inside a run
stands for the run. `latest` is the run under runs/ that began last, by its manifest; NAME is what its folder's name has
before the date: the config's stem, or what --name gave.
"""

import difflib
import glob
import logging
import os
import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from mslab import files, weights
from mslab.checkpoint import near
from mslab.config import paths
from mslab.errors import CheckpointError, MslabError, RunError
from mslab.escaping import command, quoted, typed_command

log = logging.getLogger("mslab")
RUNS = Path("runs")
STAMP = re.compile(r"-\d{8}-\d{6}(-\d+)?$")  # of a run's folder, after its name
LATEST = re.compile(r"latest(?::(.*))?")
# what stands for a run's name on a page: …, <name>, {name}, NAME, NAME-*, NAME-YYYYMMDD-HHMMSS, RUN
PLACEHOLDER = re.compile(r".*(…|\.\.\.|<.*>|\{.*\}).*|\$?(RUN|NAME|OTHER_RUN|R)\b.*")
RUN = "a run folder, as mslab train creates it under runs/; or latest, latest:NAME, the beginning of a run's name"
NETWORK = "a run folder or a file of weights; or latest, latest:NAME, the beginning of a run's name, mindcv:resnet50"
A_RUN = paths.Wanted("folder", RUN, lambda path: is_of_a_run(path))
A_NETWORK = paths.Wanted("file", NETWORK, lambda path: near.is_network(path) or is_of_a_run(path))


def find_run(given: object) -> Path:
    """The folder of the run that is meant. Raises RunError, with what else it is and the runs there are."""
    path = paths.path_of(given, RunError, RUN, one_of_the_runs)
    if not files.kind_of(path, links=True):
        path = named(path, RunError)
    if paths.is_run(path):
        return path
    if run := run_around(path):
        return chosen(given, run)
    raise no_run(path, RunError, "no run", RUN)


def find_network(given: object, any_hash: bool = False) -> Path:
    """The run folder or the file that is meant; published weights are fetched if they are not here.

    `any_hash`: published weights may have another hash. Raises CheckpointError if there is none.
    """
    path = paths.path_of(given, CheckpointError, NETWORK, one_of_the_runs)
    kind = files.kind_of(path, links=True)
    if weights.is_named(str(path)):
        if not kind:
            return weights.obtain(str(path), any_hash)
        log.info(f"note: {path} is {kind} here, and is taken; published weights are meant where nothing has that name")
    if not kind and path.suffix in (".mindir", ".onnx"):
        return path  # its reader says how a graph is exported
    if not kind:
        path = named(path, CheckpointError)
        kind = files.kind_of(path, links=True)
    if kind == "a folder":
        if paths.is_run(path) or files.kind_of(path / "checkpoints", links=True) == "a folder":
            return path
    elif paths.of_file(path).kind not in ("image", "config"):
        return path  # whether it has weights, its reader says
    if run := run_around(path):
        return chosen(given, run)
    if kind == "a folder":
        raise no_run(path, CheckpointError, "no weights", NETWORK)
    return path


def expanded(given: Iterable[Any]) -> list[Any]:
    """What is given for several runs, in place of a pattern that the shell has left as it is the runs that match."""
    items: Iterable[Any] = [given] if isinstance(given, str | os.PathLike) else given
    return [run for item in items for run in (isinstance(item, str) and matching(item)) or [item]]


def config_of(given: str) -> Path:
    """The config that is meant, or that of the run that is meant: the path itself if it is neither."""
    path = Path(given)
    if not files.kind_of(path, links=True) and len(names := below_runs(path)) == 1:
        path = named(path, RunError) if LATEST.fullmatch(names[0]) or beginning(names[0]) else path
    return path / "config.yaml" if paths.is_run(path) else path


def chosen(given: object, run: Path) -> Path:
    """The run, after a line of the log about it."""
    log.info(f"{given} {'is in' if run in Path(str(given)).parents else 'is'} {run}")
    return run


def run_around(path: Path) -> Path | None:
    """The run that a file or folder belongs to, two levels up at most."""
    if paths.look(path).kind in ("runs", "image"):  # training inside a run's folder leaves runs/ there
        return None
    run = next((folder for folder in [*path.absolute().parents][:2] if paths.is_whole_run(folder)), None)
    return run if run is None or path.is_absolute() else Path(os.path.relpath(run))


def is_of_a_run(path: Path) -> bool:
    """Whether a path stands for a run: its folder, or what is in it."""
    return paths.is_run(path) or any(map(paths.is_whole_run, [*path.parents][:2]))


# --- names -----------------------------------------------------------------------------------------------------------


def named(path: Path, error: type[MslabError]) -> Path:
    """The run, or the file in it, that a text means at whose path nothing is. Raises `error`."""
    first, *rest = below_runs(path)
    if path.is_absolute():
        runs, rest = matching(str(path)), []
    elif found := LATEST.fullmatch(first):
        runs = [newest(found[1], error)]
    else:
        runs = matching(str(RUNS / first)) or [RUNS / name for name in beginning(first)]
    inside = [run.joinpath(*rest) for run in runs]
    if there := [inner for inner in inside if files.kind_of(inner, links=True)]:
        return chosen(path, only(path, there, error))
    raise nothing(inside[0] if inside and LATEST.fullmatch(first) else path, error)


def below_runs(path: Path) -> tuple[str, ...]:
    """The parts of a path, without the runs/ that it may begin with."""
    return path.parts[1:] if path.parts[0] == RUNS.name and len(path.parts) > 1 else path.parts


def beginning(text: str) -> list[str]:
    """The names of the runs that begin with a text, or the one that it is."""
    names = paths.names_of_runs(RUNS)
    return [text] if text in names else [name for name in names if text and name.startswith(text)]


def matching(pattern: str) -> list[Path]:
    """The runs that match a pattern; [] for what is none."""
    if not glob.has_magic(pattern) or files.kind_of(Path(pattern)):
        return []
    return [Path(name) for name in sorted(glob.glob(pattern)) if paths.is_run(Path(name))]  # noqa: PTH207


def only(given: Path, runs: list[Path], error: type[MslabError]) -> Path:
    if len(runs) == 1:
        return runs[0]
    raise error(
        f"{given} could be {len(runs)} runs.",
        expected="one run: more of its name, or latest:NAME for the one of that name that began last",
        fix=f"one of {paths.listed(map(quoted, reversed(runs)), 8)}",
    )


def newest(name: str | None, error: type[MslabError]) -> Path:
    """The run that began last: of all, or of those with this name. Raises `error` if there is none or no only one."""
    runs = begun()
    if name is not None:
        known = [STAMP.sub("", run.name) for *_, run in runs]
        runs = [row for row, its in zip(runs, known, strict=True) if its == name]
        if not runs and known:
            like = difflib.get_close_matches(name, set(known), 3) or sorted(set(known))
            raise error(
                f"No run in {paths.here() / RUNS} has the name {name!r}.",
                expected="the name in front of the date: the config's, without .yaml, or that of --name",
                fix=f"one of {paths.listed(quoted(f'latest:{other}') for other in like)}",
            )
    if not runs:
        raise error(
            f"There are no runs in {paths.here() / RUNS}, so there is no latest one.",
            expected="a folder in which runs were trained, or the path of a run",
            fix=elsewhere() or "cd to the folder above runs/, or train first: mslab train CONFIG",
        )
    last = runs[-1]
    same = [run for *when, run in runs if when == [*last[:2]]]
    return only(Path("latest" if name is None else f"latest:{name}"), same, error)


def begun() -> list[tuple[datetime, int, Path]]:
    """(start, number among those of one second, folder) of the runs under runs/, the latest at the end."""
    rows = []
    for name in paths.names_of_runs(RUNS):
        try:
            start = datetime.fromisoformat(files.read_json(RUNS / name / "manifest.json")["start"]).astimezone()
        except (OSError, ValueError, TypeError, KeyError):
            log.info(f"note: {RUNS / name} is left out: its manifest.json does not say when it began")
            continue
        stamp = STAMP.search(name)
        rows.append((start, int((stamp[1] or "-1")[1:]) if stamp else 1, RUNS / name))
    return sorted(rows)


def elsewhere() -> str:
    """Where to go for runs, if they are in a folder above; else ""."""
    above = next((folder for folder in paths.here().parents if paths.names_of_runs(folder / RUNS)), None)
    return f"cd {quoted(above)}" if above else ""


# --- messages --------------------------------------------------------------------------------------------------------


def one_of_the_runs(folder: Path = RUNS) -> str:
    """What to give instead of what is no run: the last ones in a folder."""
    names = sorted(paths.names_of_runs(folder), key=lambda name: (STAMP.search(name) or [""])[0])
    return f"one of {', '.join(str(quoted(folder / name)) for name in names[:-6:-1]) or 'those of mslab train'}"


def nothing(path: Path, error: type[MslabError]) -> MslabError:
    """The error for a text that is neither a path nor a run's name."""
    if PLACEHOLDER.fullmatch(below_runs(path)[0]) and not path.is_absolute():
        expected = RUN if error is RunError else NETWORK
        first = f"{path} stands for the name of a run, and nothing is called that."
        return error(first, expected=expected, fix=f"{one_of_the_runs()}; or latest, the newest")
    wanted = A_RUN if error is RunError else A_NETWORK
    like = [] if path.is_absolute() else paths.misspelt(RUNS.joinpath(*below_runs(path)), wanted.fits)
    if error is CheckpointError and not like and (names := weights.near(str(path))):
        problem = paths.missing(path, error, wanted, "")
        fix = f"published weights: {', '.join(names)}"
        return error(problem.what, details=problem.details, expected=problem.expected, fix=fix)
    fix = f"one of {paths.listed(map(quoted, like))}" if like else one_of_the_runs()
    label, _, run = str(path).partition("=")
    if re.fullmatch(r"[\w-]+", label) and run and not like:
        fix = f"give {quoted(Path(run))} alone: NAME= is only for the runs that pack takes"
    elif error is CheckpointError and not like:
        fix = weights_or_runs(path) or fix
    return paths.missing(path, error, wanted, fix)


def weights_or_runs(path: Path) -> str:
    """What to give for a network in place of a path that is none: of the run around it, or beside it, and the runs."""
    if near.run_around(path) or not paths.names_of_runs(RUNS):
        return near.instead(path)
    folder = path if files.kind_of(path, links=True) == "a folder" else path.parent
    beside = paths.listed(quoted(folder / name) for name in near.files_in(folder, path))
    return f"one of {beside}; or {one_of_the_runs()}" if beside else one_of_the_runs()


def no_run(path: Path, error: type[MslabError], kind: str, expected: str) -> MslabError:
    """The error for a path at which something else is."""
    found = paths.look(path)
    lacks = "config.yaml" if expected is RUN else "checkpoints/best.ckpt"
    has = f": it has no {lacks}" if files.kind_of(path, links=True) == "a folder" else ""
    rows, fix = found.rows(), one_of_the_runs()
    if expected is NETWORK:
        rows, fix = [("contains", near.folder_contents(path))], weights_or_runs(path) or fix
    if found.kind == "runs":
        fix = one_of_the_runs(path if paths.names_of_runs(path) else path / RUNS)
        if files.kind_of(path / "sweep.json"):
            fix += f"; or {command('sweep', '--resume', path)}    continues the sweep"
    if found.kind == "closed":
        fix, has = f"chmod u+rx {quoted(path)}", ""
    elif found.kind == "config":
        fix = f"{command('train', path)}    begins a run; or " + fix
    elif found.kind == "weights" and expected is RUN:
        fix = f"{command('train', 'CONFIG', '--from', path)}    begins a run with this network; or " + fix
    elif found.kind in ("image", "images") and typed_command() == "predict":
        fix = f"name the run first, and images after it: {fix}"
    if LATEST.fullmatch(path.name) and str(path) == path.name:
        fix = f"{fix}; {path} is read as the newest run only where nothing has that name"
    return error(f"{path} is {found.text}, and {kind}{has}.", details=rows, expected=expected, fix=fix)
