"""The whole check: find the splits, load every image or take it from the cache, apply every rule."""

import base64
import hashlib
import os
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from mslab.check import content, images, layout, packed
from mslab.check.cache import Cache
from mslab.check.pool import ask
from mslab.check.records import ImageRecord, Split, shared
from mslab.check.report import DatasetReport
from mslab.check.scan import holds_images, is_junk, scan, scan_pack
from mslab.errors import DatasetError

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
    whole_packs: bool = False,
) -> DatasetReport:
    """Look at every folder and load every image of the splits.

    A `train` alone may be one split or a parent of train, val, test. `image_size` (pixels) and `batch_size` are what
    training will use; `skip_content` leaves out the rules that compare images with each other; `progress` is called
    with (done, total). A pack's images were checked when it was written: its shards' sizes are compared, with
    `whole_packs` their contents, too. Raises DatasetError only where there is no folder, or a pack is damaged. On
    Ctrl-C the KeyboardInterrupt carries the report so far as `.report`.
    """
    root, folders = find_splits({"train": train, "val": val, "test": test})
    report = DatasetReport(root, {}, class_num, image_size, batch_size, skip_content)
    for name, folder in folders.items():
        inside = folder == root / name or folder == root  # else it lies elsewhere and is a root of its own
        prefix = Path(os.path.relpath(folder, root)).as_posix()
        boundary, prefix = root if inside else folder, "" if prefix == "." else f"{prefix}/"
        if packed.is_pack(folder):
            report.splits[name] = scan_pack(name, folder, prefix, whole_packs, progress)
        else:
            report.splits[name] = scan(name, folder, prefix, boundary)
    if val is None and test is None and "" not in folders:
        beside = sorted(path.name for path in root.iterdir() if path.is_dir() and path.name not in folders)
        report.beside = [name for name in beside if not is_junk(name) and not name.endswith(".quarantine")]
    try:
        load(report, cache, progress)
    except KeyboardInterrupt as stop:
        report.complete = False
        stop.report = report  # type: ignore[attr-defined]
        raise
    finally:
        for rule in [*layout.RULES, *images.RULES, *([] if skip_content else content.RULES)]:
            report.findings.extend(rule(report))
    return report


def find_splits(given: dict[str, str | Path | None]) -> tuple[Path, dict[str, Path]]:
    """(root, {split: folder}); one split alone is called ""."""
    folders = {name: Path(folder) for name, folder in given.items() if folder is not None}
    for name, folder in folders.items():
        if not folder.is_dir():
            raise DatasetError(
                f"There is no folder {folder} ({name} images).",
                expected="a folder with one folder of images a class",
                fix="correct the path; `mslab data make` draws the demo data, `mslab data import` unpacks an archive",
            )
    root = folders["train"]
    if len(folders) == 1:
        inside = {name: root / name for name in layout.SPLITS if (root / name).is_dir()} if os.access(root, 5) else {}
        return root, inside if inside and not holds_images(root) else {"": root}
    root = Path(os.path.commonpath([folder.absolute() for folder in folders.values()]))
    return (Path(os.path.relpath(root)) if root.is_relative_to(Path.cwd()) else root), folders


def load(report: DatasetReport, use_cache: bool, progress: Progress | None) -> None:
    """Fill in what is in each file, from the cache where it has not changed."""
    with closing(Cache(use_cache)) as cache:
        classes = [
            (f"{os.path.realpath(split.root)}/{name}", split, pictures)
            for split in report.splits.values()
            if not split.pack
            for name, pictures in split.classes.items()
        ]
        changed = [row for row in classes if not cache.fill(row[0], row[2], not report.skip_content)]
        try:
            todo = [(split, p) for _, split, pictures in changed for p in pictures if not (p.sha256 or p.code)]
            answers = ask("look", [split.root / picture.name for split, picture in todo])
            for done, (index, seen) in enumerate(answers, 1):
                fill(todo[index][1], seen, not report.skip_content)
                if progress:
                    progress(done, len(todo))
            if not report.skip_content:
                compared = {id(split.classes[p.class_name]) for split, p in _compare(report)}
                known = {id(row[2]) for row in changed}
                changed += [row for row in classes if id(row[2]) in compared - known]
        finally:
            for folder, _, pictures in changed:
                cache.keep(folder, pictures)


def fill(picture: ImageRecord, seen: dict[str, Any], hashed: bool) -> None:
    """A worker's answer -> the picture."""
    for name in ("code", "said", "format", "mode", "width", "height", "frames", "orientation", "blank"):
        if name in seen:
            setattr(picture, name, shared(seen[name]))
    if "sha256" not in seen:
        return
    picture.sha256 = bytes.fromhex(seen["sha256"])
    thumbnail = base64.b64decode(seen["thumbnail"])
    picture.brightness = sum(thumbnail) / len(thumbnail)
    shape = f"{picture.width}x{picture.height}".encode()
    picture.thumbnail = hashlib.blake2b(shape + thumbnail, digest_size=8).digest()
    if hashed:
        picture.phash = content.perceptual_hash(thumbnail)


def _compare(report: DatasetReport) -> list[tuple[Split, ImageRecord]]:
    """Have the pixels digested of images whose thumbnails are equal but whose files are not. Returns those images."""
    counts = Counter(picture.thumbnail for _, picture in images.each(report))
    rows = [(split, p) for split, p in images.each(report) if counts[p.thumbnail] > 1]
    files: dict[bytes, set[bytes]] = {}
    for _, picture in rows:
        files.setdefault(picture.thumbnail, set()).add(picture.sha256)
    rows = [(split, p) for split, p in rows if len(files[p.thumbnail]) > 1 and not p.pixels]
    for index, seen in ask("pixels", [split.root / picture.name for split, picture in rows]):
        rows[index][1].pixels = bytes.fromhex(seen.get("pixels", ""))
    return rows
