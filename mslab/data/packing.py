"""`mslab data pack`: a checked data set -> MindRecord shards, to train on where many small files are slow."""

import hashlib
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mslab import checkpoint
from mslab.check import DatasetReport, packed
from mslab.check.records import ImageRecord, Split, printable
from mslab.data.placing import beside
from mslab.errors import DatasetError

SHARD = 2**30  # bytes of images in a shard, where the caller says nothing
LEAST_PAGE, MOST_PAGE = 2**20, 2**28  # bytes; MindRecord writes whole pages, and an image lies within one
BLOCK_HEAD = 8  # bytes that MindRecord puts before an image
PAGE_ENTRY = 256  # bytes, more than a page's row in a shard's header takes
TOGETHER = 64  # images that one call of MindRecord's writer takes; a call takes a millisecond
SCHEMA = {"image": {"type": "bytes"}, "label": {"type": "int32"}, "file": {"type": "string"}}


def pack_dataset(
    report: DatasetReport,
    out: Path,
    shards: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, packed.Pack]:
    """Write every split of a checked data set to out/SPLIT (one split alone: to `out`), in `shards` files each.

    Without `shards`, one for each GiB of images. Returns {split: its pack}. Raises DatasetError where the data set has
    errors, is packed already, or changes meanwhile, where `out` is there, or cannot be written; `out` appears only
    when it is complete.
    """
    refuse(report, shards)
    written = itertools.count(1)

    def count() -> None:
        if progress:
            progress(next(written), report.images)

    with beside(out) as partial:
        try:
            packs = {
                name: write_split(report, split, partial / name, shards, count) for name, split in report.splits.items()
            }
        except RuntimeError as error:  # MindSpore's, on a full disk
            lines = str(error).splitlines() or [""]
            raise OSError(next((line for line in lines if "[ERROR]" in line), lines[0])) from None
        partial.rename(out)
    return packs


def refuse(report: DatasetReport, shards: int | None) -> None:
    """DatasetError where packing cannot begin."""
    report.raise_errors()
    if any(split.pack for split in report.splits.values()):
        raise DatasetError(
            f"{report.root} is packed already.",
            expected="folders of images, or a parent of train, val and test",
            fix="train on it as it is; pack the folders that it was made from for another number of shards",
        )
    fewest = min(len(split.pictures) for split in report.splits.values())
    if shards is not None and not 1 <= shards <= min(fewest, 1000):
        raise DatasetError(
            f"{shards} shards cannot be made: the smallest split has {fewest} images.",
            expected="1 to 1000 shards, at least one image in each",
            fix="a smaller --shards; without it, there is one for each GiB",
        )
    for split in report.splits.values():
        largest = max(split.pictures, key=lambda picture: picture.size)
        if largest.size + BLOCK_HEAD > MOST_PAGE:
            raise DatasetError(
                f"{split.show(largest.name)} has {largest.size / 2**20:.0f} MiB.",
                expected="images of less than 256 MiB, the largest that MindRecord takes",
                fix="save it smaller, or leave it out",
            )


def write_split(
    report: DatasetReport, split: Split, folder: Path, shards: int | None, count: Callable[[], None]
) -> packed.Pack:
    """The split's shards and pack.json in `folder`."""
    folder.mkdir(parents=True)
    rows = [(picture, i) for i, name in enumerate(report.class_names) for picture in split.classes[name]]
    number = shards or 1 + sum(picture.size for picture, _ in rows) // SHARD
    parts = []
    for index, chunk in enumerate(np.array_split(np.arange(len(rows)), number)):
        path = folder / f"shard-{index:04}.mindrecord"
        write_shard(path, split.root, [rows[i] for i in chunk], count)
        for file in (path, path.with_name(path.name + packed.INDEX)):
            file.chmod(0o644)  # MindSpore's are for their owner alone
            with file.open("rb") as written:
                os.fsync(written.fileno())
            parts.append(packed.PackPart(file.name, file.stat().st_size, packed.sha256(file)))
    numbers = [len(split.classes[name]) for name in report.class_names]
    fingerprint = DatasetReport(split.root, {"": split}).fingerprint
    pack = packed.Pack(report.class_names, numbers, split.pixels, fingerprint, parts)
    checkpoint.write_text(folder / packed.NAME, pack.to_json())
    return pack


def write_shard(path: Path, root: Path, rows: list[tuple[ImageRecord, int]], count: Callable[[], None]) -> None:
    """One MindRecord file and its index, rows in this order. Raises DatasetError where an image is not the checked one.

    A writer of its own for each shard: one writer of several would deal its rows out to them.
    """
    from mindspore.mindrecord import FileReader, FileWriter

    images, largest = sum(picture.size for picture, _ in rows), max(picture.size for picture, _ in rows)
    page = max(LEAST_PAGE, min(MOST_PAGE, _power(2 * (largest + BLOCK_HEAD))))
    pages = 4 + 2 * images // page + sum(256 + len(picture.name) for picture, _ in rows) // page
    writer = FileWriter(str(path), shard_num=1)
    writer.set_page_size(page)
    writer.set_header_size(max(2**16, _power(PAGE_ENTRY * pages)))
    writer.add_schema(SCHEMA, "mslab")
    waiting: list[dict] = []
    for picture, label in rows:
        waiting.append({"image": checked_bytes(root, picture), "label": label, "file": printable(picture.name)})
        if len(waiting) == TOGETHER or sum(len(row["image"]) for row in waiting) > page:
            writer.write_raw_data(waiting)
            waiting = []
        count()
    if waiting:
        writer.write_raw_data(waiting)
    writer.commit()
    written = FileReader(str(path), columns=["label"]).len()
    if written != len(rows):  # the writer leaves out a row that it does not like, with a warning
        raise RuntimeError(f"[ERROR] MindRecord wrote {written} of {len(rows)} images")


def checked_bytes(root: Path, picture: ImageRecord) -> bytes:
    """The file's content. Raises DatasetError where it is not what the check saw."""
    content = (root / picture.name).read_bytes()
    if hashlib.sha256(content).digest() != picture.sha256:
        raise DatasetError(
            f"{root / picture.name} is not what it was when it was checked, a moment ago.",
            expected="a data set that nobody changes while it is packed",
            fix="call mslab data pack again",
        )
    return content


def _power(number: int) -> int:
    """The smallest power of two from `number` on. MindRecord takes no other page and header sizes."""
    return 1 << (number - 1).bit_length()
