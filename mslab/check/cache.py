"""Cached results for unchanged files, so that they are not decoded again. Losing the cache costs only time."""

import hashlib
import os
import sqlite3
import time
from contextlib import suppress
from dataclasses import astuple, fields
from importlib.util import find_spec
from pathlib import Path

import PIL

from mslab.check import decoder, formats, worker
from mslab.check.records import ImageRecord, interned

FRESH = 2.0  # seconds; a file changed this recently may change again within the same time stamp, so it is not cached
DAYS = 90  # a folder that was not checked for this long is removed from the cache
COLUMNS = [field.name for field in fields(ImageRecord)][1:-1]  # without name and label
TRANSIENT = ("timeout", "crash", "permission")  # may be gone next time


def version() -> str:
    """Digest of what results depend on: the worker's source, Pillow's version, and whether a HEIC can be read."""
    source = b"".join(Path(str(module.__file__)).read_bytes() for module in (worker, decoder, formats))
    heic = find_spec("pillow_heif") is not None
    return hashlib.sha256(source + f"{PIL.__version__} {heic}".encode()).hexdigest()[:16]


def default_path() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "mslab" / "check.sqlite"


class Cache:
    """Rows of (folder, name, size, time stamps, checker version). A cache that cannot be used acts as an empty one."""

    def __init__(self, enabled: bool = True) -> None:
        self.path, self.version = default_path(), version()
        self.base: sqlite3.Connection | None = None
        for _ in range(2 if enabled else 0):
            try:
                self.base = self._open()
                return
            except sqlite3.DatabaseError as error:  # not a database, or with other columns: create a new one
                if "locked" in str(error):  # another check is writing to it
                    return
                with suppress(OSError):
                    self.path.unlink()
            except OSError:
                return

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        base = sqlite3.connect(self.path, timeout=5)
        columns = ", ".join(["folder BLOB", "version TEXT", "used REAL", "name BLOB", *COLUMNS])
        base.execute(f"CREATE TABLE IF NOT EXISTS pictures ({columns}, PRIMARY KEY (folder, name)) WITHOUT ROWID")
        base.execute(f"SELECT {', '.join(COLUMNS)} FROM pictures LIMIT 1").fetchall()
        return base

    def fill(self, folder: str, pictures: list[ImageRecord], content: bool) -> bool:
        """Fill in the cached results of these files. Returns True if no file is left to load.

        With `content`, a row without a perceptual hash does not count.
        """
        if self.base is None:
            return False
        cached: dict[str, list] = {}
        hashed, code = COLUMNS.index("phash"), COLUMNS.index("code")
        with suppress(sqlite3.Error):
            query = f"SELECT name, {', '.join(COLUMNS)} FROM pictures WHERE folder = ? AND version = ?"
            for name, *values in self.base.execute(query, (os.fsencode(folder), self.version)):
                cached[os.fsdecode(name)] = values
        complete = True
        for picture in pictures:
            values = cached.get(picture.name.rsplit("/", 1)[1])
            same = values and (values[0], values[1]) == (picture.size, picture.stamp)
            if values and same and (values[hashed] or values[code] or not content):
                for name, value in zip(COLUMNS, values, strict=True):
                    setattr(picture, name, value if name == "stamp" else interned(value))
            else:
                complete = False
        return complete

    def save(self, folder: str, pictures: list[ImageRecord]) -> None:
        """Replace the folder's rows."""
        if self.base is None:
            return
        now = time.time()
        rows = [
            (
                os.fsencode(folder),
                self.version,
                now,
                os.fsencode(picture.name.rsplit("/", 1)[1]),
                *astuple(picture)[1:-1],
            )
            for picture in pictures
            if (picture.sha256 or picture.code) and picture.code not in TRANSIENT and _settled(picture, now)
        ]
        with suppress(sqlite3.Error), self.base:
            old = os.fsencode(folder), now - DAYS * 86400
            self.base.execute("DELETE FROM pictures WHERE folder = ? OR used < ?", old)
            placeholders = ", ".join("?" * (4 + len(COLUMNS)))
            self.base.executemany(f"INSERT INTO pictures VALUES ({placeholders})", rows)

    def close(self) -> None:
        if self.base is not None:
            self.base.close()


def _settled(picture: ImageRecord, now: float) -> bool:
    latest = max(int(part) for part in picture.stamp.split("-")) / 1e9
    return now - latest > FRESH
