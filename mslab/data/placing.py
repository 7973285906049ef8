"""A data set's folder is filled beside its place and put there whole: a kill leaves none that is half a data set."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mslab.errors import DatasetError


@contextmanager
def beside(out: Path) -> Iterator[Path]:
    """A folder to make beside `out` and to rename to it when it is complete; what is left of it is deleted.

    Raises DatasetError where the name is taken, or the disk refuses.
    """
    if out.exists():
        raise DatasetError(
            f"There is {out} already.",
            expected="a name that is free, since nothing is overwritten",
            fix="--out with another name, or move it away",
        )
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # of one that was killed
    try:
        yield partial
    except OSError as error:
        raise DatasetError(
            f"{out} cannot be written: {error.strerror or error}.",
            expected="room for a copy of the images",
            fix="free some space, or --out on another disk",
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
