"""The labels of a split for training: boxes, masks, points and tags of each image as one value."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from mslab.errors import DatasetError
from mslab.tasks.coco import read_coco
from mslab.tasks.folders import LabelFiles, class_names, find_labels, image_of, pictures_in
from mslab.tasks.labels import Category, ImageLabels, LabelSet, Problem, Problems
from mslab.tasks.tags import read_tags

EXPECTED = "annotations.json (COCO), tags.csv or masks/, beside images/, in the folder or in its train, val and test"


def load_labels(root: str | Path, task: str) -> dict[str, LabelSet]:
    """{split: its labels for one of TASKS}, the images sorted by name, the classes as in the first split.

    Raises DatasetError if there are none, or with every error that they have. It opens no image: mslab check does.
    """
    found = find_labels(Path(root))
    if not found:
        raise DatasetError(f"{root} has no labels.", expected=EXPECTED, fix="mslab data make --scenes draws some")
    sets, errors = {}, []
    for name, paths in found.items():
        sets[name], problems = read_split(paths.of_task(task))
        errors += [(name, problem) for _, problem in problems if problem.severity == "error"]
    first = next(iter(sets.values()))
    for name, labels in sets.items():
        if sorted(labels.class_names) != sorted(first.class_names) or labels.tags != first.tags:
            text = "(its classes or tags are not those of the first split)"
            errors.append((name, Problem("class-extra", "error", "", text)))
        points = {category.name: category.points for category in first.categories}
        if any(points.get(category.name, category.points) != category.points for category in labels.categories):
            text = "(its key points are not those of the first split, or in another order)"
            errors.append((name, Problem("keypoint-names", "error", "", text)))
    if errors:
        rows = [(p.code, f"{name} {p.file} {p.text}".strip()) for name, p in errors[:10]]
        fix = "mslab check FOLDER lists all of them, and what to do"
        count = f"{len(errors)} error{'s' * (len(errors) > 1)}"
        raise DatasetError(f"{root}: {count} in its labels.", details=rows, expected=EXPECTED, fix=fix)
    return {name: in_order(labels, first) for name, labels in sets.items()}


def read_split(paths: LabelFiles) -> tuple[LabelSet, list[tuple[Path, Problem]]]:
    """(the labels of a split from all of its files, the problems of each file)."""
    problems: list[tuple[Path, Problem]] = []
    images: dict[str, ImageLabels] = {}
    pictures = list(pictures_in(paths.images))
    labels = LabelSet()
    for file, read in ((paths.boxes, read_coco), (paths.tags, read_tags)):
        if file is None:
            continue
        found, own = read(file)
        labels = found if file == paths.boxes else replace(labels, tags=found.tags)
        for row in with_images(found, paths.images.name, pictures, own):
            images[row.file] = replace(images[row.file], tags=row.tags) if row.file in images else row
        problems += [(file, problem) for problem in own]
    if paths.masks:
        masks = {image_of(name): name for name in pictures_in(paths.masks)}
        for name in pictures:
            if mask := masks.get(Path(name).stem, ""):
                images[name] = replace(images.get(name, ImageLabels(name)), mask=mask)
        if not labels.categories:
            labels = replace(labels, categories=tuple(map(Category, class_names(paths.masks.parent))))
    return replace(labels, images=tuple(images[name] for name in sorted(images))), problems


def with_images(labels: LabelSet, folder: str, pictures: list[str], problems: Problems) -> list[ImageLabels]:
    """The images of the set that exist, with the names that they have below their folder, which is called so."""
    here, by_name = set(pictures), {Path(name).name: name for name in pictures}
    found, taken = [], {row.file for row in labels.images}
    for row in labels.images:
        inside = row.file.removeprefix(f"{folder}/")  # a name relative to the folder of the JSON
        if row.file not in here and inside in here and inside not in taken:
            found.append(replace(row, file=inside))
            continue
        name = row.file if row.file in here else by_name.get(Path(row.file).name, "")
        if not name or (name != row.file and name in taken):
            problems.add(
                "image-missing",
                "error",
                row.file,
                "(the labels name it, and there is no such image; links are not followed)",
            )
            continue
        if name != row.file:
            problems.add("file-name", "warning", name, f"(its file_name is {row.file!r}: the folder is not there)")
        found.append(replace(row, file=name))
    return found


def in_order(labels: LabelSet, first: LabelSet) -> LabelSet:
    """The same labels with the classes of the first split, which another one may number otherwise."""
    names = labels.class_names
    if names == first.class_names:
        return labels
    index = np.array([first.class_names.index(name) for name in names], np.int32)
    images = (replace(image, classes=index[image.classes]) for image in labels.images)
    return replace(labels, images=tuple(images), categories=first.categories, ids=first.ids)
