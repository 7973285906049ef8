"""--fix, --convert and --undo: what is wrong is moved to ROOT.quarantine/, never deleted, and a log leads it back."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mslab.check.pool import ask
from mslab.check.records import Finding, printable
from mslab.check.report import DatasetReport
from mslab.errors import DatasetError

# one line a move: {"from", "to", "why"}, and {"copy", "sha256"} where a converted copy took its place
LOG = "log.jsonl"
MOVED = {"stray-folder", "nested-folder", "symlink", "permission", "zero-byte", "unreadable", "truncated", "bomb"}
MOVED |= {"format", "timeout", "crash", "decoder", "split-leak", "duplicate"}
CONVERTED = {"format", "decoder", "animated", "mode", "exif-orientation"}

Move = tuple[Path, Path, Finding, bool]  # from, to, why, whether a converted copy takes its place


def quarantine_of(root: Path) -> Path:
    return root.with_name(root.name + ".quarantine")


def plan_moves(report: DatasetReport, convert: bool = False) -> list[Move]:
    """What is to be moved, each file once. Nothing is touched.

    Raises DatasetError where a class would be left without images.
    """
    root = Path(os.path.abspath(report.root))  # noqa: PTH100  (links stay as they are)
    chosen: dict[Path, tuple[Finding, bool]] = {}
    for finding in report.findings:
        if finding.place is None or finding.severity == "info":
            continue
        rewritten = convert and finding.code in CONVERTED
        if rewritten or finding.code in MOVED:
            place = Path(os.path.abspath(finding.place))  # noqa: PTH100
            earlier = chosen.get(place)
            # what cannot be loaded is moved even if something else about it could be converted
            chosen[place] = (finding, rewritten) if earlier is None or earlier[1] > rewritten else earlier
    lost = {place for place, (_, rewritten) in chosen.items() if not rewritten}
    for split in report.splits.values():
        for name, pictures in split.classes.items():
            places = {Path(os.path.abspath(split.root / picture.name)) for picture in pictures}  # noqa: PTH100
            if places and places <= lost:
                raise DatasetError(
                    f"{split.root / name} would be left without images: --fix would move all {len(places)}.",
                    expected="at least one good image a class",
                    fix="replace these images, or remove the class yourself"
                    + "; --convert may save some" * (not convert),
                )
    home, moves, taken = quarantine_of(root), [], set()
    for place, (finding, rewritten) in chosen.items():
        target = home / place.relative_to(root)
        while target.exists() or target.is_symlink() or target in taken:
            target = target.with_name(target.name + "_")
        taken.add(target)
        moves.append((place, target, finding, rewritten))
    return moves


def fix(report: DatasetReport, convert: bool = False) -> Iterator[str]:
    """Do what plan_moves() says; yields a line for each move. The log is written first, so that a kill is undone, too."""
    moves = plan_moves(report, convert)
    copies: dict[Path, tuple[Path, Path]] = {}
    try:
        _convert([source for source, _, _, rewritten in moves if rewritten], copies)
        yield from _carry_out(report, moves, copies)
    finally:
        for partial, _ in copies.values():
            partial.unlink(missing_ok=True)


def _carry_out(report: DatasetReport, moves: list[Move], copies: dict[Path, tuple[Path, Path]]) -> Iterator[str]:
    home = quarantine_of(Path(os.path.abspath(report.root)))  # noqa: PTH100
    for source, target, finding, rewritten in moves:
        entry = {"from": str(source), "to": str(target), "why": finding.code}
        copy = copies.get(source)
        if rewritten and copy is None:
            continue  # it could not be converted after all; the next check says so
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if copy:
                partial, place = copy
                entry |= {"copy": str(place), "sha256": hashlib.sha256(partial.read_bytes()).hexdigest()}
            with (home / LOG).open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
                file.flush()
                os.fsync(file.fileno())
            shutil.move(source, target)
            if copy:
                os.replace(*copy)  # noqa: PTH105
        except OSError as error:
            raise DatasetError(
                f"{source} cannot be moved to {target}: {error.strerror or error}.",
                expected="a data set, and a folder beside it, that can be written to",
                fix=f"change the permissions of {source.parent}; what was moved already is in {home / LOG}",
            ) from None
        kept = f"; converted copy: {copy[1].name}" if copy else ""
        yield printable(f"moved {source} -> {target} ({finding.code}){kept}")


def _convert(sources: list[Path], copies: dict[Path, tuple[Path, Path]]) -> None:
    """Fill `copies`: {file: (written copy, the name it gets)}."""
    taken: set[Path] = set()
    for index, answer in ask("convert", sources):
        if "copy" in answer:
            source = sources[index]
            place, number = source.with_suffix(answer["suffix"]), 1
            while (place.exists() and place != source) or place in taken:
                number += 1
                place = source.with_name(f"{source.stem}-{number}{answer['suffix']}")
            taken.add(place)
            copies[source] = Path(answer["copy"]), place


def undo(root: Path) -> Iterator[str]:
    """Move everything in ROOT.quarantine/ back, the last first; yields a line for each.

    Raises DatasetError where there is nothing to undo. Never overwrites: what cannot go back stays in quarantine, and
    in its log.
    """
    home = quarantine_of(Path(os.path.abspath(root)))  # noqa: PTH100
    log = home / LOG
    if not log.is_file():
        raise DatasetError(
            f"There is nothing to undo: no {log}.",
            expected="the quarantine that mslab check ROOT --fix made beside ROOT",
            fix="give the ROOT that --fix was called with",
        )
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    left = []
    for entry in reversed(entries):
        said = _back(entry)
        if said.startswith("left"):
            left.append(entry)
        yield printable(said)
    if left:
        log.write_text("".join(json.dumps(entry) + "\n" for entry in reversed(left)), encoding="utf-8")
        return
    log.unlink()
    for folder, _, _ in os.walk(home, topdown=False):
        with suppress(OSError):  # not empty: something was put there by hand
            Path(folder).rmdir()


def _back(entry: dict[str, str]) -> str:
    """Undo one move. Returns what was done; it begins with "left" where nothing could be."""
    source, target = Path(entry["from"]), Path(entry["to"])
    if not (target.exists() or target.is_symlink()):
        return f"nothing at {target}: it had not been moved, or was taken from there"
    if "copy" in entry:
        copy = Path(entry["copy"])
        if copy.is_file():
            if hashlib.sha256(copy.read_bytes()).hexdigest() != entry["sha256"]:
                return f"left {target}: its converted copy {copy} was changed since"
            copy.unlink()
        copy.with_name(source.name + ".partial").unlink(missing_ok=True)
    if source.exists() or source.is_symlink():
        return f"left {target}: there is another {source} now"
    source.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(target, source)
    return f"moved back {target} -> {source}"
