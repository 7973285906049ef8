"""`mslab data make --scenes`: forest floors with the labels of four tasks: boxes, masks, key points and tags.

    draw_scenes(Path("datasets"))  ->  datasets/scenes/{train,val,test}/images/0001.png ...
                                                                       /annotations.json    COCO's boxes, masks, points
                                                                       /masks/0001.png ...  the class of every pixel
                                                                       /tags.csv            what can be seen

Boxes and masks are of the visible part. A mushroom of which more than HIDDEN is hidden or cut off by the border is
marked: iscrowd 1 in the JSON, 255 in the mask, not in the tags. Key points have COCO's visibility: 2 visible, 1 hidden,
0 outside of the image or none, as the ring of a mushroom without one.
"""

import csv
import io
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mslab.check import cores
from mslab.data.mushrooms.drawing import SPLITS, Progress, conflict
from mslab.data.mushrooms.forest import POINTS, SEEN, SKELETON, TAGS, SeenMushroom, draw_scene
from mslab.data.mushrooms.species import GENERA
from mslab.data.placing import space_of, staging_folder
from mslab.tasks.labels import IGNORED
from mslab.tasks.rle import encode, to_string

NAME = "scenes"
VERSION = 1  # increase it whenever the drawing changes, so that older folders are not accepted as current
COUNTS = {"train": 600, "val": 150, "test": 150}
STREAM = 2  # mushrooms9 and mushrooms2 have 0 and 1: no random number is theirs, too
HIDDEN = 0.8  # of a mushroom's drawing; what is left does not show which one it is
Job = tuple[int, int, int, int, str]  # seed, split, index, size, folder of the split
COLOURS = "000000 e6194b 3cb44b ffe119 0082c8 f58231 911eb4 46f0f0 f032e6 d2f53c"  # of masks: ground, nine genera


def draw_scenes(
    root: Path,
    seed: int = 1,
    size: int = 128,
    workers: int | None = None,
    progress: Progress | None = None,
    counts: dict[str, int] | None = None,
) -> dict[str, int]:
    """Draw the data set into root/scenes. Returns the number of images by split.

    size: pixels; workers: processes, default one per core; counts: images per split instead of COUNTS. An existing data
    set with equal settings is left unchanged. Raises FileExistsError, before anything is drawn, if another folder has
    its name.
    """
    counts = counts or COUNTS
    record: dict[str, Any] = {"drawn_by": "mslab data make", "version": VERSION, "seed": seed, "size": size}
    record |= {"counts": counts, "note": "drawn, no guide to real mushrooms"}
    if problem := conflict(root, NAME, record):
        raise FileExistsError("\n".join(problem))
    if (root / NAME).exists():
        return counts
    with staging_folder(root / NAME, space_of([2 * size**2, 300]) * sum(counts.values())) as part:
        jobs: list[Job] = []
        for number, split in enumerate(SPLITS):
            for folder in ("images", "masks"):
                (part / split / folder).mkdir(parents=True)
            jobs += [(seed, number, index, size, str(part / split)) for index in range(counts[split])]
        rows: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
        for done, (job, row) in enumerate(zip(jobs, drawn(jobs, workers or cores()), strict=True), 1):
            rows[SPLITS[job[1]]].append(row)
            if progress and (done % 50 == 0 or done == len(jobs)):
                progress(NAME, done, len(jobs))
        for split, own in rows.items():
            (part / split / "annotations.json").write_text(json.dumps(document(own, size)) + "\n", encoding="utf-8")
            (part / split / "tags.csv").write_text(tags_table(own), encoding="utf-8")
        (root / f"{NAME}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        part.rename(root / NAME)
    return counts


def drawn(jobs: list[Job], workers: int) -> Iterator[dict[str, Any]]:
    """The rows of the jobs, in their order."""
    if workers == 1:
        yield from map(draw_file, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:  # as in drawing
        yield from pool.map(draw_file, jobs, chunksize=8)


def draw_file(job: Job) -> dict[str, Any]:
    """Draw one image and its mask. Returns its row of labels. Its random numbers depend on the job only."""
    seed, split, index, size, folder = job
    image, seen = draw_scene(np.random.default_rng([seed, STREAM, split, index]), size)
    name = f"{index + 1:04d}.png"
    image.save(Path(folder, "images", name))
    classes = np.zeros((size, size), np.uint8)
    for mushroom in seen:
        classes[mushroom.mask] = IGNORED if is_ignored(mushroom) else mushroom.label + 1
    mask = Image.fromarray(classes, "P")
    mask.putpalette(bytes.fromhex(COLOURS).ljust(765, b"\0") + b"\xff\xff\xff")
    mask.save(Path(folder, "masks", name))
    tags = set().union(*(mushroom.tags for mushroom in seen if not is_ignored(mushroom)))
    return {"file_name": name, "objects": list(map(annotation, seen)), "tags": [int(tag in tags) for tag in TAGS]}


def is_ignored(mushroom: SeenMushroom) -> bool:
    return mushroom.hidden > HIDDEN or int(mushroom.mask.sum()) < SEEN


def annotation(mushroom: SeenMushroom) -> dict[str, Any]:
    """COCO's entry for one mushroom, without its ids."""
    rows, columns = np.flatnonzero(mushroom.mask.any(1)), np.flatnonzero(mushroom.mask.any(0))
    x, y, right, bottom = (int(value) for value in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    points = np.zeros_like(mushroom.points) if is_ignored(mushroom) else mushroom.points
    flat = [int(value) if value == int(value) else float(value) for value in points.ravel()]
    return {
        "category_id": mushroom.label + 1,
        "bbox": [x, y, right - x, bottom - y],
        "area": int(mushroom.mask.sum()),
        "iscrowd": int(is_ignored(mushroom)),
        "segmentation": {"size": list(mushroom.mask.shape), "counts": to_string(encode(mushroom.mask))},
        "keypoints": flat,
        "num_keypoints": int((points[:, 2] > 0).sum()),
    }


def document(rows: list[dict[str, Any]], size: int) -> dict[str, Any]:
    """COCO's JSON of a split. Ids count from 1."""
    shape = {"supercategory": "mushroom", "keypoints": list(POINTS), "skeleton": SKELETON}
    objects = [(number, row) for number, own in enumerate(rows, 1) for row in own["objects"]]
    return {
        "info": {"description": "forest floors drawn by mslab data make, no guide to real mushrooms"},
        "licenses": [],
        "images": [
            {"id": number, "file_name": row["file_name"], "width": size, "height": size}
            for number, row in enumerate(rows, 1)
        ],
        "categories": [{"id": number, "name": name, **shape} for number, name in enumerate(GENERA, 1)],
        "annotations": [{"id": i, "image_id": number, **row} for i, (number, row) in enumerate(objects, 1)],
    }


def tags_table(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["file_name", *TAGS])
    table.writerows([row["file_name"], *row["tags"]] for row in rows)
    return text.getvalue()
