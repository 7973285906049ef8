"""Fill a data set's folder beside its final path, then rename it: a killed process leaves no half-written data set."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mslab.errors import DatasetError


@contextmanager
def staging_folder(out: Path) -> Iterator[Path]:
    """Yield a path beside `out` to fill and then rename to `out`; delete it afterwards if it still exists.

    Raises DatasetError if `out` exists or the disk refuses.
    """
    if out.exists():
        raise DatasetError(
            f"{out} already exists.",
            expected="a path that does not exist yet; nothing is overwritten",
            fix="use --out with another name, or move the existing folder away",
        )
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a killed process
    try:
        yield partial
    except OSError as error:
        raise DatasetError(
            f"{out} cannot be written: {error.strerror or error}.",
            expected="enough free space for a copy of the images",
            fix="free some space, or use --out on another disk",
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
