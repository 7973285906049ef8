"""What the readers of Pascal VOC, YOLO and labelme give: images, and the objects on them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mslab.tasks.folders import PICTURES, SPLIT
from mslab.tasks.labels import Category

MOST_FILES = 1_000_000  # that are looked at
MOST_OBJECTS = 1_000_000


@dataclass(frozen=True)
class LabelledObject:
    """One object, in pixels, or in fractions of its image."""

    category: str
    box: tuple[float, float, float, float]  # left, top, right, bottom
    outlines: tuple[tuple[float, ...], ...] = ()  # each x, y, x, y …
    points: tuple[float, ...] = ()  # x, y, visibility …
    ignored: bool = False

    def scaled(self, width: int, height: int) -> "LabelledObject":
        """The same in pixels, of one in fractions."""
        left, top, right, bottom = self.box
        size = (width, height, 1)
        return replace(
            self,
            box=(left * width, top * height, right * width, bottom * height),
            outlines=tuple(tuple(x * size[i % 2] for i, x in enumerate(flat)) for flat in self.outlines),
            points=tuple(x * size[i % 3] for i, x in enumerate(self.points)),
        )

    def to_coco(self) -> dict[str, Any]:
        """COCO's values, but for the ids."""
        left, top, right, bottom = (tidy(value) for value in self.box)
        values: dict[str, Any] = {
            "bbox": [left, top, tidy(right - left), tidy(bottom - top)],
            "area": tidy((right - left) * (bottom - top)),
            "iscrowd": int(self.ignored),
            "segmentation": [[tidy(value) for value in flat] for flat in self.outlines],
        }
        if self.points:
            values["keypoints"] = [tidy(value) for value in self.points]
            values["num_keypoints"] = sum(v > 0 for v in self.points[2::3])
        return values


def tidy(value: float) -> float:
    """To a ten-thousandth of a pixel: fractions with six digits give no more."""
    rounded = round(float(value), 4)
    return int(rounded) if rounded == int(rounded) else rounded


@dataclass(frozen=True)
class LabelledImage:
    """One image and what is on it."""

    split: str  # train, val, test or ""
    folder: Path  # of the images
    name: str  # of the image in it, with "/"
    objects: tuple[LabelledObject, ...] = ()
    fractions: bool = False  # the objects are in fractions of the image, and not in pixels
    size: tuple[int, int] | None = None  # width and height, if the labels name them
    tags: dict[str, bool] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.folder / self.name


@dataclass
class Source:
    """What a reader found."""

    categories: list[Category] = field(default_factory=list)
    images: list[LabelledImage] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # which stop the import
    notes: dict[str, int] = field(default_factory=dict)  # what was left out -> how often

    def note(self, text: str) -> None:
        self.notes[text] = self.notes.get(text, 0) + 1


def files_below(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """(folder, names of its regular files, sorted); no link is followed, and hidden folders are left out."""
    left = MOST_FILES
    for above, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if not name.startswith((".", "__MACOSX")))
        left -= len(names)
        if left < 0:
            return
        yield Path(above), sorted(name for name in names if not name.startswith(".") and is_regular(above, name))


def is_regular(above: str, name: str) -> bool:
    path = Path(above, name)
    return path.is_file() and not path.is_symlink()


def split_of(path: Path, root: Path) -> str:
    """train, val or test, if a folder between them is called so."""
    # split_of(Path("d/labels/train2017"), Path("d")) -> "train"
    for part in path.relative_to(root).parts:
        if match := SPLIT.fullmatch(part):
            return str(match[1] or match[2] or match[3]).lower()
    return ""


def images_by_stem(folder: Path) -> dict[str, str]:
    """{stem: name} of the images in a folder, not below it."""
    found: dict[str, str] = {}
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in PICTURES and is_regular(str(folder), path.name):
                found.setdefault(path.stem, path.name)
    return found
