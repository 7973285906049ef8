"""Files that are kept to save time: where they lie, whether more of them fit, and which go first."""

import os
import shutil
import time
from pathlib import Path

STALE = 86400  # seconds after which a half-written file has no writer any more


def cache_folder(what: str) -> Path:
    """The folder of kept `what`: ~/.cache/mslab/WHAT."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mslab" / what


def space_problem(folder: Path, wanted: int, key: str, most: int) -> str:
    """Why files KEY-… of so many bytes cannot be kept there, or "". `most`: bytes that the folder may take."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = sum(path.stat().st_size for path in folder.glob(f"{key}-*"))
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return f"{folder} cannot be used: {error.strerror}"
    if not os.access(folder, os.W_OK):
        return f"{folder} may not be written to"
    if wanted > most or wanted - there > free // 2:
        size = f"{wanted / 2**30:.1f} GiB are too much"
        return f"{size} (at most {most / 2**30:g} GiB, and half of the {free / 2**30:.1f} GiB free in {folder})"
    return ""


def delete_oldest(folder: Path, key: str, most: int) -> None:
    """Delete the files that were longest not used, those of `key` excepted, until all take no more than `most`."""
    for path in folder.glob(".*.tmp"):
        if time.time() - path.stat().st_mtime > STALE:
            path.unlink(missing_ok=True)
    files = sorted(folder.glob("[!.]*"), key=lambda path: path.stat().st_mtime)
    total = sum(path.stat().st_size for path in files)
    for path in files:
        if total > most and not path.name.startswith(key):
            total -= path.stat().st_size
            path.unlink(missing_ok=True)
