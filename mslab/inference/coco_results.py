"""COCO's JSON around predictions: results for other tools, and the ids and boxes of a file that others wrote."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mslab import files
from mslab.errors import DatasetError
from mslab.runtime.tables import one_line
from mslab.tasks.coco import MOST_BYTES, MOST_VALUES, id_of, is_table, number_of, numbers_of, shown
from mslab.tasks.task import Task

FORMS = (
    "COCO's annotations (images, annotations, categories), or results with a file_name, as predict writes with --coco"
)


class Box(NamedTuple):
    """A box of an object, as a file has it."""

    place: tuple[float, float, float, float]  # left, top, right, bottom
    category: Any
    score: float


WHOLE = Box((0, 0, 0, 0), 1, 1.0)  # the object that fills an image


class ByName:
    """Values of images by file name: that of a file may have more folders in front, or fewer."""

    def __init__(self) -> None:
        self.values: dict[str, list[tuple[tuple[str, ...], Any]]] = {}

    def add(self, name: str, value: Any) -> None:
        parts = tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
        if parts:
            self.values.setdefault(parts[-1], []).append((parts, value))

    def all_of(self, path: Path) -> list[Any]:
        """The values of the name that has most folders in common with the path, all of its own among them."""
        # "images/1.png" is of data/images/1.png and of 1.png, not of data/masks/1.png
        own, best = path.absolute().parts, 0
        found: list[Any] = []
        for parts, value in self.values.get(path.name, ()):
            count = min(len(parts), len(own))
            if parts[-count:] == own[-count:] or parts[-len(path.parts) :] == path.parts:
                found = [*(found if count == best else ()), value] if count >= best else found
                best = max(best, count)
        return found


def load(path: Path, option: str) -> Any:
    """The JSON of a file. Raises DatasetError."""
    try:
        return files.parse_json(files.decode(files.read_bytes(path, MOST_BYTES)), MOST_VALUES)
    except (OSError, files.FormatError) as error:
        reason = getattr(error, "strerror", None) or error
        raise wrong(path, option, f"it cannot be read: {reason}") from None


def wrong(path: Path, option: str, reason: str, expected: str = FORMS) -> DatasetError:
    return DatasetError(
        f"{option} {path}: {reason}.", expected=expected, fix=f"name another file for {option}, or correct it"
    )


def images_of(document: Any, path: Path, option: str) -> dict[Any, str]:
    """{id: file_name} of the list of images. Raises DatasetError."""
    rows = document.get("images") if is_table(document) else None
    if not isinstance(rows, list):
        raise wrong(path, option, "it has no list images, as COCO's files do")
    names = {id_of(row.get("id")): row.get("file_name") for row in rows if is_table(row)}
    return {key: name for key, name in names.items() if key is not None and isinstance(name, str)}


class Boxes:
    """The boxes in a file of annotations or results, by image; those with iscrowd are left out."""

    def __init__(self, path: Path, option: str = "--boxes") -> None:
        document = load(path, option)
        self.path, self.option, self.by_name = path, option, ByName()
        names = {} if isinstance(document, list) else images_of(document, path, option)
        rows = document if isinstance(document, list) else document.get("annotations")
        if not isinstance(rows, list):
            raise wrong(path, option, "it has no list annotations, as COCO's files do")
        for name in names.values():
            self.by_name.add(name, None)  # listed, with or without a box
        for number, row in enumerate(rows):
            row = row if is_table(row) else {}
            own = row.get("file_name") if isinstance(document, list) else names.get(id_of(row.get("image_id")))
            if not isinstance(own, str):
                raise wrong(path, option, f"entry {number} does not say of which image it is: {shown(row)}")
            if not row.get("iscrowd"):
                self.by_name.add(own, self.box(number, row))

    def box(self, number: int, row: Mapping[str, Any]) -> Box:
        values, score = numbers_of(row.get("bbox")), number_of(row.get("score", 1))
        if values is None or len(values) != 4 or min(values[2:]) <= 0 or score is None:
            text = f"the bbox of entry {number} is {shown(row.get('bbox'))}"
            raise wrong(self.path, self.option, text, "left, top, width and height in pixels, the last two above 0")
        x, y, w, h = values
        category = id_of(row.get("category_id"))
        return Box((x, y, x + w, y + h), 1 if category is None else category, score)

    def of(self, path: Path) -> list[Box]:
        return [box for box in self.by_name.all_of(path) if box is not None]

    def within(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        """The boxes of an image of (width, height) pixels, cut at its border, float32 (n, 4). Raises ValueError."""
        boxes = np.array([box.place for box in self.of(path)], np.float64).reshape(-1, 4)
        cut = np.clip(boxes, 0, np.array(size * 2))
        empty = (cut[:, 2:] - cut[:, :2] <= 0).any(1)
        if empty.any():
            place = ", ".join(f"{value:g}" for value in boxes[empty][0])
            raise ValueError(f"its box {place} in {self.path} is not in its {size[0]}x{size[1]} pixels")
        return cut.astype(np.float32)

    def refuse_others(self, paths: Sequence[Path]) -> None:
        """Raise DatasetError if the file names none of these images."""
        if not any(self.by_name.all_of(path) for path in paths):
            raise wrong(self.path, self.option, f"it names none of the images, such as {one_line(paths[0])}")


class Ids:
    """The ids that results have: those of a file, or else the images' numbers and the classes' from 1."""

    def __init__(self, task: Task, paths: Sequence[Path], path: Path | None = None, option: str = "--ids") -> None:
        self.images: list[Any] = list(range(1, len(paths) + 1))
        self.categories: dict[str, Any] = {name: number for number, name in enumerate(task.names, 1)}
        if path is None:
            return
        document, by_name = load(path, option), ByName()
        for key, name in images_of(document, path, option).items():
            by_name.add(name, key)
        found = [by_name.all_of(own) for own in paths]
        if lacking := [own for own, keys in zip(paths, found, strict=True) if len(keys) != 1]:
            text = f"{len(lacking)} of the {len(paths)} images are not in it, or twice, such as {one_line(lacking[0])}"
            raise wrong(path, option, text, "an entry with an id and a file_name for each image")
        self.images = [keys[0] for keys in found]
        rows = document.get("categories")
        known = (
            {row.get("name"): id_of(row.get("id")) for row in rows if is_table(row)} if isinstance(rows, list) else {}
        )
        if task.name != "keypoints":  # whose names are of points
            absent = [name for name in task.names if known.get(name) is None]
            if absent:
                raise wrong(path, option, f"it has no category {shown(absent[0])}", "the classes of the network")
            self.categories = {name: known[name] for name in task.names}


def results(
    task: Task, rows: Sequence[Mapping[str, Any]], ids: Ids, paths: Sequence[Path], boxes: Boxes | None = None
) -> list[dict[str, Any]]:
    """The rows of images in COCO's form of results, which pycocotools' loadRes reads; unreadable images have none.

    boxes: those that key points were looked for in; without, an image is one object, of category 1.
    """
    found = []
    for key, row, path in zip(ids.images, rows, paths, strict=True):
        image = {"image_id": key, "file_name": row["file"]}
        if row["error"]:
            continue
        if task.name == "segment":
            for item in row["classes"]:
                category = {"category_id": ids.categories[item["class"]], "segmentation": item["segmentation"]}
                found.append(image | category | {"score": 1.0})
            continue
        own = boxes.of(path) if boxes else [WHOLE]
        for number, item in enumerate(row["objects"]):
            left, top, right, bottom = item["box"]
            place = {"bbox": [left, top, round(right - left, 2), round(bottom - top, 2)]}
            if task.name == "detect":
                found.append(image | {"category_id": ids.categories[item["class"]]} | place | {"score": item["score"]})
            else:
                found.append(image | place | points(item, own[number]))
    return found


def points(item: Mapping[str, Any], box: Box) -> dict[str, Any]:
    """An object's points. Its score is the mean of theirs times the box's (Xiao et al. 2018)."""
    flat = [value for point in item["points"].values() for value in point]
    return {"category_id": box.category, "keypoints": flat, "score": box.score * float(np.mean(flat[2::3]))}
