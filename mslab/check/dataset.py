"""The complete check: find the splits, load every image or read its cached result, apply every rule."""

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
from mslab.check.records import ImageRecord, Split, interned
from mslab.check.report import DatasetReport
from mslab.check.scan import contains_images, is_junk, scan, scan_pack
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
    verify_packs: bool = False,
) -> DatasetReport:
    """Check every folder and load every image of the splits.

    `train` alone may be one split or the parent of train, val, test. `image_size` (pixels) and `batch_size` are those
    of the training to come; `skip_content` skips the rules that compare images; `progress` is called with (done,
    total). A pack's images were checked when it was written: the sizes of its shards are compared, with `verify_packs`
    their sha256, too. Raises DatasetError only if a folder is missing or a pack is damaged. On Ctrl-C the
    KeyboardInterrupt has the incomplete report as `.report`.
    """
    root, folders = find_splits({"train": train, "val": val, "test": test})
    report = DatasetReport(root, {}, class_num, image_size, batch_size, skip_content)
    for name, folder in folders.items():
        inside = folder == root / name or folder == root  # otherwise the folder is its own root
        prefix = Path(os.path.relpath(folder, root)).as_posix()
        boundary, prefix = root if inside else folder, "" if prefix == "." else f"{prefix}/"
        if packed.is_pack(folder):
            report.splits[name] = scan_pack(name, folder, prefix, verify_packs, progress)
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


def find_splits(paths: dict[str, str | Path | None]) -> tuple[Path, dict[str, Path]]:
    """(root, {split: folder}); a single split has the name ""."""
    folders = {name: Path(folder) for name, folder in paths.items() if folder is not None}
    for name, folder in folders.items():
        if not folder.is_dir():
            raise DatasetError(
                f"There is no folder {folder} ({name} images).",
                expected="a folder with one folder of images per class",
                fix="correct the path; `mslab data make` draws the demo data, `mslab data import ARCHIVE` unpacks one",
            )
    root = folders["train"]
    if len(folders) == 1:
        inside = {name: root / name for name in layout.SPLITS if (root / name).is_dir()} if os.access(root, 5) else {}
        return root, inside if inside and not contains_images(root) else {"": root}
    root = Path(os.path.commonpath([folder.absolute() for folder in folders.values()]))
    return (Path(os.path.relpath(root)) if root.is_relative_to(Path.cwd()) else root), folders


def load(report: DatasetReport, use_cache: bool, progress: Progress | None) -> None:
    """Fill in the record of each file, from the cache if the file has not changed."""
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
            for done, (index, answer) in enumerate(answers, 1):
                fill(todo[index][1], answer, not report.skip_content)
                if progress:
                    progress(done, len(todo))
            if not report.skip_content:
                compared = {id(split.classes[p.class_name]) for split, p in _compare(report)}
                saved = {id(row[2]) for row in changed}
                changed += [row for row in classes if id(row[2]) in compared - saved]
        finally:
            for folder, _, pictures in changed:
                cache.save(folder, pictures)


def fill(picture: ImageRecord, answer: dict[str, Any], hashed: bool) -> None:
    """Copy a worker's answer into the record; with `hashed`, compute the perceptual hash."""
    for name in ("code", "problem", "format", "mode", "width", "height", "frames", "orientation", "blank"):
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
    for index, answer in ask("pixels", [split.root / picture.name for split, picture in rows]):
        rows[index][1].pixels = bytes.fromhex(answer.get("pixels", ""))
    return rows
