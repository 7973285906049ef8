"""The data pipeline alone, without a network: its speed, and how start-up and memory grow with the number of images.

Each variant runs in a separate process: check, start-up to the first batch, then one full epoch.
"""

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.check import SHAPE, draw_photos
from benchmarks.processes import read_result
from benchmarks.speed import child_of
from mslab.check import check_dataset, cores
from mslab.runtime.tables import empty_table, render

VARIANTS = {  # name -> (packed, cache)
    "folders": (False, "none"),
    "pack": (True, "none"),
    "folders, cache: memory": (False, "memory"),
    "pack, cache: disk": (True, "disk"),
}


def bench_data(
    sizes: Sequence[int], pixels: int, folder: Path | None, progress: Callable[[str], Any] = lambda text: None
) -> list[dict[str, Any]]:
    """Rows of {images, variant, first_check_s, startup_s, images_per_s, epoch_s, mib, ratio}; ratio is to folders'.

    `pixels`: image_size of training. `folder`: stores the drawn images for reuse. first_check_s is of images that were
    never checked before, startup_s of a start with that check's cache, MindSpore's import included.
    """
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        environ = os.environ | {"XDG_CACHE_HOME": scratch}
        for images in sizes:
            photos = draw_photos(images, folder or Path(scratch), progress)
            for name, (packed, cache) in VARIANTS.items():
                root: Path = Path(scratch) / f"pack{images}" if packed else photos
                if packed and not root.exists():
                    _run("pack", "packing", [str(photos), str(root)], environ)
                row: dict[str, Any] = {"images": images, "variant": name}
                row |= _run("contend", name, [str(root), str(pixels), cache, str(name == "folders")], environ)
                base = next((r for r in rows if r["images"] == images), row)
                rows.append(row | {"ratio": row["images_per_s"] / base["images_per_s"]})
                progress(f"{images} images, {name}: {row['images_per_s']:.0f} images/s, start {row['startup_s']:.1f} s")
    return rows


def training_speed(pixels: int) -> float:
    """Images per second of ResNet-50's training on this machine: the speed that the pipeline has to reach."""
    batch = 32 if pixels < 224 else 8
    with child_of("mslab, GRAPH", {"size": pixels, "batch": batch, "stages": None}) as child:
        child.run("train", 3)
        return 3 * batch / sum(child.run("train", 3)["seconds"])


def _run(job: str, name: str, arguments: list[str], environ: Mapping[str, str]) -> dict[str, Any]:
    """The result of contend() or pack() in a separate process. Raises MslabError if it fails."""
    return read_result(
        [sys.executable, "-m", "benchmarks.pipeline", job, *arguments],
        environ,
        name,
        expected="disk space for drawn images, their pack and their decoded pixels (3 bytes a pixel)",
        fix="fewer --images, or --folder on another disk",
    )


def pack(root: str, out: str) -> dict[str, Any]:
    from mslab.data.packing import pack_dataset

    pack_dataset(check_dataset(root), Path(out))
    return {}


def contend(root: str, pixels: str, cache: str, check_first: str) -> dict[str, Any]:
    """Measure one variant in this process."""
    result: dict[str, Any] = {"first_check_s": None}
    if check_first == "True":
        start = time.perf_counter()
        check_dataset(root)
        result["first_check_s"] = time.perf_counter() - start
    start = time.perf_counter()
    report = check_dataset(root)
    from mslab.config import load_settings
    from mslab.data import batching, decoded, sources

    settings = {"train_data": root, "val_data": f"{root}/none", "class_num": 10, "image_size": int(pixels)}
    config = load_settings(settings | {"cache": cache, "data_workers": cores()})
    images = sources.images_of(report, next(iter(report.splits)))
    images = decoded.cache_decoded({next(iter(report.splits)): images}, config, report)[next(iter(report.splits))]
    batches = batching.ImageFeed(images, images, config).train(0)
    next(batches)
    result["startup_s"] = time.perf_counter() - start
    start, count = time.perf_counter(), 0
    for _, labels in batches:
        count += len(labels)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return result | {"images_per_s": count / seconds, "epoch_s": len(images) * seconds / count, "mib": peak}


def table(rows: Sequence[dict[str, Any]], pixels: int, training: float) -> str:
    """The rows, and the limit: the slowest pipeline, or a network that trains on `training` images per second."""
    title = f"JPEGs of {SHAPE[1]}x{SHAPE[0]} to {pixels}x{pixels}, {cores()} cores"
    names = ("images", "", "ratio", "images/s", "check", "start", "epoch", "MiB")
    grid = empty_table(title, names)
    for row in rows:
        check = f"{row['first_check_s']:.1f}" if row["first_check_s"] else ""
        figures = [f"{row['ratio']:.2f}x", f"{row['images_per_s']:,.0f}", check, f"{row['startup_s']:.1f}"]
        grid.add_row(f"{row['images']:,}", row["variant"], *figures, f"{row['epoch_s']:.1f}", f"{row['mib']:,.0f}")
    note = "check: the first check; start: to the first batch, images checked before; all in seconds; MiB: peak"
    slowest = min(row["images_per_s"] for row in rows)
    limit = "network" if training < slowest else "pipeline"
    speeds = f"ResNet-50 trains on {training:.1f} images/s here, the slowest pipeline delivers {slowest:,.0f}"
    return f"{render(grid)}\n{note}\n{speeds}: the {limit} is the limit"


if __name__ == "__main__":
    done = pack(*sys.argv[2:]) if sys.argv[1] == "pack" else contend(*sys.argv[2:])
    print("bench", json.dumps(done))
