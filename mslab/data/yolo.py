"""YOLO: a TXT file for each image, with a line "class x y width height" for each object, in fractions of the image.

Also its outlines ("class x y x y …"), and its poses ("class x y width height x y visibility …") if data.yaml has
kpt_shape. An image is, as for Ultralytics, in the folder whose path has images/ in the place of labels/, or beside.
What data.yaml says of paths is not used: it often names folders of another machine.
"""

from pathlib import Path
from typing import Any, NamedTuple

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
from mslab.safe_yaml import parse_yaml
from mslab.tasks.labels import Category

MOST_BYTES = 16 << 20
NAMES = ("classes.txt", "obj.names", "labels.txt", "_darknet.labels")
LOOSE = 0.001  # of the image, by which a coordinate may leave it: it was written with few digits


class Names(NamedTuple):
    """What data.yaml or classes.txt say. `numbers`: values of a key point, 2 or 3; 0 if there are none."""

    classes: list[str]
    points: tuple[str, ...] = ()
    numbers: int = 0


def read_yolo(root: Path) -> Source:
    """Every TXT file in labels/ or beside an image of its name. Classes are in the order of their numbers."""
    found = Source()
    try:
        names = read_names(root)
    except (OSError, ValueError) as error:
        found.problems.append(str(error))
        return found
    objects = 0
    for folder, entries in files_below(root):
        images = folder_of_images(folder, root)
        by_stem = images_by_stem(images)
        stems = {Path(name).stem for name in entries if name.endswith(".txt")}
        labels = {f"{stem}.txt" for stem in stems if stem in by_stem or "labels" in folder.relative_to(root).parts}
        if not labels - set(NAMES):
            continue
        split = split_of(folder, root)
        for name in sorted(labels - set(NAMES)):
            shown = (folder / name).relative_to(root).as_posix()
            if (stem := name.removesuffix(".txt")) not in by_stem:
                found.problems.append(f"{shown}: there is no image {stem} in {images.relative_to(root).as_posix()}/")
                continue
            rows = objects_in(folder / name, shown, names, found)
            objects += len(rows)
            found.images.append(LabelledImage(split, images, by_stem[stem], tuple(rows), fractions=True))
        for stem in sorted(set(by_stem) - stems):  # YOLO writes no file for an image without objects
            found.note("images without a file of labels, taken as images without objects")
            found.images.append(LabelledImage(split, images, by_stem[stem]))
        if objects > MOST_OBJECTS:
            found.problems.append(f"more than {MOST_OBJECTS:,} objects")
            break
    found.categories = [Category(name, names.points) for name in names.classes]
    return found


def folder_of_images(labels: Path, root: Path) -> Path:
    parts = list(labels.relative_to(root).parts)
    for at in (i for i in reversed(range(len(parts))) if parts[i] == "labels"):
        images = root.joinpath(*parts[:at], "images", *parts[at + 1 :])
        if images.is_dir() and not images.is_symlink():
            return images
    return labels


def read_names(root: Path) -> Names:
    """Raises ValueError if nothing says which class a number is."""
    tables = sorted(path for path in root.glob("*.y*ml") if path.is_file() and not path.is_symlink())
    for path in tables:
        try:
            document = parse_yaml(files.read_text(path, MOST_BYTES))
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from None
        if isinstance(document, dict) and "names" in document:
            return names_in(document, path.name)
    for path in (path for name in NAMES for path in (root / name, root / "labels" / name)):
        if path.is_file() and not path.is_symlink():
            lines = [line.strip() for line in files.read_text(path, MOST_BYTES).splitlines()]
            return Names(checked(list(filter(None, lines)), path.name))
    raise ValueError("there is neither a data.yaml with names nor a classes.txt: nothing says what class 0 is")


def names_in(document: dict[Any, Any], file: str) -> Names:
    said = document["names"]
    if isinstance(said, dict):
        said = [said.get(number, said.get(str(number))) for number in range(len(said))]
    if not isinstance(said, list) or not all(isinstance(name, str | int | float) for name in said):
        raise ValueError(f"{file}: names is neither a list nor a table of numbers from 0")
    shape = document.get("kpt_shape")
    if shape is None:
        return Names(checked(list(map(str, said)), file))
    sound = isinstance(shape, list) and len(shape) == 2 and type(shape[0]) is int and shape[1] in (2, 3)
    if not sound or not 0 < shape[0] <= 1000:
        raise ValueError(f"{file}: kpt_shape is {str(shape)[:40]}, and not [number of points, 2 or 3]")
    named = document.get("kpt_names")
    named = next(iter(named.values()), None) if isinstance(named, dict) else named
    points = named if isinstance(named, list) and len(named) == shape[0] else [f"point {i}" for i in range(shape[0])]
    return Names(checked(list(map(str, said)), file), tuple(map(str, points)), shape[1])


def checked(names: list[str], file: str) -> list[str]:
    if len(set(names)) < len(names) or not names:
        raise ValueError(f"{file}: {'two classes have one name' if names else 'it has no names'}")
    return names


def objects_in(path: Path, shown: str, names: Names, found: Source) -> list[LabelledObject]:
    """The objects of one file; adds a problem for each line that cannot be read."""
    rows: list[LabelledObject] = []
    try:
        lines = files.read_text(path, MOST_BYTES).splitlines()
    except (OSError, ValueError) as error:
        found.problems.append(f"{shown}: {error}")
        return rows
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                rows.append(object_of(line.split(), names))
            except ValueError as error:
                found.problems.append(f"{shown}, line {number}: {error}")
    return rows


def object_of(words: list[str], names: Names) -> LabelledObject:
    """One line. Raises ValueError."""
    try:
        label, values = int(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        raise ValueError(f"{' '.join(words)[:60]!r} is not a class number and numbers") from None
    if not 0 <= label < len(names.classes):
        raise ValueError(f"the class {label}, and there are names for 0 to {len(names.classes) - 1}")
    pose = names.numbers * len(names.points)
    positions = (
        values[:4] + [v for i, v in enumerate(values[4:]) if names.numbers != 3 or i % 3 < 2] if pose else values
    )
    if not all(-LOOSE <= value <= 1 + LOOSE for value in positions):
        raise ValueError("a position that is no fraction of the image, from 0 to 1; pixels?")
    if pose and len(values) == 4 + pose:
        return LabelledObject(names.classes[label], box_of(values), (), points_of(values[4:], names.numbers))
    if len(values) == 4:
        return LabelledObject(names.classes[label], box_of(values))
    if len(values) >= 6 and len(values) % 2 == 0 and not pose:
        x, y = values[::2], values[1::2]
        return LabelledObject(names.classes[label], (min(x), min(y), max(x), max(y)), (tuple(values),))
    expected = f"4 or {4 + pose}" if pose else "4, or x and y of at least 3 points"
    raise ValueError(f"{len(values)} numbers after the class, and not {expected}")


def box_of(values: list[float]) -> tuple[float, float, float, float]:
    x, y, width, height = values[:4]
    if width <= 0 or height <= 0:
        raise ValueError(f"a box that is {width:g} wide and {height:g} high")
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def points_of(values: list[float], numbers: int) -> tuple[float, ...]:
    """x, y, visibility …; of two numbers a point, one at 0, 0 is none."""
    found: list[float] = []
    for i in range(0, len(values), numbers):
        x, y = values[i : i + 2]
        seen = values[i + 2] if numbers == 3 else 2.0 * (x > 0 or y > 0)
        if seen not in (0, 1, 2):
            raise ValueError(f"the visibility {seen:g} of a key point, and not 0, 1 or 2")
        found += [x, y, seen] if seen else [0.0, 0.0, 0.0]
    return tuple(found)
