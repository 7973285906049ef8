"""What a grading leaves if it ends early: the grades so far, and a cache from which the next one goes on."""

import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mslab.errors import MslabError
from mslab.files import TEMPORARY, kind_of, make_folder, open_regular
from mslab.grade import outputs
from mslab.grade.records import Graded
from mslab.grade.submissions import Submission
from mslab.runtime.tables import plural

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("mslab")
TABLES = ("grades.csv", "grades.json")
EVERY = 5.0  # seconds between two writings of the grades so far
PREFIX = "mslab-grade-work-"  # of temporary folders
NEW = 60  # seconds after which a temporary folder has been locked


class GradesSoFar:
    """The graded submissions, written at the first and then every few seconds, with the ids of those missing.

    The tables of an earlier grading are set aside until this one is finished.
    """

    def __init__(self, submissions: Sequence[Submission], rubric: Any, out: Path) -> None:
        self.missing = {submission.path: submission.id for submission in submissions}
        self.rubric, self.out = rubric, out
        self.graded: list[Graded] = []
        self.due = 0.0

    def add(self, path: Path, graded: Graded) -> None:
        del self.missing[path]
        self.graded.append(graded)
        if time.monotonic() >= self.due:
            self.write()

    def write(self) -> None:
        begun = time.monotonic()
        for name in TABLES:
            if (self.out / name).exists() and not self.earlier(name).exists() and not self.due:
                (self.out / name).replace(self.earlier(name))
        outputs.write_so_far(self.graded, sorted(self.missing.values()), self.rubric, self.out)
        self.due = time.monotonic() + max(EVERY, 20 * (time.monotonic() - begun))  # a large class costs at most 5 %

    def earlier(self, name: str) -> Path:
        return self.out / f"earlier-{name}"

    def finished(self) -> None:
        """To be called when all results are written: those of an earlier grading are of no use any more."""
        for name in TABLES:
            self.earlier(name).unlink(missing_ok=True)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Write them at the end of the block, and if it fails: a full disk, Ctrl-C, a bug."""
        try:
            yield
        except BaseException:
            if self.graded:
                with contextlib.suppress(MslabError, OSError):  # on a full disk the table written before stays
                    self.write()
                count = plural(len(self.graded) + len(self.missing), "submission")
                text = f"{len(self.graded)} of {count} are graded; their points are in {self.out}/grades.csv."
                log.info(f"{text} The same command goes on from there")
            raise
        self.write()


def check_place(out: Path, submissions: Path) -> None:
    """Raise MslabError if results cannot go to `out`: it is among the submissions, or their names are taken."""
    if submissions.resolve() in (out.resolve(), *out.resolve().parents):
        raise MslabError(
            f"--out {out} is inside the folder of submissions: the next grading would grade it.",
            expected="another folder; nothing was measured",
            fix="use --out with a folder beside the submissions",
        )
    students = out / "students"
    kinds = dict.fromkeys((out / ".cache", out / ".cache" / "images", students), "a folder")
    kinds |= {path: "a folder" for path in students.glob("*") if path.is_symlink()}  # a file there disturbs nothing
    kinds |= {out / f"{earlier}{name}": "a file" for name in TABLES for earlier in ("", "earlier-")}
    for path, kind in kinds.items():
        if kind_of(path) not in ("", kind):
            raise MslabError(
                f"{path} is {kind_of(path)}.",
                expected=f"{kind} of an earlier grading, or nothing; nothing was measured",
                fix="move it away, or use another --out",
            )


@contextmanager
def own_cache(folder: Path) -> Iterator[None]:
    """Keep other graders from a cache folder during the block. Deletes its images, and what a killed grader left."""
    make_folder(folder)
    try:
        lock = open_regular(folder / "lock", "ab")
    except OSError as error:
        raise MslabError(
            f"{folder}/lock cannot be opened: {error.strerror}.", expected="a writable folder", fix="another --out"
        ) from None
    with lock:
        if not lock_now(lock.fileno()):
            raise MslabError(
                f"Another mslab grade is writing to {folder.parent}.",
                expected="one at a time for each --out",
                fix="wait until it has ended, or use another --out",
            )
        for leftover in folder.glob(".*.tmp"):
            if TEMPORARY.fullmatch(leftover.name) and kind_of(leftover) == "a file":
                leftover.unlink(missing_ok=True)
        shutil.rmtree(folder / "images", ignore_errors=True)
        remove_abandoned_folders()
        try:
            yield
        finally:
            shutil.rmtree(folder / "images", ignore_errors=True)


def lock_now(handle: int) -> bool:
    """Lock an open file or folder for this process. Returns whether no other process has locked it."""
    with contextlib.suppress(OSError):  # a file system without locks
        try:
            if fcntl:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a new folder that only this account can enter; it is deleted at the end of the block."""
    path = Path(tempfile.mkdtemp(prefix=PREFIX))
    handle = os.open(path, os.O_RDONLY) if fcntl else None
    try:
        if handle is not None:
            lock_now(handle)  # until this process ends, however it ends
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def remove_abandoned_folders() -> None:
    """Delete the temporary folders of killed graders: nobody has locked them, and they may have several GiB."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*") if fcntl else ():
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                status = os.fstat(handle)
                # a new folder is not locked at once
                if status.st_uid == os.getuid() and time.time() - status.st_mtime > NEW and lock_now(handle):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(handle)
