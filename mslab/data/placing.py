"""Fill a data set's folder beside its final path, then rename it: a killed process leaves no half-written data set."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mslab.errors import DatasetError
from mslab.runtime import disks

BLOCK = 4096  # bytes in which a disk gives space to a file


@contextmanager
def staging_folder(out: Path, needed: int = 0) -> Iterator[Path]:
    """Yield a path beside `out`, .partial-RANDOM/NAME, to fill and then rename to `out`; delete the rest afterwards.

    Nobody else can write there, and nothing that existed is deleted: only a killed process leaves such a folder.
    `needed`: the bytes that it will have, as far as they are known. Raises DatasetError if `out` exists or the disk
    refuses, MslabError if the disk has less space.
    """
    if out.is_symlink() or out.exists():
        raise DatasetError(
            f"{out} already exists.",
            expected="a path that does not exist yet; nothing is overwritten",
            fix="use --out with another name, or move the existing folder away",
        )
    disks.require_space(out.parent, needed, out.name, "free some space, or use --out on another disk")
    try:
        with temporary_folder(out.parent) as folder:
            yield folder / out.name  # inside, since the umask shall decide who can read `out`
    except OSError as error:
        raise DatasetError(
            f"{out} cannot be written: {error.strerror or error}.",
            expected="enough free space for a copy of the images",
            fix="free some space, or use --out on another disk",
        ) from None


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder parent/.partial-RANDOM that only this user can enter; delete it afterwards.

    Parents that did not exist stay only if something was put there.
    """
    missing = [path for path in (parent, *parent.parents) if not path.exists()]
    try:
        if missing:
            parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".partial-", dir=parent))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        for path in missing:
            with suppress(OSError):  # not empty
                path.rmdir()


def space_of(sizes: Iterable[int]) -> int:
    """The bytes that files of these sizes take on a disk."""
    # space_of([1, 5000]) -> 12288
    return sum(-size // BLOCK * -BLOCK for size in sizes)
