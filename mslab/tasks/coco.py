"""COCO's JSON: boxes, masks, key points.

read_coco() reads whatever is sound and lists whatever is not; load_coco() raises for a file with an error. Both are
bounded: in the size of the file, the number of its values, and the numbers themselves, NaN and 1e308 among them.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mslab import files
from mslab.errors import DatasetError
from mslab.tasks.labels import Category, ImageLabels, LabelSet, Problems
from mslab.tasks.names import file_name
from mslab.tasks.regions import read_region

MOST_BYTES = 512 << 20  # of a file: COCO's train2017 has 450 MB
MOST_VALUES = 60_000_000
FARTHEST = 1e6  # pixels; a coordinate beyond is no position in an image
LOOSE = 1.0  # pixels by which a box may leave its image: tools round
EXPECTED = "COCO's JSON: images, categories and annotations, with boxes as [left, top, width, height] in pixels"
FEW = 3  # boxes; with fewer, it is not asked whether all of them are in another unit


class CocoObject(NamedTuple):
    """One sound annotation."""

    box: tuple[float, float, float, float]  # left, top, right, bottom
    label: int
    ignored: bool
    region: Any
    points: list[float]


class CocoImage(NamedTuple):
    """One image entry, with the annotations that name it."""

    file: str
    width: int
    height: int
    objects: list[CocoObject]


def load_coco(path: Path) -> LabelSet:
    """The labels of a file. Raises DatasetError that lists its errors."""
    labels, problems = read_coco(path)
    if errors := [problem for problem in problems if problem.severity == "error"]:
        raise DatasetError(
            f"{path} has {len(errors)} error{'s' * (len(errors) > 1)}.",
            details=[(problem.code, f"{problem.file} {problem.text}".strip()) for problem in errors[:5]],
            expected=EXPECTED,
            fix="mslab check FOLDER lists all of them, and what to do",
        )
    return labels


def read_coco(path: Path) -> tuple[LabelSet, Problems]:
    """(the sound labels, the problems of the others)."""
    problems = Problems()
    try:
        document = files.parse_json(files.decode(files.read_bytes(path, MOST_BYTES)), MOST_VALUES)
    except (OSError, files.FormatError) as error:
        line = getattr(error, "line", None)
        reason = getattr(error, "strerror", None) or error
        problems.add("label-file", "error", "", f"(it cannot be read{f', line {line}' if line else ''}: {reason})")
        return LabelSet(), problems
    lists = {name: document.get(name) for name in ("images", "categories", "annotations")} if is_table(document) else {}
    lacking = [name for name in ("images", "categories", "annotations") if not isinstance(lists.get(name), list)]
    if lacking:
        problems.add("label-file", "error", "", f"(it has no list {' and no list '.join(lacking)}, as COCO's files do)")
        return LabelSet(), problems
    return labels_of(lists["images"], lists["categories"], lists["annotations"], problems), problems


def labels_of(images: list[Any], categories: list[Any], annotations: list[Any], problems: Problems) -> LabelSet:
    classes, known = read_categories(without_group(categories, annotations), problems)
    entries = read_images(images, problems)
    boxes = other_units(annotations, entries, problems)
    reader = ObjectReader(classes, known, entries, problems, boxes)
    for number, row in enumerate(annotations):
        reader.read(number, row)
    most = max((len(category.points) for category in classes), default=0)
    found = sorted((labels_of_image(entry, most) for entry in entries.values()), key=lambda labels: labels.file)
    return LabelSet(tuple(found), classes, (), tuple(known))


def labels_of_image(entry: CocoImage, most: int) -> ImageLabels:
    """`most`: key points of the category that has most; others have points of zeros after their own."""
    rows, size = entry.objects, (entry.width, entry.height) * 2
    points = np.zeros((len(rows), most, 3), np.float32)
    for i, row in enumerate(rows):
        points[i, : len(row.points) // 3] = np.reshape(row.points, (-1, 3))
    return ImageLabels(
        entry.file,
        entry.width,
        entry.height,
        np.clip(np.array([row.box for row in rows], np.float32).reshape(-1, 4), 0, np.array(size, np.float32)),
        np.array([row.label for row in rows], np.int32),
        np.array([row.ignored for row in rows], bool),
        tuple(row.region for row in rows),
        points,
    )


# --- the parts -------------------------------------------------------------------------------------------------------


def is_table(value: Any) -> bool:
    return isinstance(value, dict)


def id_of(value: Any) -> Hashable | None:
    """An id: a whole number or a text; None for anything else."""
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def number_of(value: Any) -> float | None:
    """A number that can be a position in pixels; None for NaN, Infinity, 1e308, true, texts."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= FARTHEST:
        return None
    return float(value)


def numbers_of(values: Any) -> list[float] | None:
    """The numbers of a list; None if one of them is none."""
    if not isinstance(values, list):
        return None
    numbers = [number_of(value) for value in values]
    return None if None in numbers else numbers  # type: ignore[return-value]


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def without_group(categories: list[Any], annotations: list[Any]) -> list[Any]:
    """The categories without Roboflow's first one, number 0, which names the group of the others and has no object."""
    tables = [row for row in categories if is_table(row)]
    group = next((row for row in tables if row.get("id") == 0 and row.get("supercategory") == "none"), None)
    if group is None or not any(row.get("supercategory") == group.get("name") for row in tables):
        return categories
    used = any(is_table(row) and row.get("category_id") == 0 for row in annotations)
    return categories if used else [row for row in categories if row is not group]


def read_categories(rows: list[Any], problems: Problems) -> tuple[tuple[Category, ...], dict[Any, int]]:
    """(the categories in the order of their ids, {id: index})."""
    found: dict[Any, Category] = {}
    for number, row in enumerate(rows):
        row = row if is_table(row) else {}
        key, name = id_of(row.get("id")), row.get("name")
        if key is None:
            problems.add("label-field", "error", "", f"(categories[{number}] has no id: {shown(row.get('id'))})")
            continue
        if key in found:
            problems.add("duplicate-id", "error", "", f"(two categories have the id {shown(key)})")
            continue
        if not isinstance(name, str) or not name.strip():
            problems.add("category-name", "error", "", f"(the category with the id {shown(key)} has no name)")
            name = f"category {key}"
        elif name in [category.name for category in found.values()]:
            problems.add("category-name", "error", "", f"(two categories are called {name})")
        found[key] = Category(name, names_of(row.get("keypoints")), lines_of(row.get("skeleton")))
    keys = sorted(found, key=lambda key: (isinstance(key, str), key))
    whole = [key for key in keys if isinstance(key, int)]
    if whole and whole != list(range(len(whole))):
        gaps = ", with gaps" * (whole[-1] - whole[0] >= len(whole))
        said = f"the ids of its {len(keys)} categories are {whole[0]} to {whole[-1]}{gaps}; as classes: from 0"
        if len(keys) == 1:
            said = f"the id of its category is {whole[0]}; as a class: 0"
        problems.add("category-ids", "info", "", f"({said})")
    return tuple(found[key] for key in keys), {key: index for index, key in enumerate(keys)}


def names_of(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value[:1000])) if isinstance(value, list) else ()


def lines_of(value: Any) -> tuple[tuple[int, int], ...]:
    """COCO's skeleton counts from 1."""
    rows = [numbers_of(row) for row in value[:1000]] if isinstance(value, list) else []
    return tuple((int(row[0]) - 1, int(row[1]) - 1) for row in rows if row and len(row) == 2)


def read_images(rows: list[Any], problems: Problems) -> dict[Any, CocoImage]:
    found: dict[Any, CocoImage] = {}
    names: set[str] = set()
    for number, row in enumerate(rows):
        row = row if is_table(row) else {}
        key, name = id_of(row.get("id")), row.get("file_name")
        if key is None:
            problems.add("label-field", "error", "", f"(images[{number}] has no id: {shown(row.get('id'))})")
            continue
        if not isinstance(name, str):
            problems.add("label-field", "error", "", f"(images[{number}] has no file_name: {shown(name)})")
            continue
        if not (file := file_name(name, problems)):
            continue
        if key in found:
            problems.add("duplicate-id", "error", file, f"(two images have the id {shown(key)})")
            continue
        if file in names:
            problems.add("duplicate-id", "error", file, "(two entries are of this image)")
            continue
        names.add(file)
        sides = [row.get("width"), row.get("height")]
        width, height = (int(number_of(side) or 0) for side in sides)
        if width < 1 or height < 1:
            problems.add("image-size", "error", file, f"(its entry has no width and height: {shown(sides)})")
            width = height = 0
        found[key] = CocoImage(file, width, height, [])
    return found


def other_units(annotations: list[Any], images: Mapping[Any, CocoImage], problems: Problems) -> bool:
    """Whether the boxes of the file are in another unit or order, which is said once and not at each box."""
    rows = []
    for row in annotations:
        box = numbers_of(row.get("bbox")) if is_table(row) else None
        image = images.get(id_of(row.get("image_id"))) if is_table(row) else None
        if box and len(box) == 4 and image and image.width > 2 and image.height > 2:
            rows.append([*box, image.width, image.height])
    if len(rows) < FEW:
        return False
    x, y, w, h, width, height = np.array(rows).T
    if ((x + w <= 1.01) & (y + h <= 1.01) & (np.minimum(w, h) > 0)).all():
        text = f"(all {len(rows)} boxes are between 0 and 1: fractions of the image, and not pixels)"
        problems.add("box-unit", "error", "", text)
        return True
    beyond = (x + w > width + LOOSE) | (y + h > height + LOOSE)
    if beyond.mean() > 0.1 and ((w > x) & (h > y) & (w <= width + LOOSE) & (h <= height + LOOSE)).all():
        text = f"(all {len(rows)} boxes fit their images as [left, top, right, bottom], and {beyond.sum()} of them "
        problems.add("box-corners", "error", "", f"{text}leave it as [left, top, width, height], which COCO has)")
        return True
    return False


class ObjectReader:
    """Reads annotations one by one and adds the sound ones to their images."""

    def __init__(
        self,
        categories: tuple[Category, ...],
        known: Mapping[Any, int],
        images: Mapping[Any, CocoImage],
        problems: Problems,
        other_unit: bool,
    ) -> None:
        self.categories, self.known, self.images, self.problems = categories, known, images, problems
        self.other_unit = other_unit
        self.ids: set[Hashable] = set()
        self.seen: set[Any] = set()

    def read(self, number: int, row: Any) -> None:
        row = row if is_table(row) else {}
        key, problems = id_of(row.get("id")), self.problems
        if key is None:
            problems.add("label-field", "error", "", f"(annotations[{number}] has no id: {shown(row.get('id'))})")
            return
        image = self.images.get(id_of(row.get("image_id")))
        if image is None:
            text = f"(the object {shown(key)} is of an image that is not listed: image_id {shown(row.get('image_id'))})"
            problems.add("image-unknown", "error", "", text)
            return
        if key in self.ids:
            problems.add("duplicate-id", "error", image.file, f"(two objects have the id {shown(key)})")
        self.ids.add(key)
        label = self.known.get(id_of(row.get("category_id")))
        if label is None:
            text = f"(the object {shown(key)} is of a category that is not listed: {shown(row.get('category_id'))})"
            problems.add("category-unknown", "error", image.file, text)
            return
        box = self.box(key, row, image)
        if box is None:
            return
        region = read_region(key, row.get("segmentation"), (image.file, image.width, image.height), box, problems)
        points = self.points(key, row, image, self.categories[label])
        same = (image.file, label, box)
        if same in self.seen:
            problems.add(
                "duplicate-box", "warning", image.file, f"(two objects have the class and box of {shown(key)})"
            )
        self.seen.add(same)
        image.objects.append(CocoObject(box, label, row.get("iscrowd") in (1, True), region, points))

    def box(self, key: Hashable, row: Mapping[str, Any], image: CocoImage) -> tuple[float, float, float, float] | None:
        """(left, top, right, bottom), or None if there is no such box in the image."""
        values = numbers_of(row.get("bbox"))
        if values is None or len(values) != 4:
            text = f"(the box of the object {shown(key)} is not four numbers of pixels: {shown(row.get('bbox'))})"
            self.problems.add("label-value", "error", image.file, text)
            return None
        x, y, w, h = values
        if w <= 0 or h <= 0:
            text = f"(the box of the object {shown(key)} is {w:g} wide and {h:g} high: nothing is in it)"
            self.problems.add("box-empty", "error", image.file, text)
            return None
        if self.other_unit or not image.width:
            return x, y, x + w, y + h
        place = f"left {x:g}, top {y:g}, right {x + w:g}, bottom {y + h:g}, of {image.width}x{image.height} pixels"
        if x >= image.width or y >= image.height or x + w <= 0 or y + h <= 0:
            self.problems.add("box-outside", "error", image.file, f"(the object {shown(key)} is not in it: {place})")
            return None
        if min(x, y) < -LOOSE or x + w > image.width + LOOSE or y + h > image.height + LOOSE:
            text = f"(the object {shown(key)} leaves it: {place}; the box is cut at the border)"
            self.problems.add("box-border", "warning", image.file, text)
        return x, y, x + w, y + h

    def points(self, key: Hashable, row: Mapping[str, Any], image: CocoImage, category: Category) -> list[float]:
        """x, y, visibility of each key point in turn; [] if there are none, or none that can be used."""
        if row.get("keypoints") in (None, []):
            return []
        values, names, problems = numbers_of(row["keypoints"]), category.points, self.problems
        if values is None:
            text = f"(a key point of the object {shown(key)} is no number of pixels)"
            problems.add("label-value", "error", image.file, text)
            return []
        if len(values) != 3 * len(names):
            text = (
                f"(the object {shown(key)} has {len(values)} values, and not 3 for each of the {len(names)} key points "
            )
            problems.add("keypoint-count", "error", image.file, f"{text}of {category.name})")
            return []
        if wrong := sorted(set(values[2::3]) - {0, 1, 2}):
            text = f"(a key point of the object {shown(key)} has the visibility {wrong[0]:g}, and not 0, 1 or 2)"
            problems.add("keypoint-visibility", "error", image.file, text)
            return []
        seen = [name for name, v in zip(names, values[2::3], strict=True) if v]
        far = [
            name
            for name, x, y, v in zip(names, values[::3], values[1::3], values[2::3], strict=True)
            if v and image.width and not (-LOOSE <= x <= image.width + LOOSE and -LOOSE <= y <= image.height + LOOSE)
        ]
        if far:
            text = f"(the key point {far[0]} of the object {shown(key)} is not in it, and its visibility is not 0)"
            problems.add("keypoint-outside", "error", image.file, text)
            return []
        said = row.get("num_keypoints")
        if isinstance(said, int) and said != len(seen):
            text = f"(the object {shown(key)} has {len(seen)} key points, and its num_keypoints is {said})"
            problems.add("keypoint-count", "warning", image.file, text)
        return values


def counts_of(labels: LabelSet) -> dict[str, int]:
    """{class: objects}, those to be ignored left out."""
    found = Counter(_labels(labels.images))
    return {name: found[index] for index, name in enumerate(labels.class_names)}


def _labels(images: Iterable[ImageLabels]) -> Iterable[int]:
    for image in images:
        yield from image.classes[~image.ignored].tolist()
