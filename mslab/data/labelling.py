"""`mslab data import --labels`: images in flat folders and a table of their labels -> a folder of images per class."""

import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mslab.check.labels import read_labels
from mslab.check.levels import listed, may_have_labels
from mslab.check.records import Labels
from mslab.check.tabular import EXPECTED
from mslab.data.archives import archive_error
from mslab.data.placing import space_of, staging_folder
from mslab.data.unpacking import refuse_no_archive, unpack_images
from mslab.errors import DatasetError
from mslab.files import kind_of
from mslab.runtime import limited

Progress = Callable[[int, int], None]
SORTED = "sorted"  # folder of the classes beside the unpacked images, until it is moved into place


@dataclass(frozen=True)
class LabelOptions:
    """The table, and its columns if they are not to be found by themselves."""

    table: str  # a path, or the name of a file in the archive or folder
    image_column: str = ""
    label_column: str = ""


@dataclass
class Sorted:
    """Result of an import with a table."""

    root: Path
    table: str
    counts: dict[str, int]  # class -> images
    notes: list[str]

    def __str__(self) -> str:
        images, classes = sum(self.counts.values()), len(self.counts)
        line = f"{self.root}: {images} images in {classes} classes, as {self.table} says"
        return "\n".join([line, *(f"  {note}" for note in self.notes)])


def import_labelled(source: Path, out: Path, options: LabelOptions, progress: Progress | None = None) -> Sorted:
    """Copy the images of a folder, or unpack those of an archive, into class folders in `out`.

    Raises DatasetError, leaving nothing behind, if the table does not say which image has which label.
    """
    if kind_of(source, links=True) == "a folder":
        return copy_sorted(source, out, options, progress)
    refuse_no_archive(source)
    with staging_folder(out, source.stat().st_size if kind_of(source, links=True) == "a file" else 0) as partial:
        partial.mkdir()
        try:
            arguments = (str(source), str(partial), options.table, options.image_column, options.label_column)
            result = limited.call("mslab.data.labelling:unpack_sorted", *arguments, progress=progress)
        except MemoryError:
            raise archive_error(source, f"takes more than {limited.MEMORY >> 30} GiB of memory to unpack") from None
        (partial / SORTED).rename(out)
    return Sorted(out, result["table"], result["counts"], result["notes"])


def copy_sorted(source: Path, out: Path, options: LabelOptions, progress: Progress | None) -> Sorted:
    labels = read_labels(table_of(source, options.table), source, options.image_column, options.label_column, True)
    with staging_folder(out, space_of(path.stat().st_size for path in labels.files.values())) as partial:
        for done, (name, path) in enumerate(labels.files.items(), 1):
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, partial / name)
            if progress:
                progress(done, len(labels.files))
        partial.rename(out)
    return Sorted(out, str(labels.table), counts_of(labels), [text for _, text in labels.notes])


def table_of(folder: Path, table: str) -> Path:
    """The table that --labels means: a path, or a file in the folder. Raises DatasetError if there is none."""
    for path in (Path(table), folder / table):
        if kind_of(path, links=True) == "a file":
            return path
    there = [p.name for p in sorted(folder.iterdir()) if may_have_labels(p.name)]
    raise no_table(f"{table}: there is no such file, neither here nor in {folder}.", there)


def no_table(what: str, there: list[str]) -> DatasetError:
    fix = f"--labels with one of {listed(there)}" if there else "correct the path"
    return DatasetError(what, expected=EXPECTED, fix=fix)


def unpack_sorted(
    archive: str, folder: str, table: str, image_column: str, label_column: str, progress: Progress
) -> dict[str, Any]:
    """Unpack the images to `folder`, and move those in the table into classes in its folder `sorted`."""
    source, top = Path(archive), Path(folder)
    away = top / "unpacked"
    away.mkdir()
    beside = kind_of(Path(table), links=True) == "a file"
    done = unpack_images(source, away, progress, "" if beside else table)
    found = [name for name in done.tables if f"/{name}".endswith(f"/{table}")]
    if not beside and len(found) != 1:
        count = f"{len(found)} files" if found else "no file"
        raise no_table(f"{archive} has {count} {table} in it, and there is none beside it.", found or done.tables)
    try:
        path = Path(table) if beside else away / found[0]
        labels = read_labels(path, away, image_column, label_column, inside=True)
    except DatasetError as error:  # the user knows the archive, not the folder that is deleted now
        what = error.what.replace(f"{away}{os.sep}", f"{archive}: ").replace(str(away), archive)
        raise DatasetError(what, expected=error.expected, fix=error.fix, details=error.details) from None
    for name, image in labels.files.items():
        (top / SORTED / name).parent.mkdir(parents=True, exist_ok=True)
        image.rename(top / SORTED / name)
    skipped = Counter({kind: count for kind, count in done.skipped.items() if kind != "files that are not images"})
    notes = [text for _, text in labels.notes] + [f"skipped: {count} {kind}" for kind, count in skipped.items()]
    shown = table if beside else f"{archive}: {found[0]}"
    return {"table": shown, "counts": counts_of(labels), "notes": notes}


def counts_of(labels: Labels) -> dict[str, int]:
    return dict(sorted(Counter(name.partition("/")[0] for name in labels.files).items()))
