"""`mslab runs rm`: removes runs, but none that a process writes, that another run began from, or that is elsewhere.

A run's folder is renamed first: what a kill leaves is called .removed-…, is no run any more, and goes with the next
removal. No lock file is written, since people remove runs from disks that are full.
"""

import secrets
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from mslab import files
from mslab.config import paths
from mslab.errors import MslabError, RunError
from mslab.escaping import command, quoted
from mslab.runs import finding, listing, manifest
from mslab.runtime import signals
from mslab.runtime.tables import plural

EXPECTED = "folders of runs that no process writes into, and from which no other run began"
Problem = tuple[str, str]  # why a run cannot be removed, what to do


def chosen(given: Iterable[str]) -> list[Path]:
    """The runs to remove, each once. Raises RunError with all that cannot be removed; then none of them is."""
    runs: dict[Path, Path] = {}
    problems: dict[str, Problem] = {}
    for text in finding.expanded(given):
        try:
            run = run_folder(text)
            runs.setdefault(run.resolve(), run)
        except MslabError as error:
            problems[str(text)] = error.what, error.fix
    total = len(runs) + len(problems)
    for place, run in runs.items():
        if problem := obstacle(place, run, set(runs)):
            problems[str(run)] = problem
    if problems:
        raise RunError(
            f"{len(problems)} of {plural(total, 'run')} cannot be removed; nothing was removed.",
            details=[(name, why) for name, (why, _) in problems.items()],
            expected=EXPECTED,
            fix="\n".join(dict.fromkeys(fix for _, fix in problems.values())),
        )
    return list(runs.values())


def run_folder(text: str) -> Path:
    """The folder of the run that is meant. What is in a run stands for it elsewhere, but not where it is removed."""
    path = Path(text)
    if files.kind_of(path) == "a link":
        fix = f"rm {quoted(path)}    removes the link"
        raise RunError(f"It is a link to {path.readlink()}, which stays.", expected=EXPECTED, fix=fix)
    if group := group_at(path):
        raise RunError(f"It is a {group} of runs, and no run.", expected=EXPECTED, fix=removal_of(path, group))
    run = finding.find_run(text)
    if files.kind_of(path, links=True) and path.resolve() != run.resolve():
        fix = f"name the run itself: {command('runs', 'rm', run)}"
        raise RunError(f"It is a part of the run {run}.", expected=EXPECTED, fix=fix)
    return run


def obstacle(place: Path, run: Path, others: set[Path]) -> Problem | None:
    """Why a run stays, and what to do; None if it can go. `others`: the runs that go together with it."""
    if not is_certainly_a_run(run):
        return "it lacks what a run has: it may be something else", f"look into it; rm -r {quoted(run)}    removes it"
    if listing.is_written(run):
        return "a process writes into it", "wait until it has ended, or stop it; mslab watch shows a training meanwhile"
    if group := group_at(place.parent):
        around = shown(place.parent)
        return f"it is a part of the {group} {around}", removal_of(around, group)
    if place in (here := paths.here().resolve(), *here.parents):
        return "you are in it", "cd to the folder above runs/"
    if needing := [child for child in runs_around(place) if child.resolve() not in others and needs(child, place)]:
        return f"{paths.listed(list(map(quoted, needing)))} began from it", removal_with(run, needing)
    return None


def removal_with(run: Path, needing: Sequence[Path]) -> str:
    """How a run goes with those that began from it; parts of a sweep, a comparison or a repetition go as a whole."""
    groups = {child.parent: group for child in needing if (group := group_at(child.parent))}
    alone = [child for child in needing if child.parent not in groups]
    all_of_them = f"{'then' if groups else 'remove them together:'} {command('runs', 'rm', run, *alone[:8])}"
    return "\n".join([*(removal_of(folder, group) for folder, group in groups.items()), all_of_them])


def removal_of(folder: Path, group: str) -> str:
    return f"rm -r {quoted(folder)}    removes the {group} with all its runs"


def group_at(folder: Path) -> str:
    """What a folder of runs is that were trained together: sweep, comparison, repetition; else ""."""
    return next((kind for file, kind in listing.KINDS.items() if files.kind_of(folder / file)), "")


def is_certainly_a_run(run: Path) -> bool:
    """Whether a folder has a run's manifest, or the other files of a run beside one that is damaged."""
    with suppress(MslabError):
        manifest.load(run)
        return files.kind_of(run / "config.yaml") == "a file"
    return paths.is_whole_run(run) and files.kind_of(run / "checkpoints") == "a folder"


def runs_around(place: Path) -> list[Path]:
    """The other runs that may have begun from a run: beside it, one folder above, and in runs/."""
    folders = dict.fromkeys([place.parent, place.parent.parent, finding.RUNS.resolve()])
    found = {run.resolve(): run for folder in folders for run in listing.runs_below(folder)}
    return [shown(run) for real, run in found.items() if real != place]


def shown(path: Path) -> Path:
    """A path as a person types it from here."""
    with suppress(ValueError):
        return path.relative_to(paths.here().resolve())
    return path


def needs(child: Path, place: Path) -> bool:
    """Whether a run began from a checkpoint of another: by its path, or by its sha256 where nothing is at the path."""
    try:
        parent = files.read_json(child / "manifest.json").get("parent") or {}
        file, digest = Path(parent["file"]) if parent else Path(), parent.get("sha256")
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return is_named_in(child / "manifest.json", place)
    if not parent:
        return False
    starts = [Path(), child.resolve().parent.parent]  # a path is relative to the folder above runs/
    found = [path for start in starts if files.kind_of(path := (start / file).resolve(), links=True)]
    return any(place in path.parents for path in found) or (not found and digest in digests(place))


def digests(place: Path) -> set[str]:
    """The sha256 of a run's files, by its manifest."""
    with suppress(MslabError):
        return set(manifest.load(place)["artifacts"].values())
    return set()


def is_named_in(file: Path, place: Path) -> bool:
    """Whether a manifest that cannot be read names a run, or one of its files' sha256: to be on the safe side."""
    with suppress(OSError, ValueError):
        content = files.read_bytes(file)
        return any(text.encode(errors="surrogateescape") in content for text in (place.name, *digests(place)))
    return False


# --- removing --------------------------------------------------------------------------------------------------------


def size_of(run: Path) -> int:
    """The bytes of the files in a run; what a link leads to is none of them."""
    return sum(path.lstat().st_size for path in run.rglob("*") if files.kind_of(path) == "a file")


def remove(runs: Sequence[Path]) -> None:
    """Remove these runs. Raises MslabError that says what stays, Interrupted after Ctrl-C."""
    done = 0
    try:
        for run in runs:
            delete(put_aside(run))
            done += 1
        for folder in {run.parent for run in runs}:  # what earlier removals have left
            for left in listing.left_of(folder):
                delete(left)
    except KeyboardInterrupt:
        rest = [run for run in runs if files.kind_of(run)]
        again = f"; {command('runs', 'rm', *rest)}    removes the others" if rest else ""
        raise signals.Interrupted(f"{done} of {plural(len(runs), 'run')} removed{again}") from None


def put_aside(run: Path) -> Path:
    """Rename a run's folder so that it is no run any more. Raises MslabError; then it is where it was."""
    aside = run.absolute().with_name(f".removed-{secrets.token_hex(8)}-{run.absolute().name[:50]}")
    try:
        run.rename(aside)
        if not listing.is_written(aside):
            return aside
        aside.rename(run)  # a process has begun to write meanwhile
    except OSError as error:
        expected, fix = files.obstacle(error, run.absolute().parent)
        raise MslabError(f"{run} cannot be removed: {error.strerror}.", expected=expected, fix=fix) from None
    raise RunError(f"{run} stays: a process writes into it.", expected="a run that has ended", fix="wait until it has")


def delete(folder: Path) -> None:
    """Delete what was a run. Links in it are deleted, and not what they lead to."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:  # another process deletes it, too
        if files.kind_of(folder):
            delete(folder)
    except OSError as error:
        raise MslabError(
            f"{error.filename or folder} cannot be removed: {error.strerror}. It is no run any more.",
            expected="files and folders that you may delete",
            fix=f"chmod -R u+rwX {quoted(folder)}\nrm -r {quoted(folder)}",
        ) from None
