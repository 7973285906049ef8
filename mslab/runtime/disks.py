"""Free space, looked at before something large is written."""

import logging
import shutil
from pathlib import Path

from mslab.errors import MslabError

log = logging.getLogger("mslab")
TIGHT = 3  # a note where the disk has less than this times what is written


def require_space(folder: Path, needed: int, content: str, fix: str) -> None:
    """Raise MslabError if the disk of `folder` has less than `needed` bytes free; log a note if it is tight.

    What a quota or another program takes cannot be seen here: who writes has to expect a full disk all the same.
    """
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        free = shutil.disk_usage(existing).free
    except OSError:  # a file system that does not tell
        return
    if needed > free:
        raise MslabError(
            f"{content} needs {size_text(needed)} in {folder}, and the disk has {size_text(free)} free. "
            "Nothing was written.",
            expected="a disk on which it fits",
            fix=fix,
        )
    if needed * TIGHT > free:
        log.info(f"note: {content} needs {size_text(needed)} in {folder}; the disk has {size_text(free)} free")


def size_text(size: int) -> str:
    # size_text(471_859_200) -> "472 MB"
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB")):
        if size >= unit:
            return f"{size / unit:.{0 if size >= 10 * unit else 1}f} {name}"
    return f"{size / 1000:.0f} kB"
