"""labelme: a JSON file beside each image, with polygons, rectangles, circles and points.

Shapes of one label and group_id are one object, and the points of a group are key points of its object. What is ticked
for the whole image (flags) becomes a tag. Images stored in the JSON (imageData) are not read: their files are.
"""

import math
from pathlib import Path
from typing import Any

from mslab import files
from mslab.data.labelled_images import (
    MOST_OBJECTS,
    LabelledImage,
    LabelledObject,
    Source,
    files_below,
    images_by_stem,
    split_of,
)
from mslab.tasks.labels import Category

MOST_BYTES = 256 << 20  # with its image
FARTHEST = 1e6  # pixels
IGNORE = "__ignore__"  # labelme's own name for what counts for nothing
OUTLINED = ("polygon", "rectangle", "circle", "mask")
CORNERS = 32  # of the polygon that stands for a circle
Shape = tuple[str, str, list[tuple[float, float]], Any]  # label, kind, points, group


def read_labelme(root: Path) -> Source:
    """Every JSON file with a list of shapes. Classes and key points are sorted by name."""
    found = Source()
    read: list[tuple[str, Path, str, list[Shape], tuple[int, int] | None, dict[str, bool]]] = []
    for folder, entries in files_below(root):
        by_stem: dict[str, str] | None = None
        for name in (name for name in entries if name.lower().endswith(".json")):
            shown = (folder / name).relative_to(root).as_posix()
            try:
                document = files.parse_json(files.decode(files.read_bytes(folder / name, MOST_BYTES)))
                if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
                    found.note("JSON files without shapes left out")
                    continue
                shapes = shapes_of(document["shapes"], found)
            except (OSError, ValueError) as error:
                found.problems.append(f"{shown}: {error}")
                continue
            by_stem = images_by_stem(folder) if by_stem is None else by_stem
            image = by_stem.get(Path(name).stem) or by_stem.get(stem_of(document.get("imagePath")))
            if image:
                size, tags = size_of(document), flags_of(document)
                read.append((split_of(folder, root), folder, image, shapes, size, tags))
            else:
                found.problems.append(f"{shown}: its image is not beside it")
    build(read, found)
    return found


def build(read: list[Any], found: Source) -> None:
    """Fill in the categories, and the images with their objects."""
    everything = [shape for row in read for shape in row[3]]
    if len(everything) > MOST_OBJECTS:
        found.problems.append(f"more than {MOST_OBJECTS:,} shapes")
        return
    names = sorted({label for label, kind, _, _ in everything if kind in OUTLINED})
    points = tuple(sorted({label for label, kind, _, group in everything if kind == "point" and group is not None}))
    found.categories = [Category(name, points) for name in names]
    for split, folder, image, shapes, size, tags in read:
        objects = objects_of(shapes, points, found)
        found.images.append(LabelledImage(split, folder, image, tuple(objects), size=size, tags=tags))


def stem_of(path: Any) -> str:
    return Path(path.replace("\\", "/")).stem if isinstance(path, str) else ""


def size_of(document: dict[str, Any]) -> tuple[int, int] | None:
    sides = document.get("imageWidth"), document.get("imageHeight")
    width, height = (side if type(side) is int and side > 0 else 0 for side in sides)
    return (width, height) if width and height else None


def flags_of(document: dict[str, Any]) -> dict[str, bool]:
    flags = document.get("flags")
    return (
        {str(name): value for name, value in flags.items() if isinstance(value, bool) and name != IGNORE}
        if isinstance(flags, dict)
        else {}
    )


def shapes_of(rows: list[Any], found: Source) -> list[Shape]:
    """Raises ValueError."""
    shapes: list[Shape] = []
    for number, row in enumerate(rows):
        row = row if isinstance(row, dict) else {}
        label, kind = row.get("label"), row.get("shape_type") or "polygon"
        if not isinstance(label, str) or not label.strip():
            raise ValueError(f"shapes[{number}] has no label")
        if label.strip() == IGNORE:
            found.note(f"shapes called {IGNORE} left out")
            continue
        if kind not in (*OUTLINED, "point"):
            found.note(f"shapes of the kind {str(kind)[:20]} left out")
            continue
        if kind == "mask":
            found.note("masks that labelme drew, taken as their boxes")
        shapes.append((label.strip(), kind, corners_of(row.get("points"), kind, number), row.get("group_id")))
    return shapes


def corners_of(points: Any, kind: str, number: int) -> list[tuple[float, float]]:
    least = {"polygon": 3, "point": 1}.get(kind, 2)
    if not isinstance(points, list) or len(points) < least:
        raise ValueError(f"shapes[{number}], a {kind}, has fewer than {least} points")
    for point in points:
        pair = isinstance(point, list) and len(point) == 2 and all(type(x) in (int, float) for x in point)
        if not pair or not all(abs(x) <= FARTHEST for x in point):
            raise ValueError(f"shapes[{number}], a {kind}, has a point that is not two numbers of pixels")
    return [(float(x), float(y)) for x, y in points]


def objects_of(shapes: list[Shape], points: tuple[str, ...], found: Source) -> list[LabelledObject]:
    """The objects of one image; shapes without a group are one each."""
    groups: dict[Any, list[Shape]] = {}
    marks: dict[str, dict[str, tuple[float, float]]] = {}
    for number, shape in enumerate(shapes):
        label, kind, corners, group = shape
        if kind == "point":
            if group is None:
                found.note("points without a group left out")
            else:
                marks.setdefault(str(group), {})[label] = corners[0]
        else:
            key = (label, str(group)) if group is not None else number
            groups.setdefault(key, []).append(shape)
    rows, used = [], set[str]()
    for same in groups.values():
        label, _, _, group = same[0]
        outlines = [outline_of(kind, corners) for _, kind, corners, _ in same]
        x = [value for flat in outlines for value in flat[::2]]
        y = [value for flat in outlines for value in flat[1::2]]
        box = min(x), min(y), max(x), max(y)
        own = marks.get(str(group), {}) if group is not None and str(group) not in used else {}
        used.add(str(group))
        values = [value for name in points for value in ((*own[name], 2.0) if name in own else (0.0, 0.0, 0.0))]
        drawn = tuple(
            flat for flat, (_, kind, _, _) in zip(outlines, same, strict=True) if kind in ("polygon", "circle")
        )
        rows.append(LabelledObject(label, box, drawn, tuple(values)))
    return rows


def outline_of(kind: str, corners: list[tuple[float, float]]) -> tuple[float, ...]:
    if kind == "circle":
        (x, y), (edge_x, edge_y) = corners[:2]
        radius = math.hypot(edge_x - x, edge_y - y)
        angles = [2 * math.pi * i / CORNERS for i in range(CORNERS)]
        corners = [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]
    return tuple(value for corner in corners for value in corner)
