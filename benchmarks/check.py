"""The dataset checker beside a bare parallel Pillow decode, CleanVision and imagededup, on drawn photographs."""

import functools
import json
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.processes import read_result
from mslab.check import check_dataset, cores
from mslab.runtime.tables import empty_table, render

CLASSES = 10
SHAPE = (375, 500)  # pixels, height and width
CLEANVISION = """
import json, sys, time, resource
from cleanvision import Imagelab
start = time.perf_counter()
lab = Imagelab(data_path=sys.argv[1])
kinds = ["exact_duplicates", "near_duplicates", "low_information", "odd_aspect_ratio", "odd_size", "grayscale"]
lab.find_issues({kind: {} for kind in kinds}, n_jobs=int(sys.argv[2]), verbose=False)
"""
IMAGEDEDUP = """
import json, sys, time, resource
from imagededup.methods import PHash
start = time.perf_counter()
hasher = PHash(verbose=False)
codes = hasher.encode_images(image_dir=sys.argv[1], recursive=True, num_enc_workers=int(sys.argv[2]))
hasher.find_duplicates(encoding_map=codes, max_distance_threshold=3, num_dist_workers=int(sys.argv[2]))
"""
PRINT_RESULT = """
seconds = time.perf_counter() - start
own, children = (resource.getrusage(scope).ru_maxrss for scope in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print("bench", json.dumps({"seconds": seconds, "own_kib": own, "worker_kib": children}))
"""


def draw_photos(images: int, root: Path, progress: Any) -> Path:
    """Draw JPEGs of 500x375 with the smooth and noisy parts of photographs. Returns the folder of their class folders.

    The images are the same each time; those that exist are reused.
    """
    folder = root / f"photos{images}"
    progress(f"drawing {images} images in {folder}")
    paths = [folder / f"class{i % CLASSES}" / f"{i:06}.jpg" for i in range(images)]
    for name in range(CLASSES):
        (folder / f"class{name}").mkdir(parents=True, exist_ok=True)
    todo = [(str(path), i) for i, path in enumerate(paths) if not path.exists()]
    with multiprocessing.Pool(cores()) as pool:
        for _ in pool.imap_unordered(draw_photo, todo, chunksize=64):
            pass
    return folder


def draw_photo(job: tuple[str, int]) -> None:
    path, seed = job
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8))
    coarse = small.resize(SHAPE[::-1], Image.Resampling.BICUBIC)
    fine = np.roll(_noise(), (seed * 37 % SHAPE[0], seed * 91 % SHAPE[1]), (0, 1))
    pixels = np.clip(np.asarray(coarse, np.int16) + fine, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path, quality=88)


@functools.cache
def _noise() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 10, (*SHAPE, 3)).astype(np.int16)


def decode(path: str) -> None:
    with Image.open(path) as image:
        image.load()


def contend(name: str, folder: str) -> None:
    """Run one contender in this process, and PRINT_RESULT."""
    start = time.perf_counter()
    if name == "decode":
        paths = sorted(os.path.join(at, file) for at, _, files in os.walk(folder) for file in files)  # noqa: PTH118
        with multiprocessing.Pool(cores()) as pool:
            for _ in pool.imap_unordered(decode, paths, chunksize=16):
                pass
    else:
        check_dataset(folder, cache=name in ("first", "again"), skip_content=name == "images")
    exec(PRINT_RESULT, {"time": time, "resource": resource, "json": json, "start": start})


CONTENDERS = {
    "decode": "bare Pillow decode",
    "images": "mslab: layout, images",
    "first": "mslab: all checks",
    "again": "mslab: all, second run",
    "cleanvision": "CleanVision",
    "imagededup": "imagededup (PHash)",
}


def bench_check(
    sizes: Sequence[int], peers: str | None, repeats: int, folder: Path | None, progress: Any = lambda text: None
) -> list[dict[str, Any]]:
    """Rows of {images, contender, seconds, images_per_s, ratio (of decoding), own_mib, worker_mib}; medians.

    `peers`: a Python that has cleanvision and imagededup. `folder`: stores the images for reuse.
    """
    names = [name for name in CONTENDERS if peers or name not in ("cleanvision", "imagededup")]
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for images in sizes:
            photos = draw_photos(images, folder or Path(scratch), progress)
            runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
            for number in range(repeats):
                for name in names:
                    if name == "first":
                        (Path(scratch) / "mslab" / "check.sqlite").unlink(missing_ok=True)
                    runs[name].append(_run(name, photos, scratch, peers))
                    progress(f"{images} images, run {number + 1}: {name} {runs[name][-1]['seconds']:.2f} s")
            bare = statistics.median(run["seconds"] for run in runs["decode"])
            for name in names:
                seconds = statistics.median(run["seconds"] for run in runs[name])
                row = {"images": images, "contender": name, "seconds": seconds, "images_per_s": images / seconds}
                row |= {"ratio": bare / seconds, "own_mib": max(run["own_kib"] for run in runs[name]) / 1024}
                rows.append(row | {"worker_mib": max(run["worker_kib"] for run in runs[name]) / 1024})
    return rows


def _run(name: str, photos: Path, scratch: str, peers: str | None) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.check", name, str(photos)]
    if name in ("cleanvision", "imagededup"):
        script = {"cleanvision": CLEANVISION, "imagededup": IMAGEDEDUP}[name] + PRINT_RESULT
        command = [str(peers), "-c", script, str(photos), str(cores())]
    return read_result(
        command,
        os.environ | {"XDG_CACHE_HOME": scratch},
        CONTENDERS[name],
        expected="a Python with cleanvision and imagededup, for --peers",
        fix="python -m venv peers && peers/bin/pip install cleanvision imagededup, then --peers peers/bin/python",
    )


def table(rows: Sequence[dict[str, Any]]) -> str:
    names = ("images", "", "images/s", "of decode", "MiB", "bytes each")
    grid = empty_table(f"JPEGs of {SHAPE[1]}x{SHAPE[0]}, {cores()} cores", names)
    least = {row["contender"]: row for row in reversed(rows)}  # the smallest size: memory grows from there
    for row in rows:
        more = row["images"] - least[row["contender"]]["images"]
        grown = (row["own_mib"] - least[row["contender"]]["own_mib"]) * 2**20
        growth = f"{grown / more:.0f}" if more else ""
        speed, ratio = f"{row['images_per_s']:,.0f}", f"{row['ratio']:.2f}x"
        grid.add_row(f"{row['images']:,}", CONTENDERS[row["contender"]], speed, ratio, f"{row['own_mib']:.0f}", growth)
    return render(grid)


if __name__ == "__main__":
    contend(*sys.argv[1:])
