"""Small data sets with boxes, masks, key points and tags, and the same labels in other forms."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

POINTS = ["left_eye", "right_eye"]
WIDTH, HEIGHT = 40, 30


def images(folder: Path, count: int, seed: int = 0) -> list[str]:
    """Draw noise of WIDTH x HEIGHT pixels. Returns the names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{number:03}.png" for number in range(count)]
    for number, name in enumerate(names):
        pixels = np.random.default_rng([seed, number]).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return names


def coco(names: list[str]) -> dict[str, Any]:
    """A document with two objects an image, a cat with a polygon and a dog with key points."""
    document: dict[str, Any] = {"images": [], "categories": [], "annotations": []}
    document["categories"] = [
        {"id": 0, "name": "cat", "keypoints": POINTS, "skeleton": [[1, 2]]},
        {"id": 1, "name": "dog", "keypoints": POINTS, "skeleton": []},
    ]
    for number, name in enumerate(names):
        document["images"].append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
        x, y = 2 + number, 3
        cat = {"bbox": [x, y, 10, 8], "segmentation": [[x, y, x + 10, y, x + 10, y + 8, x, y + 8]]}
        dog = {"bbox": [20, 10 + number, 12, 9], "keypoints": [22, 14, 2, 28, 15, 1], "num_keypoints": 2}
        for label, row in enumerate((cat, dog)):
            ids = {"id": 2 * number + label, "image_id": number, "category_id": label, "iscrowd": 0}
            document["annotations"].append(ids | {"area": row["bbox"][2] * row["bbox"][3]} | row)
    return document


def write(folder: Path, document: Any, name: str = "annotations.json") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(document))


def data_set(root: Path, count: int = 4) -> dict[str, dict[str, Any]]:
    """A data set for every task in train and val. Returns the documents, to be changed and written again."""
    documents = {}
    for seed, split in enumerate(("train", "val")):
        names = images(root / split / "images", count, seed)
        documents[split] = coco(names)
        write(root / split, documents[split])
        rows = [f"{name},{number % 2},{(number + 1) % 2}" for number, name in enumerate(names)]
        (root / split / "tags.csv").write_text("\n".join(["file_name,wet,dry", *rows]) + "\n")
        (root / split / "masks").mkdir()
        for number, name in enumerate(names):
            mask(root / split / "masks" / name, {(2 + number, 3, 12 + number, 11): 1, (20, 10, 32, 19): 2})
    return copy.deepcopy(documents)


def mask(file: Path, boxes: dict[tuple[int, int, int, int], int], size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """A picture of classes: grey, the value of each box."""
    values = np.zeros(size[::-1], np.uint8)
    for (left, top, right, bottom), value in boxes.items():
        values[top:bottom, left:right] = value
    Image.fromarray(values).save(file)


def voc_xml(file: str, size: tuple[int, int], rows: list[tuple[str, list[float], bool]]) -> str:
    """`rows`: class, [left, top, right, bottom], whether it is difficult."""
    objects = "".join(
        f"<object><name>{name}</name><difficult>{int(hard)}</difficult><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>"
        f"<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>\n"
        for name, box, hard in rows
    )
    width, height = size
    return (
        f"<annotation>\n<folder>images</folder><filename>{file}</filename>\n"
        f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>\n{objects}</annotation>\n"
    )


def outline(mask: np.ndarray) -> list[list[float]]:
    """The polygons, flat, along the edges of the pixels of a mask: filled by the even-odd rule they give it back."""
    padded = np.pad(mask, 1)
    edges: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for y, x in np.argwhere(padded):
        for dy, dx, start, end in (
            (-1, 0, (0, 0), (1, 0)),
            (0, 1, (1, 0), (1, 1)),
            (1, 0, (1, 1), (0, 1)),
            (0, -1, (0, 1), (0, 0)),
        ):
            if not padded[y + dy, x + dx]:
                first = (x - 1 + start[0], y - 1 + start[1])
                edges.setdefault(first, []).append((x - 1 + end[0], y - 1 + end[1]))
    found = []
    while edges:
        start = point = next(iter(edges))
        flat: list[float] = []
        while True:
            flat += map(float, point)
            following = edges[point].pop()
            if not edges[point]:
                del edges[point]
            point = following
            if point == start:
                break
        found.append(flat)
    return found
