"""Demo data, drawn, not downloaded: nine genera of mushrooms, and edible or poisonous ones, from tables of field marks.

    draw_datasets(Path("datasets"))  ->  datasets/mushrooms9/{train,val,test}/Agaricus/0001.jpg ...
                                         datasets/mushrooms2/{train,val,test}/{edible,poisonous}/0001.jpg ...

These are drawings, not a guide to real mushrooms: never use them to decide whether a mushroom is edible.

The marks are those of field guides (warts, ring, volva, pores, net, cortina, zones, slime). Colour, pose, light,
ground and camera come from ranges that all classes use, so neither a pixel nor the mean colour reveals the class.
Equal seeds give equal bytes.

Imports: species (the tables) <- shape (a mushroom) <- marks (on it) <- scene (an image) <- this file (the data sets on
disk).
"""

import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from mslab import files
from mslab.check import cores
from mslab.data.mushrooms.scene import CAMERAS, draw_image
from mslab.data.mushrooms.species import CLASSES
from mslab.data.placing import space_of, staging_folder

VERSION = 1  # increase it whenever the drawing changes, so that older folders are not accepted as current
SPLITS = ("train", "val", "test")
COUNTS = {  # images per class
    "mushrooms9": {"train": 240, "val": 60, "test": 60},
    "mushrooms2": {"train": 20, "val": 100, "test": 100},
}
Progress = Callable[[str, int, int], None]
Job = tuple[str, int, int, int, int, int, str]  # data set, seed, split, class, index, size, file


def draw_file(job: Job) -> None:
    """Draw one file. Its random numbers depend on the job only, not on earlier drawings."""
    name, seed, split, label, index, size, file = job
    species = list(CLASSES[name].values())[label]
    rng = np.random.default_rng([seed, list(CLASSES).index(name), split, label, index])
    draw_image(rng, species[index % len(species)], CAMERAS[name], size).save(file, quality=92)


def draw_datasets(
    root: Path,
    seed: int = 1,
    size: int = 96,
    names: tuple[str, ...] = ("mushrooms9", "mushrooms2"),
    workers: int | None = None,
    progress: Progress | None = None,
    counts: dict[str, dict[str, int]] | None = None,
) -> dict[str, dict[str, dict[str, int]]]:
    """Draw the data sets into root/NAME. Returns the number of images by data set, split and class.

    size: pixels; workers: processes, default one per core; counts: images per class instead of COUNTS.
    progress(data set, images done, total images) is called every 50 images. An existing data set with equal settings is
    left unchanged. Raises FileExistsError, before anything is drawn, if a different folder has one of the names.
    """
    records: dict[str, dict] = {
        name: {
            "drawn_by": "mslab data make",
            "version": VERSION,
            "seed": seed,
            "size": size,
            "counts": {split: dict.fromkeys(CLASSES[name], (counts or COUNTS)[name][split]) for split in SPLITS},
            "note": "drawn, no guide to real mushrooms",
        }
        for name in names
    }
    if problems := [line for name, record in records.items() for line in conflict(root, name, record)]:
        raise FileExistsError("\n".join(problems))
    for name, record in records.items():
        if not (root / name).exists():
            draw_dataset(root, name, record, workers or cores(), progress)
    return {name: record["counts"] for name, record in records.items()}


def conflict(root: Path, name: str, record: dict) -> list[str]:
    """Message lines about a different folder or record at root/NAME, which prevents drawing. Empty if there is none."""
    folder, file = root / name, root / f"{name}.json"
    try:
        existing = files.read_json(file)
    except (OSError, ValueError):
        existing = None
    ours = isinstance(existing, dict) and existing.get("drawn_by") == record["drawn_by"]
    if existing == record or (ours and not folder.exists()) or not (os.path.lexists(folder) or os.path.lexists(file)):
        return []
    if ours:
        keys = [key for key in record if existing.get(key) != record[key]]
        reason = "was drawn with other settings: " + "; ".join(f"{k} {existing.get(k)}, now {record[k]}" for k in keys)
    else:
        reason = f"exists, and {file.name} beside it does not record that mslab drew it"
    return [
        f"{folder} {reason}.",
        f"  expected  no {name} and no {name}.json in {root}, or both drawn with these settings",
        f"  fix       move or delete {folder} and {file.name}, or draw elsewhere with --out",
    ]


def draw_dataset(root: Path, name: str, record: dict, workers: int, progress: Progress | None) -> None:
    """Draw one data set to a temporary folder, then rename it: an interruption leaves no incomplete data set."""
    jobs: list[Job] = []
    images = sum(sum(classes.values()) for classes in record["counts"].values())
    with staging_folder(root / name, space_of([record["size"] ** 2 // 2]) * images) as part:
        for split, classes in record["counts"].items():
            for label, (class_name, n) in enumerate(classes.items()):
                folder = part / split / class_name
                folder.mkdir(parents=True)
                start = (name, record["seed"], SPLITS.index(split), label)
                jobs += [(*start, i, record["size"], str(folder / f"{i + 1:04d}.jpg")) for i in range(n)]
        if workers == 1:
            advance(name, map(draw_file, jobs), len(jobs), progress)
        else:  # spawn: a fork of a process with MindSpore's threads may hang
            with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
                advance(name, pool.map(draw_file, jobs, chunksize=16), len(jobs), progress)
        (root / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        part.rename(root / name)


def advance(name: str, results: Iterable[None], total: int, progress: Progress | None) -> None:
    """Wait for each result; report progress at every 50th and at the last."""
    for done, _ in enumerate(results, 1):
        if progress and (done % 50 == 0 or done == total):
            progress(name, done, total)
