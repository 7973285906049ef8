"""Decoded images, kept in memory or in a file, so that only the first epoch decodes JPEGs."""

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from mindspore.dataset import vision

from mslab import checkpoint
from mslab.check import DatasetReport
from mslab.config import Settings
from mslab.data import cache
from mslab.data.sources import DecodedImages, ImageSource
from mslab.runtime import devices, versions
from mslab.runtime.console import Meter
from mslab.runtime.workers import ALONE, Group

log = logging.getLogger("mslab")
MOST = 64 * 2**30  # bytes that all decoded images on disk may take; the oldest go first


def cache_decoded(
    parts: dict[str, ImageSource], config: Settings, report: DatasetReport, group: Group = ALONE
) -> dict[str, ImageSource]:
    """{split: its images, decoded} as config.cache says; the images as they are where they would take too much room.

    Batches are the same either way: with a cache, also one that has no room, crops are taken of the decoded image.
    """
    if config.cache == "none":
        return parts
    wanted = sum(3 * report.splits[name].pixels + 8 * len(images) for name, images in parts.items())
    key = hashlib.sha256(f"{report.fingerprint} {versions.version('mindspore')}".encode()).hexdigest()[:32]
    folder = cache.cache_folder("decoded")
    why = (
        no_memory(wanted * group.local) if config.cache == "memory" else cache.space_problem(folder, wanted, key, MOST)
    )
    if why:
        log.info(f"cache: {config.cache}: decoded images are not kept: {why}; every epoch decodes them anew")
        return parts
    workers = devices.workers(config.data_workers)
    with Meter(sum(len(images) for images in parts.values())) as meter:
        if config.cache == "memory":
            pixels = {name: list(decode(images, workers, meter)) for name, images in parts.items()}
        else:
            with group.first_alone("decoded"):
                pixels = {n: on_disk(folder / f"{key}-{n}.rgb", images, workers, meter) for n, images in parts.items()}
            cache.delete_oldest(folder, key, MOST)
    size = sum(image.nbytes for images in pixels.values() for image in images) / 2**20
    where = "memory" if config.cache == "memory" else str(folder)
    log.info(f"decoded images kept: {sum(map(len, pixels.values()))} images, {size:.0f} MiB in {where}")
    return {n: DecodedImages(images.labels, images.class_names, pixels[n], images) for n, images in parts.items()}


def no_memory(wanted: int) -> str:
    """Why so many bytes cannot be kept in memory, or ""."""
    free = available()
    if wanted <= free // 2:
        return ""
    return f"{wanted / 2**30:.1f} GiB are too much (at most half of the {free / 2**30:.1f} GiB of memory available)"


def available() -> int:
    """Bytes of memory that can be had without swapping, within the limit of a container (cgroup v2)."""
    import psutil  # comes with MindSpore

    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return free
    return free if limit == "max" else min(free, max(0, int(limit) - int(used)))


def decode(images: ImageSource, workers: int, meter: Meter) -> Iterator[np.ndarray]:
    """Every image in order, uint8 (H, W, 3), by the decoder that training uses."""
    source = images.dataset(np.arange(len(images))).map([vision.Decode()], ["image"], num_parallel_workers=workers)
    for done, (image, _) in enumerate(source.create_tuple_iterator(num_epochs=1, output_numpy=True), 1):
        meter.update(f"decoding {done}/{len(images)} images")
        yield image


def on_disk(path: Path, images: ImageSource, workers: int, meter: Meter) -> list[np.ndarray]:
    """The decoded images in this file, memory-mapped; written first where it is not there, or damaged.

    The file: all pixels, then height and width of each image, int32 (n, 2).
    """
    found = mapped(path, len(images))
    if found is None:

        def write(temporary: Path) -> None:
            shapes = []
            with temporary.open("wb") as file:
                for image in decode(images, workers, meter):
                    file.write(image.data)
                    shapes.append(image.shape[:2])
                file.write(np.array(shapes, np.int32).data)

        checkpoint.replace_atomically(path, write)
        found = mapped(path, len(images))
        assert found is not None, f"{path} was written just now"
    path.touch()  # used just now
    return found


def mapped(path: Path, count: int) -> list[np.ndarray] | None:
    """The images of such a file, or None where there is none of `count` images, or it is damaged."""
    try:
        content = np.asarray(np.memmap(path, np.uint8, "r"))
    except (OSError, ValueError):
        return None
    at = len(content) - 8 * count
    shapes = np.frombuffer(content[max(0, at) :].tobytes(), np.int32).reshape(-1, 2) if at > 0 else np.zeros((0, 2))
    ends = 3 * np.cumsum(shapes.astype(np.int64).prod(axis=1))
    if len(shapes) != count or shapes.min() < 1 or ends[-1] != at:
        return None
    return [
        content[end - 3 * height * width : end].reshape(height, width, 3)
        for end, (height, width) in zip(ends.tolist(), shapes.tolist(), strict=True)
    ]
