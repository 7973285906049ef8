"""Demo data, drawn and not downloaded: nine genera of mushrooms, and edible or poisonous, from a table of field marks.

    draw_datasets(Path("datasets"))  ->  datasets/mushrooms9/{train,val,test}/Agaricus/0001.jpg ...
                                         datasets/mushrooms2/{train,val,test}/{edible,poisonous}/0001.jpg ...

These are drawings, no guide to real mushrooms: never eat one, and never trust one, because of them.

The marks are those of field guides (warts, ring, volva, pores, net, cortina, zones, slime). Colour, pose, light,
ground and camera come from ranges that the classes share, so neither a pixel nor the mean colour gives a class away.
Equal seeds give equal bytes.

Imports go one way: species (the tables) <- shape (a mushroom) <- marks (on it) <- scene (a picture) <- this file (the
data sets on disk).
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from mslab.check import cores
from mslab.data.mushrooms.scene import CAMERAS, draw_image
from mslab.data.mushrooms.species import CLASSES

VERSION = 1  # raise it whenever the drawing changes: then a folder drawn before is not taken for a new one
SPLITS = ("train", "val", "test")
COUNTS = {  # images per class
    "mushrooms9": {"train": 240, "val": 60, "test": 60},
    "mushrooms2": {"train": 20, "val": 100, "test": 100},
}
Progress = Callable[[str, int, int], None]
Job = tuple[str, int, int, int, int, int, str]  # data set, seed, split, class, index, size, file


def draw_file(job: Job) -> None:
    """Draws one file. Its random numbers hang on what it is, not on what was drawn before."""
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
    """Draws the data sets into root/NAME. Returns the number of images by data set, split and class.

    size: pixels; workers: processes, by default one a core; counts: images per class in place of COUNTS.
    progress(data set, images done, images in all) is called now and then. A data set that is there, drawn with equal
    settings, is left as it is. Raises FileExistsError, before anything is drawn, where another folder is in the way.
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
    if problems := [line for name, record in records.items() for line in in_the_way(root, name, record)]:
        raise FileExistsError("\n".join(problems))
    for name, record in records.items():
        if not (root / name).exists():
            draw_dataset(root, name, record, workers or cores(), progress)
    return {name: record["counts"] for name, record in records.items()}


def in_the_way(root: Path, name: str, record: dict) -> list[str]:
    """What keeps root/NAME from being drawn: a folder or a record that is not this one. Empty if nothing does."""
    folder, file = root / name, root / f"{name}.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    ours = isinstance(found, dict) and found.get("drawn_by") == record["drawn_by"]
    if found == record or (ours and not folder.exists()) or not (os.path.lexists(folder) or os.path.lexists(file)):
        return []
    if ours:
        keys = [key for key in record if found.get(key) != record[key]]
        why = "was drawn otherwise: " + "; ".join(f"{key} {found.get(key)}, now {record[key]}" for key in keys)
    else:
        why = f"is there, and {file.name} beside it does not say that mslab drew it"
    return [
        f"{folder} {why}.",
        f"  expected  no {name} and no {name}.json in {root}, or both as drawn with these settings",
        f"  fix       move or delete {folder} and {file.name}, or draw elsewhere with --out",
    ]


def draw_dataset(root: Path, name: str, record: dict, workers: int, progress: Progress | None) -> None:
    """Draws one data set beside its place, then moves it there: an interrupted run leaves no half data set."""
    part = root / f".{name}-{os.getpid()}.part"
    jobs: list[Job] = []
    try:
        for split, classes in record["counts"].items():
            for label, (class_name, n) in enumerate(classes.items()):
                folder = part / split / class_name
                folder.mkdir(parents=True)
                start = (name, record["seed"], SPLITS.index(split), label)
                jobs += [(*start, i, record["size"], str(folder / f"{i + 1:04d}.jpg")) for i in range(n)]
        if workers == 1:
            advance(name, map(draw_file, jobs), len(jobs), progress)
        else:  # spawn: a fork of a process in which MindSpore's threads run may hang
            with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
                advance(name, pool.map(draw_file, jobs, chunksize=16), len(jobs), progress)
        (root / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        part.rename(root / name)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def advance(name: str, results: Iterable[None], total: int, progress: Progress | None) -> None:
    """Waits for each result and reports every 50th and the last."""
    for done, _ in enumerate(results, 1):
        if progress and (done % 50 == 0 or done == total):
            progress(name, done, total)
