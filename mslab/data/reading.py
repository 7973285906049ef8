"""Read an image file as it was when the check loaded it: training and evaluation use exactly those images."""

import hashlib
import os
from pathlib import Path

from mslab import files
from mslab.check.records import ImageRecord
from mslab.errors import DatasetError
from mslab.escaping import quoted


def read_checked(path: Path, record: ImageRecord | None) -> bytes:
    """The file's bytes. Raises DatasetError if it cannot be read or is not the one of the record.

    MindSpore's decoder would end the process on some damaged files. The content is compared only if size or times have
    changed: a backup or a copy changes a file's times, too.
    """
    try:
        with files.open_regular(path) as file:
            content, status = file.read(), os.fstat(file.fileno())
    except OSError as error:
        raise _unreadable(path, error) from error
    if record is None or not record.sha256 or (len(content), stamp(status)) == (record.size, record.stamp):
        return content
    if hashlib.sha256(content).digest() != record.sha256:
        size = f"{len(content)} bytes, {record.size} before" if len(content) != record.size else "other content"
        raise _lost(f"{path} has changed since it was checked: {size}.", "put the earlier file back")
    return content


def stamp(status: os.stat_result) -> str:
    """The times of a file's last changes, as the check records them."""
    return f"{status.st_mtime_ns}-{status.st_ctime_ns}"


def _unreadable(path: Path, error: OSError) -> DatasetError:
    missing = [folder for folder in path.parents if not folder.exists()]
    if missing:
        text = f"{path} is gone, and so is the folder {missing[-1]}."
        return _lost(text, "connect the disk or network drive again, or give the folder its name back")
    if isinstance(error, FileNotFoundError):
        return _lost(f"{path} is gone since it was checked.", "put it back under this name")
    fix = (
        f"chmod u+r {quoted(path)}"
        if isinstance(error, PermissionError)
        else "make it readable again, or put the earlier file back"
    )
    return _lost(f"{path} can no longer be read: {error.strerror or error}.", fix)


def _lost(what: str, fix: str) -> DatasetError:
    expected = "every image as it was checked, until the end"
    return DatasetError(what, expected=expected, fix=fix)
