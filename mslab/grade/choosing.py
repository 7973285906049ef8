"""Find the pack in what a student handed in: in folders, in archives in them, beside other files. Nothing is trusted.

Archives inside others share the limits of the submission: bytes, names, depth, number. An archive's files are named as
if it were a folder: nine.zip with best.ckpt gives nine/best.ckpt.
"""

import errno
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mslab.data.archives import OTHER_FORMATS, Budget, format_of
from mslab.errors import DatasetError
from mslab.grade.members import BadSubmission, Contents, MemberCheck, unpack
from mslab.grade.platforms import end_of, natural

DEPTH = 3  # archives inside each other
MAX_ARCHIVES = 20  # inside a submission
WEIGHTS = (".ckpt", ".safetensors", ".pth", ".onnx")
TEXTS = (".yaml", ".yml", ".json", ".csv")
UNPACK = "unpack it and hand in its files as a zip"


def without_path(error: DatasetError, archive: Path, outer: Path | None = None) -> str:
    """The error with "the archive" instead of its path, or that of the one around it: equal bytes give equal facts."""
    kind = format_of(archive)
    text = error.what.replace(str(archive), "the archive").replace(str(outer or archive), "the submission")
    return f"{text} {UNPACK[0].upper()}{UNPACK[1:]}." if kind in OTHER_FORMATS.values() else text


def open_inner(contents: Contents, folder: Path, budget: Budget, check: MemberCheck, expected: list[str]) -> None:
    """Unpack archives inside the submission while expected files are missing. Raises BadSubmission and OSError.

    An archive that cannot be unpacked is one note; it is a problem only if nothing else can be graded.
    """
    opened, failed = 0, []
    for depth in range(DEPTH + 1):
        best = ranking(contents, expected)
        if expected and best and best[0][0] == len(expected):
            break
        archives = [name for name in sorted(contents.files) if end_of(name) or is_other(contents.paths[name], name)]
        archives = [name for name in archives if name not in failed]
        if not archives or (not expected and len(contents.files) > 1):
            break
        if depth == DEPTH:
            contents.notes += [f"{name} was not opened: archives are more than {DEPTH} deep" for name in archives]
            failed += archives
            break
        for name in archives:
            opened += 1
            if opened > MAX_ARCHIVES:
                contents.notes.append(f"it contains more than {MAX_ARCHIVES} archives; the others were not opened")
                return
            if problem := open_one(contents, name, folder.with_name(f"inner-{opened}"), budget, check):
                failed.append(name)
                contents.notes.append(f"{name} was not opened: {problem}")
    if failed and not any(name.endswith((*WEIGHTS, *TEXTS)) for name in contents.files):
        contents.problems += [note for note in contents.notes if "was not opened" in note]


def is_other(path: Path, name: str) -> bool:
    return name.lower().endswith((".rar", ".7z", ".zst", ".cab", ".lzh")) and bool(format_of(path))


def open_one(contents: Contents, name: str, target: Path, budget: Budget, check: MemberCheck) -> str:
    """Replace an archive by its files. Returns why it was not opened, or ""."""
    path, outer = contents.paths[name], check.problems
    stem = name.removesuffix(end_of(name))
    if stem in contents.files or any(other.startswith(f"{stem}/") for other in contents.files):
        stem = f"{name} "  # no other name can be equal: it has the archive's ending
    check.problems = []
    try:
        sizes = unpack(path, target, budget, check, f"{stem}/")
        problem = "; ".join(check.problems[:3])
    except BadSubmission as error:
        sizes, problem = {}, str(error)
    except DatasetError as error:
        sizes, problem = {}, without_path(error, path, budget.archive)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):  # the disk's fault, not the submission's
            raise
        sizes, problem = {}, f"it cannot be read: {error.strerror or error}"
    finally:
        check.problems = outer
    if not problem:
        del contents.files[name]
        for inside, size in sizes.items():
            contents.add(f"{stem}/{inside}", target / inside, size)
    return problem


def ranking(contents: Contents, expected: Iterable[str]) -> list[tuple[int, str, set[str]]]:
    """(number of expected files, folder with "/", these files) of each folder with one; the best first.

    Of equal ones the highest "Version N" counts, then the outermost, then the last in the natural order of names.
    """
    found: dict[str, set[str]] = defaultdict(set)
    names = set(expected)
    for file in contents.files:
        parts = file.split("/")
        for at in range(len(parts)):
            if (inside := "/".join(parts[at:])) in names:
                found["".join(f"{part}/" for part in parts[:at])].add(inside)

    def key(prefix: str) -> Any:
        weights = sum(name.endswith(WEIGHTS) for name in found[prefix])  # they make a pack, more than a report
        return len(found[prefix]) + weights, version(prefix), -prefix.count("/"), natural(prefix.rstrip("/"))

    return [(len(found[prefix]), prefix, found[prefix]) for prefix in sorted(found, key=key, reverse=True)]


def version(prefix: str) -> int:
    """N of a folder "Version N" of Teams and OneDrive; 0 if there is none."""
    numbers = [part.split()[1] for part in prefix.lower().split("/") if part.startswith("version ")]
    return max((int(number) for number in numbers if number.isdecimal() and len(number) < 9), default=0)


def choose_folder(contents: Contents, expected: list[str]) -> None:
    """Make names relative to the folder that has the pack; expected files elsewhere are added to it."""
    best, all_files = ranking(contents, expected), contents.files
    top = best[0][1] if best else common_folder(contents)
    contents.top = top.rstrip("/ ")
    inside = {name: name.removeprefix(top) for name in all_files if name.startswith(top)}
    others = best[1:]
    if equal := [prefix for count, prefix, _ in others if count == best[0][0] and not is_nested(prefix, top)]:
        text = ", ".join(prefix.rstrip("/ ") or "the top" for prefix in equal[:5])
        contents.notes.append(f"{contents.top or 'the top'} is graded; there are as many of the files in {text}")
    for _, prefix, found in sorted(others, key=lambda row: not top.startswith(row[1])):  # folders around it first
        for name in sorted(found - set(inside.values())):
            if not version(prefix):
                inside[prefix + name] = name
                contents.notes.append(f"{name} is taken from {prefix.rstrip('/ ') or 'the top'}")
    names = set(expected)
    for _, prefix, found in others:  # what names one of the graded files from further outside is no other pack
        weights = [prefix + name for name in found if name.endswith(WEIGHTS)]
        if weights and not any(inside.get(whole) in names for whole in weights):
            contents.unused.append(prefix.rstrip("/ "))
    contents.files = {name: all_files[whole] for whole, name in inside.items()}
    contents.paths = {name: contents.paths[whole] for whole, name in inside.items()}


def is_nested(prefix: str, top: str) -> bool:
    return prefix.startswith(top) or top.startswith(prefix)


def common_folder(contents: Contents) -> str:
    """The innermost folder, with "/", that contains all files; "" if some are at the top."""
    top = ""
    while len({name.removeprefix(top).partition("/")[0] for name in contents.files}) == 1:
        first = next(iter(contents.files)).removeprefix(top)
        if "/" not in first:
            break
        top += f"{first.partition('/')[0]}/"
    return top
