"""Cached files: their folder, arrays on disk, whether more of them fit, and which ones are deleted first."""

import os
import shutil
import time
from pathlib import Path
from typing import IO, Any

import numpy as np

STALE = 86400  # seconds after which a half-written file is assumed to be abandoned


def cache_folder(kind: str) -> Path:
    """Folder of cached files of this kind: ~/.cache/mslab/KIND."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mslab" / kind


def space_problem(folder: Path, needed: int, key: str, max_bytes: int) -> str:
    """Reason why files KEY-… of `needed` bytes cannot be cached there, or "". `max_bytes`: limit of the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        existing = sum(path.stat().st_size for path in folder.glob(f"{key}-*"))
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return f"{folder} cannot be used: {error.strerror}"
    if not os.access(folder, os.W_OK):
        return f"{folder} is not writable"
    if needed > max_bytes or needed - existing > free // 2:
        size = f"{needed / 2**30:.1f} GiB are too much"
        return f"{size} (at most {max_bytes / 2**30:g} GiB, and half of the {free / 2**30:.1f} GiB free in {folder})"
    return ""


def delete_oldest(folder: Path, key: str, max_bytes: int) -> None:
    """Delete the least recently used files, except those of `key`, until the total is at most `max_bytes`."""
    for path in folder.glob(".*.tmp"):
        if time.time() - path.stat().st_mtime > STALE:
            path.unlink(missing_ok=True)
    files = sorted(folder.glob("[!.]*"), key=lambda path: path.stat().st_mtime)
    total = sum(path.stat().st_size for path in files)
    for path in files:
        if total > max_bytes and not path.name.startswith(key):
            total -= path.stat().st_size
            path.unlink(missing_ok=True)


def new_array(file: IO[bytes], dtype: Any, shape: tuple[int, ...]) -> np.memmap:
    """A new array in a .npy file, memory-mapped. Raises OSError at once if the disk has no space for all of it.

    A mapped file for which the disk has no space kills the process that writes to it (SIGBUS).
    """
    description = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, description)
    start, size = file.tell(), int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    reserve(file, start + size)
    return np.memmap(file, dtype, "r+", start, shape)  # type: ignore[call-overload,no-any-return]


def reserve(file: IO[bytes], size: int) -> None:
    """Make the file `size` bytes long, and have the disk reserve them. Raises OSError."""
    file.flush()
    if hasattr(os, "posix_fallocate"):  # where a file system cannot reserve, the C library writes every block
        os.posix_fallocate(file.fileno(), 0, size)
        return
    at = file.tell()
    file.seek(0, os.SEEK_END)
    while (missing := size - file.tell()) > 0:
        file.write(bytes(min(missing, 1 << 20)))
    file.flush()
    file.seek(at)
