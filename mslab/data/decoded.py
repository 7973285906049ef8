"""Decoded images, cached in memory or in a file, so that only the first epoch decodes JPEGs."""

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from mindspore.dataset import vision

from mslab import files
from mslab.check import DatasetReport
from mslab.check.limits import available_memory as available
from mslab.config import Settings
from mslab.data import cache
from mslab.data.sources import DecodedImages, ImageSource, rows_of
from mslab.runtime import devices, versions
from mslab.runtime.console import Meter
from mslab.runtime.workers import ALONE, Group

log = logging.getLogger("mslab")
MAX_BYTES = 64 * 2**30  # of all decoded images on disk; the oldest files are deleted first


def cache_decoded(
    parts: dict[str, ImageSource], config: Settings, report: DatasetReport, group: Group = ALONE
) -> dict[str, ImageSource]:
    """{split: its images} decoded and cached as config.cache sets; the images unchanged if they need too much space.

    Batches are the same either way.
    """
    if config.cache in ("none", "auto"):  # resolve replaces auto
        return parts
    needed = size_of(report)
    key = hashlib.sha256(f"{report.fingerprint} {versions.version('mindspore')}".encode()).hexdigest()[:32]
    folder = cache.cache_folder("decoded")
    reason = (
        memory_problem(needed * group.local)
        if config.cache == "memory"
        else cache.space_problem(folder, needed, key, MAX_BYTES)
    )
    if reason:
        log.info(f"cache: {config.cache}: decoded images are not cached: {reason}; every epoch decodes them again")
        return parts
    workers = devices.workers(config.data_workers)
    with Meter(sum(len(images) for images in parts.values())) as meter:
        if config.cache == "memory":
            pixels = {name: list(decode(images, workers, meter)) for name, images in parts.items()}
        else:
            with group.first_alone("decoded"):
                pixels = {n: on_disk(folder / f"{key}-{n}.rgb", images, workers, meter) for n, images in parts.items()}
            cache.delete_oldest(folder, key, MAX_BYTES)
    size = sum(image.nbytes for images in pixels.values() for image in images) / 2**20
    location = "memory" if config.cache == "memory" else str(folder)
    log.info(f"decoded images cached: {sum(map(len, pixels.values()))} images, {size:.0f} MiB in {location}")
    return {n: DecodedImages(images.labels, images.class_names, pixels[n], images) for n, images in parts.items()}


def size_of(report: DatasetReport) -> int:
    """Bytes of all images decoded, with height and width of each, as the check read them; 0 if it read no sizes."""
    count = sum(len(split.pictures) for split in report.splits.values())
    pixels = sum(split.pixels for split in report.splits.values())
    return 3 * pixels + 8 * count if pixels else 0


def memory_problem(needed: int) -> str:
    """Reason why so many bytes cannot be cached in memory, or ""."""
    free = available()
    if needed <= free // 2:
        return ""
    return f"{needed / 2**30:.1f} GiB are too much (at most half of the {free / 2**30:.1f} GiB of memory available)"


def decode(images: ImageSource, workers: int, meter: Meter) -> Iterator[np.ndarray]:
    """Yield every image in order, uint8 (H, W, 3), decoded by the decoder that training uses."""
    source = images.dataset(np.arange(len(images))).map([vision.Decode()], ["image"], num_parallel_workers=workers)
    for done, (image, _) in enumerate(rows_of(source, images), 1):
        meter.update(f"decoding {done}/{len(images)} images")
        yield image


def on_disk(path: Path, images: ImageSource, workers: int, meter: Meter) -> list[np.ndarray]:
    """The decoded images in this file, memory-mapped. The file is written first if it is missing or damaged.

    File layout: all pixels, then height and width of each image, int32 (n, 2).
    """
    pixels = mapped(path, len(images))
    if pixels is None:

        def write(file: IO[bytes]) -> None:
            shapes = []
            for image in decode(images, workers, meter):
                file.write(image.data)
                shapes.append(image.shape[:2])
            file.write(np.array(shapes, np.int32).data)

        files.replace_atomically(path, write)
        pixels = mapped(path, len(images))
        assert pixels is not None, f"{path} was written just now"
    path.touch()  # the time of last use
    return pixels


def mapped(path: Path, count: int) -> list[np.ndarray] | None:
    """The images of such a file, or None if it is missing, damaged, or does not have `count` images."""
    try:
        content = np.asarray(np.memmap(path, np.uint8, "r"))
    except (OSError, ValueError):
        return None
    at = len(content) - 8 * count
    shapes = np.frombuffer(content[max(0, at) :].tobytes(), np.int32).reshape(-1, 2) if at > 0 else np.zeros((0, 2))
    stops = 3 * np.cumsum(shapes.astype(np.int64).prod(axis=1))
    if len(shapes) != count or shapes.min() < 1 or stops[-1] != at:
        return None
    return [
        content[stop - 3 * height * width : stop].reshape(height, width, 3)
        for stop, (height, width) in zip(stops.tolist(), shapes.tolist(), strict=True)
    ]
