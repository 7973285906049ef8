"""--fix, --convert and --undo: move bad files to ROOT.quarantine/, delete nothing, and log each move for --undo."""

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from mslab import files
from mslab.check.levels import wrong_shape
from mslab.check.pool import ask
from mslab.check.records import Finding, printable
from mslab.check.report import DatasetReport, behind_link, changeable, quarantine_folder
from mslab.check.scan import is_image_file, is_left
from mslab.errors import DatasetError
from mslab.escaping import command

# one line per move: {"from", "to", "why"}, with {"copy", "sha256"} if a converted copy replaces the file
LOG = "log.jsonl"
MOVED = {"stray-folder", "nested-folder", "symlink", "permission", "zero-byte", "unreadable", "truncated", "bomb"}
MOVED |= {"format", "timeout", "crash", "decoder", "elongated", "slow", "split-leak", "duplicate"}
MOVED |= {"mask-without-image"}
CONVERTED = {"format", "decoder", "animated", "mode", "exif-orientation", "size"}

SHARE, FEW = 0.1, 5  # --fix asks before it moves more than this share of a split's or class's images, and than five
MOST = 100_000  # images counted in a folder that would be moved

Move = tuple[Path, Path, Finding, bool]  # from, to, finding, whether a converted copy replaces the file


def plan_moves(report: DatasetReport, convert: bool = False) -> list[Move]:
    """The moves to make, each file once; none in a split whose folders are not classes. Changes nothing.

    What a link to a folder leads to is left alone: it belongs to others. Raises DatasetError if ROOT is such a link, or
    if a class would be left without images.
    """
    root = absolute(report.root)
    if table := next((split.table for split in report.splits.values() if split.table), None):
        raise DatasetError(
            f"{report.root} is a table of labels: its images are not moved or changed.",
            expected="folders of classes, for --fix and --convert",
            fix=f"{command('data', 'import', table.folder, '--labels', table.table)}    copies them into such folders",
        )
    if root.is_symlink():
        raise DatasetError(
            f"{root} is a link to {root.resolve()}: nothing is changed through it.",
            expected="the folder itself, if you may change it",
            fix=f"{command('check', root.resolve(), '--fix')}, or leave files out by their names: --ignore NAME",
        )
    misread = [absolute(split.root) for split in report.splits.values() if wrong_shape(split)]
    chosen: dict[Path, tuple[Finding, bool]] = {}
    for finding in report.findings:
        if finding.location is None or finding.severity == "info":
            continue
        rewritten = convert and finding.code in CONVERTED
        path = absolute(finding.location)
        if (rewritten or finding.code in MOVED) and not any(folder in path.parents for folder in misread):
            earlier = chosen.get(path)
            if not changeable(root, path):
                continue
            # a file that cannot be loaded is moved even if another finding about it asks for a conversion
            chosen[path] = (finding, rewritten) if earlier is None or earlier[1] > rewritten else earlier
    for folder, (moved, images) in losses(report, {path for path, (_, rewritten) in chosen.items() if not rewritten}):
        if 0 < images == moved:
            raise emptied(
                report,
                folder,
                moved,
                [f for path, (f, _) in chosen.items() if absolute(folder) in path.parents],
                convert,
            )
    home, moves, reserved = quarantine_folder(root), [], set()
    for source, (finding, rewritten) in chosen.items():
        target = home / source.relative_to(root)
        while target.exists() or target.is_symlink() or target in reserved:
            target = target.with_name(target.name + "_")
        reserved.add(target)
        moves.append((source, target, finding, rewritten))
    return moves


def emptied(report: DatasetReport, folder: Path, moved: int, findings: list[Finding], convert: bool) -> DatasetError:
    """The error of moves that would take all images of a class or split, with the fix for what is found there."""
    what = f"{folder} would be left without images: --fix would move all {moved}."
    split = next(split for split in report.splits.values() if split.root in (folder, folder.parent))
    content = {picture.same for picture in split.pictures} - {b""}
    for other in report.splits.values():
        if content and other is not split and content == {picture.same for picture in other.pictures}:
            again = command("data", "split", split.root, *(["--val", "0.5"] if split.name != "train" else []))
            return DatasetError(
                f"{what} {split.title} and {other.title} are the same images.",
                expected="splits that share no image",
                fix=f"remove one of them, or split it again: {again}",
            )
    codes = {finding.code for finding in findings}
    fix = "replace these images, or remove the class yourself" + "; --convert may save some" * (not convert)
    if codes == {"nested-folder"}:
        fix = findings[0].fix
    elif codes == {"symlink"}:
        fix = report.follow(split)
    elif codes == {"split-leak"}:
        fix = "put other images there: those of this class are in another split, too"
    return DatasetError(what, expected="at least one usable image per class", fix=fix)


def absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100  (links are not resolved)


def losses(report: DatasetReport, lost: set[Path]) -> list[tuple[Path, tuple[int, int]]]:
    """(class or split, (images that would be moved, images in it)), also in folders inside or beside the classes."""
    counts: dict[Path, tuple[int, int]] = {}
    for split in report.splits.values():
        others = [*split.nested, *split.strays, *split.links]
        folders = [(name, images_below(split.root / name)) for name in others if not is_left(name.rpartition("/")[2])]
        for name, number in [*((picture.name, 1) for picture in split.pictures), *folders]:
            class_name, inside, _ = name.partition("/")
            for folder in (split.root / class_name, split.root) if inside else (split.root,):
                moved, images = counts.get(folder, (0, 0))
                counts[folder] = moved + number * (absolute(split.root / name) in lost), images + number
    return list(counts.items())


def images_below(folder: Path) -> int:
    """Number of images in the folder, at any level; of a link, in what it leads to, which may be a file."""
    if folder.is_file():
        return int(is_image_file(folder))
    files_below = (Path(above, name) for above, _, names in os.walk(folder) for name in names)
    return sum(map(is_image_file, islice(files_below, MOST)))


def refuse_unasked(report: DatasetReport, moves: list[Move], convert: bool) -> None:
    """Raise DatasetError if the moves take more than a small share of a split or a class."""
    lost = {source for source, _, _, rewritten in moves if not rewritten}
    large = [row for row in losses(report, lost) if row[1][0] > max(FEW, SHARE * row[1][1])]
    if large:
        codes = Counter(finding.code for source, _, finding, _ in moves if source in lost)
        rows = [("would move", f"{moved} of {images} images of {folder}") for folder, (moved, images) in large[:6]]
        rows += [("because of", ", ".join(f"{code} ({count})" for code, count in codes.most_common()))]
        options = ("--convert" if convert else "--fix", "--yes")
        follow = f"{report.command(report.root, '--follow-links')}    reads what the links lead to\n" * (
            "symlink" in codes
        )
        raise DatasetError(
            f"Nothing was moved: --fix would move more than a tenth of the images of {large[0][0]}.",
            details=rows,
            expected="few faulty files; so many may mean that the folders are not what they seem",
            fix=f"{follow}{report.command(report.root, options[0], '--dry-run')}    lists the moves\n"
            f"{report.command(report.root, *options)}    makes them; --undo takes them back",
        )


def fix(report: DatasetReport, convert: bool = False, yes: bool = True) -> Iterator[str]:
    """Carry out plan_moves(); yields a line per move. Logs each move before making it, so --undo works after a kill.

    Unless `yes`, raises DatasetError if many images would be moved.
    """
    moves = plan_moves(report, convert)
    if not yes:
        refuse_unasked(report, moves, convert)
    yield from left_alone(report)
    copies: dict[Path, tuple[Path, Path]] = {}
    try:
        _convert([source for source, _, _, rewritten in moves if rewritten], copies)
        yield from _carry_out(report, moves, copies)
    finally:
        for partial, _ in copies.values():
            partial.unlink(missing_ok=True)


def left_alone(report: DatasetReport) -> Iterator[str]:
    """A line for each file with an error that is behind a link to a folder, or may not be changed."""
    root = absolute(report.root)
    for location in dict.fromkeys(finding.location for finding in report.errors if finding.location):
        path = absolute(location)
        if not changeable(root, path):
            link = behind_link(root, path)
            reason = f"it is behind the link {link}, and nothing is changed there" if link else "you may not change it"
            yield printable(f"left {location}: {reason}")


def _carry_out(report: DatasetReport, moves: list[Move], copies: dict[Path, tuple[Path, Path]]) -> Iterator[str]:
    home = quarantine_folder(absolute(report.root))
    for source, target, finding, rewritten in moves:
        entry = {"from": str(source), "to": str(target), "why": finding.code}
        copy = copies.get(source)
        if rewritten and copy is None:
            continue  # the conversion failed; the next check reports the file
        try:
            refuse_links(home, target)
            target.parent.mkdir(parents=True, exist_ok=True)
            if copy:
                partial, final = copy
                entry |= {"copy": str(final), "sha256": files.sha256(partial), "partial": str(partial)}
            with files.open_regular(home / LOG, "ab") as file:
                file.write(json.dumps(entry).encode() + b"\n")
                files.sync(file)
            shutil.move(source, target)
            if copy:
                os.replace(*copy)  # noqa: PTH105
        except OSError as error:
            raise DatasetError(
                f"{source} cannot be moved to {target}: {error.strerror or error}.",
                expected="write permission for the data set and the folder beside it",
                fix=f"change the permissions of {source.parent}; the moves made so far are in {home / LOG}",
            ) from None
        note = f"; converted copy: {copy[1].name}" if copy else ""
        yield printable(f"moved {source} -> {target} ({finding.code}){note}")


def _convert(sources: list[Path], copies: dict[Path, tuple[Path, Path]]) -> None:
    """Fill `copies`: {file: (written copy, final name)}."""
    reserved: set[Path] = set()
    for index, answer in ask("convert", sources):
        if "copy" in answer:
            source = sources[index]
            final, number = source.with_suffix(answer["suffix"]), 1
            while (final.exists() and final != source) or final in reserved:
                number += 1
                final = source.with_name(f"{source.stem}-{number}{answer['suffix']}")
            reserved.add(final)
            copies[source] = Path(answer["copy"]), final


def undo(root: Path) -> Iterator[str]:
    """Move everything in ROOT.quarantine/ back, the last move first; yields a line per move.

    Raises DatasetError if there is nothing to undo. Never overwrites: a file that cannot go back stays in the
    quarantine and in its log.
    """
    home = quarantine_folder(absolute(root))
    log = home / LOG
    if not log.is_file():
        raise DatasetError(
            f"There is nothing to undo: {log} does not exist.",
            expected="the quarantine folder that mslab check ROOT --fix makes beside ROOT",
            fix="use the same ROOT as for --fix",
        )
    entries, left = read_log(log, absolute(root), home), []
    for entry in reversed(entries):
        try:
            result = _move_back(entry)
        except OSError as error:
            result = f"left {entry['to']}: {error.strerror or error}"
        if result.startswith("left"):
            left.append(entry)
        yield printable(result)
    if left:
        files.write_text(log, "".join(json.dumps(entry) + "\n" for entry in reversed(left)))
        return
    log.unlink()
    for folder, _, _ in os.walk(home, topdown=False):
        with suppress(OSError):  # not empty: it contains files that mslab did not move
            Path(folder).rmdir()


def read_log(log: Path, root: Path, home: Path) -> list[dict[str, str]]:
    """Read the moves. Raises DatasetError unless each is between ROOT and its quarantine, as --fix makes them.

    Whoever hands over a data set can hand over this file with it.
    """
    needed = {"from": root, "to": home, "copy": root, "partial": root}
    try:
        if home.is_symlink():
            raise files.FormatError(f"{home} is a link")
        entries = [files.parse_json(line) for line in files.read_text(log).splitlines()]
        for number, entry in enumerate(entries, 1):
            if not is_move(entry):
                raise files.FormatError("it is not a move", number)
            for key, folder in needed.items():
                if key in entry and not inside(folder, Path(entry[key])):
                    raise files.FormatError(f"{entry[key]} is not inside {folder}", number)
            if not may_delete(entry) or Path(entry["to"]) == log:
                raise files.FormatError("it names files that mslab check --fix did not make", number)
    except (OSError, ValueError) as error:
        line = f", line {error.line}" if isinstance(error, files.FormatError) and error.line else ""
        raise DatasetError(
            f"{log}{line}: {getattr(error, 'strerror', None) or error}.",
            expected=f"the log that mslab check --fix wrote of moves from {root} to {home}; nothing was moved",
            fix="move the files back yourself, if the data set is in another folder now",
        ) from None
    return entries


def is_move(entry: Any) -> bool:
    """Whether the entry has the keys and types of a move."""
    needed = {"from", "to"} | ({"copy", "sha256"} if isinstance(entry, dict) and "copy" in entry else set())
    if not isinstance(entry, dict) or not needed <= entry.keys():
        return False
    return all(isinstance(value, str) and "\0" not in value for value in entry.values())


def may_delete(entry: dict[str, str]) -> bool:
    """Whether the copy and the temporary file of a move have names that the conversion of this file gives them."""
    source = Path(entry["from"])
    names = {"copy": rf"{re.escape(source.stem)}(-\d+)?\.(jpg|png)", "partial": r"\.[0-9a-f]{16}\.partial"}
    files_made = [(Path(entry[key]), name) for key, name in names.items() if key in entry]
    return all(path.parent == source.parent and re.fullmatch(name, path.name) for path, name in files_made)


def inside(folder: Path, path: Path) -> bool:
    """Whether the path is below the folder, without links and .. on the way from there."""
    if not path.is_absolute() or ".." in path.parts or folder not in path.parents:
        return False
    return not any(above.is_symlink() for above in path.parents if folder in above.parents)


def refuse_links(home: Path, target: Path) -> None:
    """Raise DatasetError if a folder on the way to `target` in the quarantine is a link: it would lead elsewhere."""
    if home.is_symlink() or not inside(home, target):
        raise DatasetError(
            f"{target} cannot be written: a link is on its way.",
            expected=f"no {home}, or the folder that mslab check --fix made",
            fix=f"move {home} away",
        )


def _move_back(entry: dict[str, str]) -> str:
    """Undo one move. Returns a message, which starts with "left" if the file could not be moved back."""
    source, target = Path(entry["from"]), Path(entry["to"])
    if not (target.exists() or target.is_symlink()):
        return f"nothing at {target}: it was never moved, or was removed since"
    if (source.exists() or source.is_symlink()) and str(source) != entry.get("copy"):
        return f"left {target}: {source} exists again"
    if "copy" in entry:
        copy = Path(entry["copy"])
        if copy.is_file():
            if files.sha256(copy) != entry["sha256"]:
                return f"left {target}: its converted copy {copy} has changed since"
            copy.unlink()
        if "partial" in entry:
            Path(entry["partial"]).unlink(missing_ok=True)
    if source.exists() or source.is_symlink():
        return f"left {target}: {source} exists again"
    source.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(target, source)
    return f"moved back {target} -> {source}"
