"""The complete check: find the splits, load every image or read its cached result, apply every rule."""

import base64
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mslab.check import class_folders, content, groups, images, labelled, layout, levels, packed
from mslab.check.cache import Cache
from mslab.check.pool import ask
from mslab.check.records import ImageRecord, Split, interned
from mslab.check.report import DatasetReport
from mslab.check.scan import Folders, scan, scan_pack
from mslab.check.splits import Layout, classes_folder, find_splits, subfolders
from mslab.check.tabular import is_table
from mslab.config import paths
from mslab.errors import DatasetError
from mslab.escaping import command, quoted
from mslab.files import kind_of

CLASSES = "a folder with one folder of images per class, or a table of images and labels (CSV or TXT)"
Progress = Callable[[int, int], None]


def check_dataset(
    train: str | Path,
    val: str | Path | None = None,
    test: str | Path | None = None,
    class_num: int | None = None,
    *,
    image_size: int | None = None,
    batch_size: int | None = None,
    skip_content: bool = False,
    cache: bool = True,
    progress: Progress | None = None,
    verify_packs: bool = False,
    follow_links: bool = False,
    ignore: Iterable[str] = (),
    classes: Iterable[str] | None = None,
    merge: Mapping[str, Iterable[str]] = MappingProxyType({}),
    trained: Mapping[str, Iterable[str]] | None = None,
    resize_mode: str = "crop",
    group: str | None = None,
) -> DatasetReport:
    """Check every folder and load every image of the splits.

    `train` alone may be one split, or a folder with splits in it under any usual name; each may be a table.
    `image_size` (pixels) and `batch_size` are those of the training to come; `skip_content` skips the rules that
    compare images; `progress` is called with (done, total). A pack's images were checked when it was written: the sizes
    of its shards are compared, with `verify_packs` their sha256, too. `follow_links` reads what links to elsewhere lead
    to; `ignore` leaves out entries by name, or by their path in the split. `classes`, `merge` and `resize_mode` are the
    settings of this name; `trained`: {class: folders} of a network; `group`: which images belong into one split, as a
    regular expression for names or a column of the table. Raises DatasetError only if a folder is missing, or a pack or
    table cannot be read. On Ctrl-C the KeyboardInterrupt has the incomplete report as `.report`.
    """
    ignored, given = (ignore,) if isinstance(ignore, str) else tuple(ignore), {"train": train, "val": val, "test": test}
    root, folders, found = locate(given, ignored)
    report = DatasetReport(root, {}, class_num, image_size, batch_size, skip_content, layout=found)
    report.follow_links, report.ignored, report.resize_mode = follow_links, ignored, resize_mode
    for name, (boundary, folder) in folders.items():
        prefix, read = prefix_of(folder, report.base), Folders(boundary, follow_links, frozenset(ignored))
        if shape := levels.above_everything(folder):  # it is not read: who knows what is there
            report.splits[name] = Split(name, folder, prefix, shape=shape)
        elif reason := read.refused_above(folder, root if found else Path(given[name] or "")):
            report.splits[name] = Split(name, folder, prefix, links={"": reason})
        elif is_table(folder):
            report.splits[name] = labelled.scan_table(name, folder, report.base, follow_links, frozenset(ignored))
        elif packed.is_pack(folder):
            report.splits[name] = scan_pack(name, folder, prefix, verify_packs, progress)
        else:
            report.splits[name] = scan(name, folder, prefix, read)
    classes = [classes] if isinstance(classes, str) else classes
    report.asked = (None if classes is None else sorted(classes), {name: sorted(own) for name, own in merge.items()})
    report.findings += class_folders.choose(report, *report.asked, trained)
    report.grouping = groups.grouping(group, report) if group else None
    try:
        load(report, cache, progress)
    except KeyboardInterrupt as stop:
        report.complete, stop.report = False, report  # type: ignore[attr-defined]
        raise
    finally:
        apply_rules(report)
    return report


def prefix_of(folder: Path, base: Path) -> str:
    """What stands before the names of a split's files in findings."""
    # prefix_of(Path("root/train"), Path("root")) -> "train/"; of the root itself ""
    prefix = Path(os.path.relpath(folder, base)).as_posix()
    return "" if prefix == "." else f"{prefix}/"


def apply_rules(report: DatasetReport) -> None:
    """Add the findings of every rule; of a folder at another level than expected, those of the layout only."""
    rules = [*layout.RULES, *labelled.RULES, *groups.RULES, *images.RULES]
    rules += [] if report.skip_content else content.RULES
    for rule in rules if not any(map(levels.wrong_shape, report.splits.values())) else layout.RULES:
        report.findings.extend(rule(report))


def locate(
    given: dict[str, str | Path | None], ignored: tuple[str, ...]
) -> tuple[Path, dict[str, tuple[Path, Path]], Layout | None]:
    """(root, {split: (the folder that its links may not leave, the folder of its classes)}, what one ROOT contains).

    A single split has the name "". Raises DatasetError if a folder is missing.
    """
    named = {name: folder for name, folder in given.items() if folder is not None or name == "train"}
    folders = {n: paths.path_of(f, DatasetError, CLASSES, lambda: "the path of that folder") for n, f in named.items()}
    for name, folder in folders.items():
        if kind_of(folder, links=True) != "a folder" and not is_table(folder):
            raise no_images(folder, f" ({name} images)" * (len(folders) > 1))
    root = folders["train"]
    if len(folders) == 1:
        above = Path(os.path.realpath(root)) == Path(os.path.realpath(root)).parent  # with all of the machine below it
        found = Layout(root, {"": root}) if above else find_splits(root, ignored)
        return root, {name: (root, folder) for name, folder in found.splits.items()}, found
    root = Path(os.path.commonpath([folder.absolute() for folder in folders.values()]))
    root = Path(os.path.relpath(root)) if root.is_relative_to(Path.cwd()) else root
    inside = {name: folder in (root, root / name) for name, folder in folders.items()}  # others are their own root
    return root, {n: (root if inside[n] else f, classes_folder(f, ignored)) for n, f in folders.items()}, None


def no_images(folder: Path, role: str = "") -> DatasetError:
    """The error for a path at which there is no folder of images. `role`: as in paths.missing."""
    fix = "correct the path; `mslab data make` draws the demo data, `mslab data import ARCHIVE` unpacks one"
    kind, found = kind_of(folder, links=True), paths.look(folder)
    if not kind:
        return paths.missing(folder, DatasetError, paths.Wanted("folder", CLASSES, has_classes), fix, role)
    if found.kind == "config":
        fix = "give the folder that this config names as train_data"
    elif found.kind == "weights" or (found.kind == "runs" and kind == "a folder"):
        fix = "give the folder of the images: RUN|CKPT comes first, --data names the images"
    elif found.text == "an archive":
        fix = f"{command('data', 'import', folder)}    unpacks it into datasets/"
    elif folder.suffix.lower() in levels.TABLES:
        fix = f"save {quoted(folder)} as CSV, and give that"
    elif found.kind == "image":
        above = folder.absolute().parent.parent
        siblings = sum(paths.has_image(above / name, 0) for name in subfolders(above)[:100])
        fix = "give the folder of the classes" + (f": {quoted(above)}?" if siblings > 1 else ", not one image")
    return DatasetError(f"{folder} is {kind}, and not a folder{role}.", expected=CLASSES, fix=fix)


def has_classes(folder: Path) -> bool:
    """Whether a folder may be of images: some are near its top, or it is packed."""
    return is_table(folder) or packed.is_pack(folder) or paths.look(folder).kind in ("data", "images")


def load(report: DatasetReport, use_cache: bool, progress: Progress | None) -> None:
    """Fill in the record of each file, from the cache if the file has not changed."""
    with closing(Cache(use_cache)) as cache:
        classes = [
            (f"{os.path.realpath(split.root)}/{name}", split, pictures)
            for split in report.splits.values()
            if not (split.pack or levels.wrong_shape(split))  # what is no data set is not loaded
            for name, pictures in split.folders.items()
        ]
        changed = [row for row in classes if not cache.fill(row[0], row[2], not report.skip_content)]
        try:
            todo = [(split, p) for _, split, pictures in changed for p in pictures if not (p.sha256 or p.code)]
            answers = ask("look", [split.path(picture.name) for split, picture in todo])
            for done, (index, answer) in enumerate(answers, 1):
                fill(todo[index][1], answer, not report.skip_content)
                if progress:
                    progress(done, len(todo))
            if not report.skip_content:
                again = [*_compare(report), *_look_again(report)]
                compared = {id(split.folders[p.folder]) for split, p in again}
                saved = {id(row[2]) for row in changed}
                changed += [row for row in classes if id(row[2]) in compared - saved]
        finally:
            for folder, _, pictures in changed:
                cache.save(folder, pictures)


def fill(picture: ImageRecord, answer: dict[str, Any], hashed: bool) -> None:
    """Copy a worker's answer into the record; with `hashed`, compute the perceptual hash."""
    for name in ("code", "problem", "format", "mode", "width", "height", "frames", "orientation", "blank", "junk"):
        if name in answer:
            setattr(picture, name, interned(answer[name]))
    if "sha256" not in answer:
        return
    picture.sha256 = bytes.fromhex(answer["sha256"])
    thumbnail = base64.b64decode(answer["thumbnail"])
    picture.brightness = sum(thumbnail) / len(thumbnail)
    shape = f"{picture.width}x{picture.height}".encode()
    picture.thumbnail = hashlib.blake2b(shape + thumbnail, digest_size=8).digest()
    if hashed:
        picture.phash = content.perceptual_hash(thumbnail)


def _compare(report: DatasetReport) -> list[tuple[Split, ImageRecord]]:
    """Digest the pixels of images with equal thumbnails but different files. Returns those images."""
    counts = Counter(picture.thumbnail for _, picture in images.loaded_images(report))
    rows = [(split, p) for split, p in images.loaded_images(report) if counts[p.thumbnail] > 1]
    files: dict[bytes, set[bytes]] = {}
    for _, picture in rows:
        files.setdefault(picture.thumbnail, set()).add(picture.sha256)
    rows = [(split, p) for split, p in rows if len(files[p.thumbnail]) > 1 and not p.pixels]
    for index, answer in ask("pixels", [split.path(picture.name) for split, picture in rows]):
        rows[index][1].pixels = bytes.fromhex(answer.get("pixels", ""))
    return rows


def _look_again(report: DatasetReport) -> list[tuple[Split, ImageRecord]]:
    """Fill in the thumbnails of images that may be mirrored or turned copies. Returns those images."""
    loaded = list(images.loaded_images(report))
    rows = [loaded[index] for index in content.maybe_turned(report)]
    rows = [(split, picture) for split, picture in rows if not picture.grey]
    for index, answer in ask("look", [split.path(picture.name) for split, picture in rows]):
        if "thumbnail" in answer:
            rows[index][1].grey = content.small_grey(base64.b64decode(answer["thumbnail"]))
    return rows
