"""`mslab data pack`: a checked data set -> MindRecord shards, for training where many small files are slow."""

import hashlib
import itertools
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from mslab import files
from mslab.check import DatasetReport, packed
from mslab.check.records import ImageRecord, Split, printable
from mslab.data.placing import staging_folder
from mslab.errors import DatasetError

SHARD = 2**30  # bytes of images per shard, the default
MIN_PAGE, MAX_PAGE = 2**20, 2**28  # bytes; MindRecord writes complete pages, and an image is within one page
BLOCK_HEADER = 8  # bytes that MindRecord writes before an image
PAGE_ENTRY = 256  # bytes, an upper bound for a page's row in a shard's header
ROWS_PER_CALL = 64  # images per call of MindRecord's writer; a call takes a millisecond
SCHEMA = {"image": {"type": "bytes"}, "label": {"type": "int32"}, "file": {"type": "string"}}


def pack_dataset(
    report: DatasetReport,
    out: Path,
    shards: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, packed.Pack]:
    """Write every split of a checked data set to out/SPLIT (a single split: to `out`), in `shards` files each.

    Default for `shards`: one per GiB of images. Returns {split: its pack}. Raises DatasetError if the data set has
    errors, is already packed or changes meanwhile, or if `out` exists or cannot be written. `out` appears only when it
    is complete.
    """
    check_packable(report, shards)
    numbers = itertools.count(1)

    def count() -> None:
        if progress:
            progress(next(numbers), report.images)

    import mindspore.mindrecord  # noqa: F401  # not while files are half written: Ctrl-C ends the process in there

    needed = sum(picture.size for split in report.splits.values() for picture in split.pictures)
    with staging_folder(out, needed) as partial:
        try:
            packs = {
                name: write_split(report, split, partial / name, shards, count) for name, split in report.splits.items()
            }
        except RuntimeError as error:  # MindSpore's, on a full disk
            lines = str(error).splitlines() or [""]
            raise OSError(next((line for line in lines if "[ERROR]" in line), lines[0])) from None
        partial.rename(out)
    return packs


def check_packable(report: DatasetReport, shards: int | None) -> None:
    """Raise DatasetError if the data set cannot be packed."""
    report.raise_errors()
    if any(split.pack for split in report.splits.values()):
        raise DatasetError(
            f"{report.root} is already packed.",
            expected="folders of images, or a folder with train, val and test",
            fix="train on this pack; for another number of shards, pack the original folders again",
        )
    smallest = min(len(split.pictures) for split in report.splits.values())
    if shards is not None and not 1 <= shards <= min(smallest, 1000):
        raise DatasetError(
            f"{shards} shards cannot be made: the smallest split has {smallest} images.",
            expected="1 to 1000 shards with at least one image in each",
            fix="use a smaller --shards, or leave it out: one shard per GiB",
        )
    for split in report.splits.values():
        largest = max(split.pictures, key=lambda picture: picture.size)
        if largest.size + BLOCK_HEADER > MAX_PAGE:
            raise DatasetError(
                f"{split.show(largest.name)} has {largest.size / 2**20:.0f} MiB.",
                expected="images of less than 256 MiB, the maximum of MindRecord",
                fix="save a smaller version of the image, or remove it",
            )


def write_split(
    report: DatasetReport, split: Split, folder: Path, shards: int | None, count: Callable[[], None]
) -> packed.Pack:
    """Write the split's shards and pack.json to `folder`."""
    folder.mkdir(parents=True)
    rows = [(picture, i) for i, name in enumerate(report.class_names) for picture in split.classes[name]]
    number = shards or 1 + sum(picture.size for picture, _ in rows) // SHARD
    parts = []
    for index, chunk in enumerate(np.array_split(np.arange(len(rows)), number)):
        path = folder / f"shard-{index:04}.mindrecord"
        write_shard(path, split.path, [rows[i] for i in chunk], count)
        for file in (path, path.with_name(path.name + packed.INDEX)):
            # MindSpore makes files that only their owner can read; the folder's mode follows the umask
            with suppress(PermissionError):  # FAT has no modes
                file.chmod(folder.stat().st_mode & 0o666)
            with file.open("rb") as written:
                files.sync(written)
            parts.append(packed.PackPart(file.name, file.stat().st_size, files.sha256(file)))
    numbers = [len(split.classes[name]) for name in report.class_names]
    fingerprint = DatasetReport(split.root, {"": split}).fingerprint
    pack = packed.Pack(report.class_names, numbers, split.pixels, fingerprint, parts)
    files.write_text(folder / packed.NAME, pack.to_json())
    return pack


def write_shard(
    path: Path, place: Callable[[str], Path], rows: list[tuple[ImageRecord, int]], count: Callable[[], None]
) -> None:
    """Write one MindRecord file and its index, rows in this order. Raises DatasetError if an image has changed.

    Each shard has its own writer: one writer for several shards would distribute the rows over them.
    """
    from mindspore.mindrecord import FileReader, FileWriter

    images, largest = sum(picture.size for picture, _ in rows), max(picture.size for picture, _ in rows)
    page = max(MIN_PAGE, min(MAX_PAGE, _power_of_two(2 * (largest + BLOCK_HEADER))))
    pages = 4 + 2 * images // page + sum(256 + len(picture.name) for picture, _ in rows) // page
    writer = FileWriter(str(path), shard_num=1)
    writer.set_page_size(page)
    writer.set_header_size(max(2**16, _power_of_two(PAGE_ENTRY * pages)))
    writer.add_schema(SCHEMA, "mslab")
    buffer: list[dict] = []
    for picture, label in rows:
        content = checked_bytes(place(picture.name), picture)
        buffer.append({"image": content, "label": label, "file": printable(picture.name)})
        if len(buffer) == ROWS_PER_CALL or sum(len(row["image"]) for row in buffer) > page:
            writer.write_raw_data(buffer)
            buffer = []
        count()
    if buffer:
        writer.write_raw_data(buffer)
    writer.commit()
    written = FileReader(str(path), columns=["label"]).len()
    if written != len(rows):  # the writer skips a row that it rejects, with only a warning
        raise RuntimeError(f"[ERROR] MindRecord wrote {written} of {len(rows)} images")


def checked_bytes(path: Path, picture: ImageRecord) -> bytes:
    """The file's content. Raises DatasetError if it has changed since the check."""
    content = path.read_bytes()
    if hashlib.sha256(content).digest() != picture.sha256:
        raise DatasetError(
            f"{path} has changed since it was checked a moment ago.",
            expected="a data set that does not change while it is packed",
            fix="run mslab data pack again",
        )
    return content


def _power_of_two(number: int) -> int:
    """The smallest power of two that is at least `number`. MindRecord accepts only such page and header sizes."""
    return 1 << (number - 1).bit_length()
