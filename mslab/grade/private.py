"""Copy a submission and hash it on the way: what is measured is what was hashed, whatever happens to the original.

Only regular files are copied. No link is followed and no pipe opened, even if a name changes its kind meanwhile.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from mslab.errors import MslabError
from mslab.files import HAS_FOLDER_DESCRIPTORS, NO_LINK, NO_WAIT
from mslab.grade.contents import BadSubmission, MemberCheck, short
from mslab.grade.looking import LIMITS
from mslab.grade.platforms import is_system

CHUNK = 1 << 20
READ = os.O_RDONLY | NO_LINK | NO_WAIT
KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
OURS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
)  # not a student's


def copy(source: Path, target: Path, parts: Mapping[str, Path] | None = None) -> str:
    """Copy a submission, a file or a folder, to `target`. Returns its sha256: of names, sizes and contents.

    `parts`: name -> file or folder, if it consists of several; they are copied into one folder. Raises BadSubmission
    with the reason for the student, and MslabError if this machine's disk is full.
    """
    copying = Copying()
    try:
        if parts:
            target.mkdir(mode=0o700)
        for name, path in (parts or {}).items():
            copying.digest.update(os.fsencode(f"part\0{name}\0"))
            copying.one(path, target / name, short(name, 200))
        if not parts:
            copying.one(source, target, "it")
        return copying.digest.hexdigest()  # type: ignore[no-any-return]
    except OSError as error:
        if error.errno in OURS:
            raise disk_error(target.parent, error) from None
        raise BadSubmission(f"it cannot be read: {error.strerror}") from None


def disk_error(folder: Path, error: OSError) -> MslabError:
    """Message for the teacher: the disk is full, or the machine out of something else."""
    return MslabError(
        f"The grader cannot go on: {error.strerror or error} ({error.filename or folder}).",
        expected="room on the disk, where one submission may need several GiB, and free processes and open files",
        fix="free some space, or use other folders for --out and TMPDIR; the same command then continues",
    )


def kind_of(mode: int) -> str:
    """file, folder, link or device (all the rest)."""
    return KINDS.get(stat.S_IFMT(mode), "device")


class Copying:
    """The state of one copy: its digest, and what its limits are compared with."""

    def __init__(self) -> None:
        self.digest: Any = hashlib.sha256()
        self.bytes = 0
        self.problems: list[str] = []
        self.check = MemberCheck(LIMITS, self.problems)

    def one(self, source: Path, target: Path, name: str) -> None:
        """Copy a file or a folder; `name`: what messages call it."""
        status = source.lstat()
        kind = kind_of(status.st_mode)
        if kind not in ("file", "folder"):
            texts = {"link": f"{name} is a link: replace it with its target"}
            raise BadSubmission(texts.get(kind, f"{name} is neither a file nor a folder"))
        if kind == "file":
            self.digest.update(b"alone\0")  # no folder's hash begins like that
            self.file(os.open(source, READ), target, name, status.st_size)
        else:
            self.folder(source, target)

    def folder(self, source: Path, target: Path) -> None:
        """Copy a folder, level by level. Raises BadSubmission with every problem of its names."""
        pending: list[tuple[str, ...]] = [()]
        while pending:
            parts = pending.pop()
            target.joinpath(*parts).mkdir(mode=0o700)
            pending += reversed(self.level(source, target, parts))
        if self.problems:
            raise BadSubmission(short("; ".join(self.problems)))

    def level(self, source: Path, target: Path, parts: tuple[str, ...]) -> list[tuple[str, ...]]:
        """Copy the files of one folder. Returns its folders."""
        handle, folders = open_folder(source, parts), []
        place, by_handle = (handle, handle) if HAS_FOLDER_DESCRIPTORS else (source.joinpath(*parts), None)
        try:
            with os.scandir(place) as entries:
                names = sorted(entry.name for entry in islice(entries, LIMITS["members"] + 1))
            for name in names:
                path = name if by_handle is not None else source.joinpath(*parts, name)
                status, inside = os.stat(path, dir_fd=by_handle, follow_symlinks=False), "/".join((*parts, name))
                kind = kind_of(status.st_mode)
                if is_system(name) and kind in ("file", "folder"):  # a clone's .git has thousands of files
                    continue
                size = 0 if kind == "folder" else status.st_size  # a folder's size depends on the file system
                self.digest.update(os.fsencode(f"{kind}\0{inside}\0{size}\0"))
                if kind == "folder":
                    self.check.member(inside)
                    folders.append((*parts, name))
                elif self.check.file(inside, kind) and not self.problems:
                    opened = os.open(path, READ, dir_fd=by_handle)
                    self.file(opened, target.joinpath(*parts, name), short(inside, 200), size)
        finally:
            if handle is not None:
                os.close(handle)
        return folders

    def file(self, handle: int, target: Path, name: str, size: int) -> None:
        """Copy an open file of this size, which is part of a folder's hash already."""
        with os.fdopen(handle, "rb", buffering=0) as source:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or status.st_size != size:
                raise changed(name)
            self.bytes += size
            if self.bytes > LIMITS["bytes"]:  # a sparse file can have any size
                raise BadSubmission(f"it has more than {LIMITS['bytes'] >> 30} GiB")
            rest = size
            with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_WAIT, 0o400), "wb") as sink:
                while chunk := source.read(min(CHUNK, rest + 1)):
                    rest -= len(chunk)
                    if rest < 0:
                        break
                    self.digest.update(chunk)
                    sink.write(chunk)
            after = os.fstat(handle)
            if rest or (after.st_size, after.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
                raise changed(name)


def changed(name: str) -> BadSubmission:
    return BadSubmission(f"{name} changed while it was copied; grade it again when nothing writes to it")


def open_folder(source: Path, parts: Sequence[str]) -> int | None:
    """Open a folder below `source` one level at a time, so that no link on the way is followed.

    From the top each time: a descriptor for every level would let deep folders use up those of the grader.
    """
    if not HAS_FOLDER_DESCRIPTORS:
        return None
    handle = os.open(source, READ | os.O_DIRECTORY)
    for part in parts:
        try:
            inner = os.open(part, READ | os.O_DIRECTORY, dir_fd=handle)
        finally:
            os.close(handle)
        handle = inner
    return handle
