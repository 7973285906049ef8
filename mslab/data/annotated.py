"""`mslab data import --format`: boxes, outlines and key points as Pascal VOC, YOLO and labelme store them -> COCO.

Why no library: supervision (0.31) needs PyAV, that is FFmpeg; datumaro (1.13) needs NumPy 2, with which MindSpore dies,
OpenCV, pandas and PyArrow; pylabel (0.1.55) has had no release since 2023 and needs OpenCV and Jupyter's widgets. The
formats themselves are a page each.

Imports: labelled_images (what a reader gives) <- voc, yolo, labelme <- this file.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mslab import files
from mslab.check.pool import ask
from mslab.data import labelme, voc, yolo
from mslab.data.labelled_images import LabelledImage, Source
from mslab.data.placing import space_of, staging_folder
from mslab.errors import DatasetError
from mslab.files import kind_of

READERS: dict[str, tuple[Callable[[Path], Source], str]] = {
    "voc": (voc.read_voc, "an XML file for each image, in Annotations/ or beside it"),
    "yolo": (yolo.read_yolo, "a TXT file for each image, in labels/, and data.yaml or classes.txt with the names"),
    "labelme": (labelme.read_labelme, "a JSON file for each image, beside it"),
}
LISTED = 8  # problems in a message
Progress = Callable[[int, int], None]


@dataclass
class ImportedLabels:
    """Result of an import."""

    root: Path
    counts: dict[str, tuple[int, int]]  # split -> images, objects
    notes: dict[str, int]

    def __str__(self) -> str:
        sums = ", ".join(f"{name or 'images'} {n} ({objects} objects)" for name, (n, objects) in self.counts.items())
        return "\n".join([f"{self.root}: {sums}", *(f"  {text}: {count}" for text, count in self.notes.items())])


def import_annotations(source: Path, out: Path, kind: str, progress: Progress | None = None) -> ImportedLabels:
    """Copy the images of a folder to `out`, and write their labels as COCO's JSON beside them.

    Raises DatasetError, leaving nothing behind, if there are no such labels, or with every label that cannot be read.
    """
    read, expected = READERS[kind]
    if kind_of(source, links=True) != "a folder":
        fix = "unpack the archive, and give the folder; or correct the path"
        raise DatasetError(f"{source} is not a folder.", expected=f"a folder with {expected}", fix=fix)
    found = read(source)
    if not found.images and not found.problems:
        fix = f"--format with another of {', '.join(READERS)}, or the folder that has the labels"
        raise DatasetError(f"{source} has no images with such labels.", expected=expected, fix=fix)
    places: dict[tuple[str, str], Path] = {}
    for row in found.images:
        if places.setdefault((row.split, row.name), row.folder) != row.folder:
            found.problems.append(f"{row.name}: two folders of a split have an image of this name")
    sizes = image_sizes(found)
    if found.problems:
        rows = [("", text) for text in found.problems[:LISTED]]
        rows += [("", f"… and {len(found.problems) - LISTED} more")] * (len(found.problems) > LISTED)
        what = f"{source}: {len(found.problems)} label{'s' * (len(found.problems) > 1)} cannot be read."
        fix = "correct these lines, or move the files away; nothing was written"
        raise DatasetError(what, details=rows, expected=expected, fix=fix)
    total = space_of(row.path.stat().st_size for row in found.images)
    counts = {}
    with staging_folder(out, total) as part:
        for split in dict.fromkeys(row.split for row in found.images):
            rows_of_split = [row for row in found.images if row.split == split]
            write_split(part / split, rows_of_split, found, sizes)
            counts[split] = len(rows_of_split), sum(len(row.objects) for row in rows_of_split)
            if progress:
                progress(sum(images for images, _ in counts.values()), len(found.images))
        part.rename(out)
    return ImportedLabels(out, counts, found.notes)


def image_sizes(found: Source) -> dict[Path, tuple[int, int]]:
    """{image: its width and height in pixels}; adds a problem for each that cannot be read."""
    sizes: dict[Path, tuple[int, int]] = {}
    unreadable: list[str] = []
    paths = [row.path for row in found.images]
    for index, answer in ask("look", paths):
        sizes[paths[index]] = answer.get("width", 0), answer.get("height", 0)
        if not answer.get("width"):
            unreadable.append(f"{found.images[index].name}: the image cannot be read: {answer.get('problem')}")
    found.problems += sorted(unreadable)  # the answers come in no order
    for row in found.images:
        if row.size and sizes[row.path] not in ((0, 0), row.size):
            width, height = sizes[row.path]
            text = f"the labels say {row.size[0]}x{row.size[1]} pixels, and the image has {width}x{height}"
            found.problems.append(f"{row.name}: {text}")
    return sizes


def write_split(folder: Path, rows: list[LabelledImage], found: Source, sizes: dict[Path, tuple[int, int]]) -> None:
    """Write images/ and annotations.json, and tags.csv if there are tags."""
    number_of = {category.name: number for number, category in enumerate(found.categories, 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, row in enumerate(sorted(rows, key=lambda row: row.name), 1):
        width, height = sizes[row.path]
        images.append({"id": number, "file_name": row.name, "width": width, "height": height})
        for values in row.objects:
            scaled = values.scaled(width, height) if row.fractions else values
            ids = {"id": len(annotations) + 1, "image_id": number, "category_id": number_of[values.category]}
            annotations.append(ids | scaled.to_coco())
        copy = folder / "images" / row.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        with files.Below(row.folder, row.name).open() as image, copy.open("xb") as target:  # through no link
            shutil.copyfileobj(image, target)
    categories: list[dict[str, Any]] = []
    for number, category in enumerate(found.categories, 1):
        points = {"keypoints": list(category.points), "skeleton": []} if category.points else {}
        categories.append({"id": number, "name": category.name, **points})
    document = {"images": images, "categories": categories, "annotations": annotations}
    (folder / "annotations.json").write_text(json.dumps(document, ensure_ascii=True) + "\n", encoding="utf-8")
    if names := sorted({name for row in rows for name in row.tags}):
        lines = [",".join(["file_name", *map(cell, names)])]
        for row in sorted(rows, key=lambda row: row.name):
            lines.append(",".join([cell(row.name), *(str(int(row.tags.get(name, False))) for name in names)]))
        (folder / "tags.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def cell(text: str) -> str:
    # cell('a "b", c') -> '"a ""b"", c"'
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in '",\n\r') else text
