"""Pascal VOC: an XML file with boxes for each image, as LabelImg, CVAT and Roboflow write it, too."""

import re
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

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

MOST_BYTES = 16 << 20  # of an XML file
DEEPEST = 50
FARTHEST = 1e6  # pixels
TRUE = ("1", "true", "yes")


def read_voc(root: Path) -> Source:
    """Every XML file with an <annotation>. Classes are sorted by name."""
    found, names, total = Source(), set[str](), 0
    lists = split_lists(root)
    for folder, entries in files_below(root):
        tables = [name for name in entries if name.lower().endswith(".xml")]
        images = folder_of_images(folder) if tables else folder
        by_stem = images_by_stem(images) if tables else {}
        for name in tables:
            shown = (folder / name).relative_to(root).as_posix()
            try:
                annotation = parse_xml(files.read_bytes(folder / name, MOST_BYTES))
                if annotation.tag != "annotation":
                    found.note("XML files that are no annotations left out")
                    continue
                objects = objects_of(annotation)
                size = size_of(annotation)
            except (OSError, ValueError) as error:
                found.problems.append(f"{shown}: {error}")
                continue
            stem = Path(name).stem
            image = by_stem.get(stem) or by_stem.get(Path(text(annotation, "filename").replace("\\", "/")).stem)
            if not image:
                found.problems.append(f"{shown}: there is no image {stem} in {images.relative_to(root).as_posix()}/")
                continue
            total += len(objects)
            names |= {row.category for row in objects}
            split = split_of(folder, root) or lists.get(stem, "")
            found.images.append(LabelledImage(split, images, image, tuple(objects), size=size))
        if total > MOST_OBJECTS:
            found.problems.append(f"more than {MOST_OBJECTS:,} objects")
            break
    found.categories = [Category(name) for name in sorted(names)]
    return found


def folder_of_images(annotations: Path) -> Path:
    """Where the images of a folder of XML files are: beside it, or in it."""
    for name in ("JPEGImages", "images", "Images", "imgs"):
        for above in (annotations.parent, annotations.parent.parent):
            inner = above / name / (annotations.name if above != annotations.parent else "")
            if inner.is_dir() and not inner.is_symlink():
                return inner
    return annotations


def split_lists(root: Path) -> dict[str, str]:
    """{stem: split} of ImageSets/Main/{train,val,test}.txt."""
    found: dict[str, str] = {}
    for folder in (path for path in root.glob("**/ImageSets/Main") if path.is_dir() and not path.is_symlink()):
        for split in ("train", "val", "test"):
            if (folder / f"{split}.txt").is_file():
                for line in files.read_text(folder / f"{split}.txt").splitlines():
                    found.setdefault(line.split(" ")[0].strip(), split)
    found.pop("", None)
    return found


def parse_xml(content: bytes) -> Element:
    """The root of an XML text. Raises ValueError for entities and other declarations, which can expand without end."""
    plain = re.sub(r"\A\s*<\?xml[^>]*\?>", "", files.decode(content))  # the encoding is known by now
    builder, depth = TreeBuilder(), 0
    parser = expat.ParserCreate()

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} levels deep")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> None:
        raise ValueError("it declares a document type or entities, which no label file needs")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    try:
        parser.Parse(plain, True)
        return builder.close()
    except expat.ExpatError as error:
        raise ValueError(f"it is not XML: line {error.lineno}: {expat.ErrorString(error.code)}") from None


def text(element: Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def number(element: Element, path: str, required: bool = True) -> float:
    """A number of pixels. Raises ValueError."""
    said = text(element, path)
    try:
        value = float(said or ("nan" if required else "0"))
    except ValueError:
        value = float("nan")
    if not abs(value) <= FARTHEST:
        raise ValueError(f"<{path.rpartition('/')[2]}> is {said[:40]!r}, and no number of pixels")
    return value


def size_of(annotation: Element) -> tuple[int, int] | None:
    width, height = (int(number(annotation, f"size/{side}", required=False)) for side in ("width", "height"))
    return (width, height) if width > 0 and height > 0 else None


def objects_of(annotation: Element) -> list[LabelledObject]:
    """Raises ValueError. PASCAL's own files count pixels from 1; those of other programs have positions from 0."""
    first = 1.0 if text(annotation, "source/annotation").upper().startswith("PASCAL VOC") else 0.0
    found = []
    for row in annotation.iterfind("object"):
        name = text(row, "name")
        if not name:
            raise ValueError("an <object> has no <name>")
        box = row.find("bndbox")
        if box is None:
            raise ValueError(f"the <object> {name} has no <bndbox>")
        left, top, right, bottom = (number(box, side) for side in ("xmin", "ymin", "xmax", "ymax"))
        if right <= left or bottom <= top:
            raise ValueError(
                f"the box of {name} is empty: xmin {left:g}, ymin {top:g}, xmax {right:g}, ymax {bottom:g}"
            )
        ignored = text(row, "difficult").lower() in TRUE  # which VOC's evaluation does not count either
        outline = outline_of(row)
        found.append(LabelledObject(name, (left - first, top - first, right, bottom), outline, (), ignored))
    return found


def outline_of(row: Element) -> tuple[tuple[float, ...], ...]:
    """Roboflow's <polygon>: x1, y1, x2, y2 …"""
    polygon = row.find("polygon")
    if polygon is None:
        return ()
    count = sum(re.fullmatch(r"x\d+", corner.tag) is not None for corner in polygon)
    flat = tuple(number(polygon, f"{axis}{i}") for i in range(1, count + 1) for axis in "xy")
    return (flat,) if count > 2 else ()
