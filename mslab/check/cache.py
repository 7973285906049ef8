"""What was seen in unchanged files, so that they are not decoded again. Losing it costs time, nothing else."""

import hashlib
import os
import sqlite3
import time
from contextlib import suppress
from dataclasses import astuple, fields
from pathlib import Path

import PIL

from mslab.check import worker
from mslab.check.records import ImageRecord, shared

FRESH = 2.0  # seconds: a file changed so recently may change again within the same time stamp; it is not kept
DAYS = 90  # a folder that was not looked at for so long is forgotten
SEEN = [field.name for field in fields(ImageRecord)][1:]
PASSING = ("timeout", "crash", "permission")  # may be gone next time


def version() -> str:
    """Another worker or another Pillow sees with other eyes."""
    source = Path(worker.__file__).read_bytes()
    return hashlib.sha256(source + PIL.__version__.encode()).hexdigest()[:16]


def default_path() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "mslab" / "check.sqlite"


class Cache:
    """Rows of (folder, name, size, time stamps, checker version). A cache that cannot be used is an empty one."""

    def __init__(self, wanted: bool = True) -> None:
        self.path, self.version = default_path(), version()
        self.base: sqlite3.Connection | None = None
        for _ in range(2 if wanted else 0):
            try:
                self.base = self._open()
                return
            except sqlite3.DatabaseError as error:  # not a database, or of other columns: begin anew
                if "locked" in str(error):  # another check is writing to it
                    return
                with suppress(OSError):
                    self.path.unlink()
            except OSError:
                return

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        base = sqlite3.connect(self.path, timeout=5)
        columns = ", ".join(["folder BLOB", "version TEXT", "used REAL", "name BLOB", *SEEN])
        base.execute(f"CREATE TABLE IF NOT EXISTS pictures ({columns}, PRIMARY KEY (folder, name)) WITHOUT ROWID")
        base.execute(f"SELECT {', '.join(SEEN)} FROM pictures LIMIT 1").fetchall()
        return base

    def fill(self, folder: str, pictures: list[ImageRecord], content: bool) -> bool:
        """Fill in what is known of these files. True where nothing is left to look at.

        With `content`, a row without perceptual hash does not count.
        """
        if self.base is None:
            return False
        known: dict[str, list] = {}
        hashed, code = SEEN.index("phash"), SEEN.index("code")
        with suppress(sqlite3.Error):
            query = f"SELECT name, {', '.join(SEEN)} FROM pictures WHERE folder = ? AND version = ?"
            for name, *seen in self.base.execute(query, (os.fsencode(folder), self.version)):
                known[os.fsdecode(name)] = seen
        complete = True
        for picture in pictures:
            seen = known.get(picture.name.rsplit("/", 1)[1])
            same = seen and (seen[0], seen[1]) == (picture.size, picture.stamp)
            if seen and same and (seen[hashed] or seen[code] or not content):
                for name, value in zip(SEEN, seen, strict=True):
                    setattr(picture, name, value if name == "stamp" else shared(value))
            else:
                complete = False
        return complete

    def keep(self, folder: str, pictures: list[ImageRecord]) -> None:
        """Replace what is known of the folder."""
        if self.base is None:
            return
        now = time.time()
        rows = [
            (os.fsencode(folder), self.version, now, os.fsencode(picture.name.rsplit("/", 1)[1]), *astuple(picture)[1:])
            for picture in pictures
            if (picture.sha256 or picture.code) and picture.code not in PASSING and _settled(picture, now)
        ]
        with suppress(sqlite3.Error), self.base:
            old = os.fsencode(folder), now - DAYS * 86400
            self.base.execute("DELETE FROM pictures WHERE folder = ? OR used < ?", old)
            marks = ", ".join("?" * (4 + len(SEEN)))
            self.base.executemany(f"INSERT INTO pictures VALUES ({marks})", rows)

    def close(self) -> None:
        if self.base is not None:
            self.base.close()


def _settled(picture: ImageRecord, now: float) -> bool:
    latest = max(int(part) for part in picture.stamp.split("-")) / 1e9
    return now - latest > FRESH
