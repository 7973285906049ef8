"""Which weights of a pack a file or folder contains, by names alone: so two students' packs are told from two halves.

Archives are listed in a process of its own, and nothing is unpacked.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from mslab.data.archives import Budget, open_archive
from mslab.files import kind_of
from mslab.grade.choosing import WEIGHTS
from mslab.grade.platforms import end_of
from mslab.runtime import limited

MOST = 5000  # names in a file or folder that are read
Key = TypeVar("Key")
INSIDE = "an archive that is not opened here"


def holdings(paths: Mapping[Key, tuple[str, Path]], expected: Sequence[str]) -> dict[Key, frozenset[str]]:
    """For each key the expected weights in (name, file or folder); the name is part of the files' names inside.

    Nothing for what cannot be listed. {"a": ("nine.zip", FILE with best.ckpt)} -> {"a": {"nine/best.ckpt"}}
    """
    marks = [name for name in expected if name.endswith(WEIGHTS)] or expected
    if not marks or not paths:
        return dict.fromkeys(paths, frozenset())
    try:
        found = limited.call("mslab.grade.packs:look", [[name, str(path)] for name, path in paths.values()], marks)
    except (OSError, MemoryError):  # what is in them is found out when they are measured
        return dict.fromkeys(paths, frozenset())
    return {name: frozenset(held) for name, held in zip(paths, found, strict=True)}


def look(
    rows: Sequence[tuple[str, str]], marks: Sequence[str], progress: Callable[[int, int], None]
) -> list[list[str]]:
    """The marks in each (name, path)."""
    found = []
    for number, (name, path) in enumerate(rows):
        names = list(names_of(name, Path(path)))
        held = [mark for mark in marks if any(f"/{inside}".endswith(f"/{mark}") for inside in names)]
        found.append(held or [INSIDE] * any(end_of(inside) for inside in names))
        progress(number + 1, len(rows))
    return found


def names_of(name: str, path: Path) -> Iterable[str]:
    """Names of the files in an archive or a folder, with those in the folder's archives."""
    if kind_of(path) != "a folder":
        yield from listed(path, f"{name.removesuffix(end_of(name))}/")
        return
    walked = ((Path(top) / file) for top, _, files in os.walk(path) for file in sorted(files))
    for file in islice(walked, MOST):
        inside = f"{name}/{file.relative_to(path).as_posix()}"
        if end_of(inside) and not file.is_symlink():
            yield from listed(file, f"{inside.removesuffix(end_of(inside))}/")
        else:
            yield inside


def listed(archive: Path, prefix: str) -> list[str]:
    """Names in an archive, up to its first damage."""
    names: list[str] = []
    try:
        with open_archive(archive, Budget(archive, archive.stat().st_size)) as members:
            for member in islice(members, MOST):
                names += [prefix + member.name.replace("\\", "/")] * (member.kind == "file")
    except Exception:  # readers of damaged archives raise many types
        pass
    return names
