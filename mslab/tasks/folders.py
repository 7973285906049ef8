"""Where the labels of a data set are: COCO's JSON, a table of tags and pictures of classes, in each split.

    ROOT/{train,val,test}/annotations.json   images/   masks/   tags.csv     as mslab writes them
    ROOT/{train,valid,test}/_annotations.coco.json, _classes.csv beside the images     Roboflow
    ROOT/annotations/instances_train2017.json   ROOT/train2017/     COCO; images/train2017/, too
    ROOT/annotations/instances_default.json     ROOT/images/        CVAT, one split; its subset Train: images/Train/
Any of these folders may be a data set of one split.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mslab.files import FormatError, kind_of, read_text

SPLIT = re.compile(r"(?i)(?:(train)(?:ing)?|(val)(?:id|idation)?|(test)(?:ing)?)[-_]?(?:\d{4})?")
BOXES = ("annotations.json", "_annotations.coco.json", "coco.json", "labels.json", "annotations.coco.json")
TABLES = ("tags.csv", "_classes.csv", "labels.csv")
IMAGES, MASKS = (
    ("images", "JPEGImages", "imgs", "data"),
    ("masks", "SegmentationClass", "labels_mask", "annotations_png"),
)
NAMES = ("classes.txt", "class_names.txt")
OTHER_JSON = re.compile(r"(?i).*(coco|annotations|instances|keypoints).*\.json")  # if there is one such file
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".gif", ".webp")
COCO = re.compile(
    r"(?i)(?:instances|person_keypoints|keypoints|annotations|labels)?[-_]?"
    r"((train|val|test)(?:ing|id|idation)?[-_]?(?:\d{4})?)\.json"
)


class LabelFiles(NamedTuple):
    """The files of one split; None for what is not there."""

    images: Path  # folder
    boxes: Path | None = None  # COCO's JSON
    tags: Path | None = None  # a table
    masks: Path | None = None  # folder

    def of_task(self, task: str | None) -> "LabelFiles":
        """The files that a task reads; all of them for None."""
        if task is None:
            return self
        boxes = self.boxes if task != "multilabel" else None
        tags = self.tags if task == "multilabel" else None
        return LabelFiles(self.images, boxes, tags, self.masks if task == "segment" else None)

    @property
    def labelled(self) -> bool:
        return bool(self.boxes or self.tags or self.masks)

    @property
    def certain(self) -> bool:
        """Whether the files look like labels of their kind: a JSON beside class folders may be anything."""
        return bool(self.tags or self.masks or (self.boxes and looks_like_coco(self.boxes)))


def find_labels(root: Path) -> dict[str, LabelFiles]:
    """{train, val, test, or "" for a data set of one split: its files}; {} if there are no such labels."""
    splits: dict[str, LabelFiles] = {}
    for name in folders_in(root):
        match = SPLIT.fullmatch(name)
        if match and (found := files_of(root / name)).labelled:
            splits.setdefault(str(match[1] or match[2] or match[3]).lower(), found)
    splits = splits or coco_layout(root)
    if splits:
        return {name: splits[name] for name in ("train", "val", "test", "") if name in splits}
    found = files_of(root)
    return {"": found} if found.labelled else {}


def files_of(folder: Path) -> LabelFiles:
    """The files in a folder of one split."""
    images = next((folder / name for name in IMAGES if is_folder(folder / name)), folder)
    boxes, tags = (
        next((folder / name for name in names if kind_of(folder / name) == "a file"), None) for names in (BOXES, TABLES)
    )
    if boxes is None:
        others = [path for path in sorted(folder.glob("*.json")) if OTHER_JSON.fullmatch(path.name)]
        boxes = others[0] if len(others) == 1 and kind_of(others[0]) == "a file" else None
    masks = next((folder / name for name in MASKS if is_folder(folder / name)), None)
    if masks and (images == folder or not alike(images, masks)):
        masks = None
    if tags and tags.name == "labels.csv" and not has_bits(tags):  # a table of one class an image
        tags = None
    return LabelFiles(images, boxes, tags, masks)


def coco_layout(root: Path) -> dict[str, LabelFiles]:
    """The files of COCO's own layout. Of several files of a split, instances_ comes first. A lone file of another name
    is a data set of one split.
    """
    found: dict[str, LabelFiles] = {}
    folder = root / "annotations"
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".json") if is_folder(folder) else []
    files = [path for path in files if kind_of(path) == "a file"]
    for file in files:
        if (match := COCO.fullmatch(file.name)) and match[2].lower() not in found:
            images = images_called(root, match[1], match[2])
            found[match[2].lower()] = LabelFiles(images, file)
    if not found and len(files) == 1 and looks_like_coco(files[0]):
        return {"": LabelFiles(images_called(root, "default"), files[0])}
    return found


def images_called(root: Path, *names: str) -> Path:
    """The first folder with one of these names, in capitals or not, in the data set or in its images/; else images/."""
    for name in (re.sub("[-_]", "", name).casefold() for name in names):
        for above in (root, root / "images"):
            for folder in folders_in(above):
                if re.sub("[-_]", "", folder).casefold() == name:
                    return above / folder
    return root / "images" if is_folder(root / "images") else root


def is_folder(path: Path) -> bool:
    return kind_of(path) == "a folder"  # no link: it may lead out of the data set


def folders_in(root: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def pictures_in(folder: Path) -> Iterator[str]:
    """The names of the pictures below a folder, with "/"; no link is followed."""
    for above, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name not in MASKS)
        for name in sorted(names):
            path = Path(above, name)
            if name.lower().endswith(PICTURES) and not name.startswith(".") and not path.is_symlink():
                yield path.relative_to(folder).as_posix()


def is_label_file(name: str) -> bool:
    """Whether files of labels have such a name: COCO's JSON, a table of tags, the names of classes."""
    return name in (*BOXES, *TABLES, *NAMES) or bool(OTHER_JSON.fullmatch(name) or COCO.fullmatch(name))


def names_file(folder: Path) -> Path | None:
    """The file with the names of the classes of masks, in the folder of the split or in the one around it."""
    places = (above / name for above in (folder, folder.parent) for name in NAMES)
    return next((path for path in places if kind_of(path) == "a file"), None)


def looks_like_coco(file: Path) -> bool:
    """Whether a JSON begins with one of COCO's tables."""
    with suppress(OSError), file.open("rb") as opened:
        start = opened.read(1 << 14).replace(b"\0", b"")  # of UTF-16
        return any(f'"{name}"'.encode() in start for name in ("images", "annotations", "categories", "licenses"))
    return False


def class_names(folder: Path) -> list[str]:
    """The classes of masks from 1 on, as classes.txt says them, in the folder of the split or in the one around it."""
    if path := names_file(folder):
        with suppress(OSError, FormatError):
            lines = [line.strip() for line in read_text(path, 1 << 20).splitlines()]
            return [line for line in lines if line and line.strip("_").casefold() not in ("ignore", "background")]
    return []


def alike(images: Path, masks: Path) -> bool:
    """Whether most pictures of a folder have the name of an image: then they are its masks."""
    names = {Path(name).stem for name in pictures_in(images)}
    pictures = list(pictures_in(masks))
    return bool(names) and 2 * sum(image_of(name) in names for name in pictures) >= len(pictures) > 0


def image_of(mask: str) -> str:
    """The stem of the image that a mask is of."""
    # image_of("cat_mask.png") -> "cat"
    return re.sub(r"(?i)[-_](mask|label|labels|seg|gt|labelids)$", "", Path(mask).stem)


def has_bits(table: Path) -> bool:
    """Whether a table looks like tags: its second line has nothing but 0 and 1 after a name."""
    try:
        with table.open("rb") as file:
            lines = [file.readline(1 << 16) for _ in range(2)]
    except OSError:
        return False
    cells = re.split(rb"[,;\t]", lines[1].strip())[1:]
    return len(cells) > 1 and {cell.strip() for cell in cells} <= {b"0", b"1"}
