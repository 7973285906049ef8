"""Rules about labels of boxes, masks, key points and tags, and about the images that they name."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from mslab.check.content import equal_images
from mslab.check.formats import DECODED
from mslab.check.label_report import LabelReport
from mslab.check.records import Finding, ImageRecord, Split, printable
from mslab.check.report import changeable
from mslab.tasks.labels import ImageLabels, LabelSet
from mslab.tasks.sample import mirror_pairs

FIXES = {  # by the code of a problem that reading the labels found
    "label-file": "replace the file, or export the labels again",
    "label-field": "correct the entry, or export the labels again",
    "label-value": "correct the number, or remove the object",
    "duplicate-id": "give each entry an id of its own, or remove the copy",
    "category-name": "give each category a name of its own",
    "category-ids": "nothing: classes are numbered in the order of the ids",
    "category-unknown": "list the category, or correct the object's category_id",
    "image-unknown": "list the image, or remove the object",
    "image-missing": "put the image there, or remove its entry and its objects",
    "image-size": "write its width and height in pixels",
    "file-name": "nothing, if it is this image; or write the name relative to the folder of the images, with /",
    "unsafe-path": "write the name relative to the folder of the images",
    "box-unit": "multiply left and width by the image's width, top and height by its height",
    "box-corners": "write width and height: right - left and bottom - top",
    "box-empty": "remove the object, or exchange its corners",
    "box-outside": "remove the object, or correct its box",
    "box-border": "nothing, if the object is cut off there; else correct its box",
    "box-mask": "correct the box or the mask: one of them may be of another object, or in another scale",
    "duplicate-box": "remove one of them",
    "mask-region": "export the mask again, or remove the segmentation of the object",
    "keypoint-count": "write x, y and visibility for each of the category's keypoints, and count those above 0",
    "keypoint-visibility": "write 0 (not labelled), 1 (hidden) or 2 (visible)",
    "keypoint-outside": "write 0, 0, 0 for a point that is not in the image",
    "duplicate-row": "remove one of the rows",
    "tag-value": "write 0 or 1; leave the row out if a tag is not known",
}
SWAPPED = 0.9  # of the pairs of points of a category have their left one on the same side: the others may be exchanged
MOST_OBJECTS = 5000  # of an image; aerial images of DOTA have up to some 2,000
PAIRS = 20  # with fewer, nothing is said
Rule = Callable[[LabelReport], Iterator[Finding]]


def path_of(split: Split, place: Path, name: str) -> str:
    """How findings show an image or mask below a folder."""
    file = place / name
    return split.show(file.relative_to(split.root).as_posix())


def image_path(report: LabelReport, split: str, file: str) -> str:
    return path_of(report.splits[split], report.places[split].images, file)


def relative(report: LabelReport, file: Path) -> str:
    return printable(file.relative_to(report.root).as_posix())


def labels_file(report: LabelReport, split: str) -> str:
    place = report.places[split]
    return relative(report, place.boxes or place.tags or place.masks or place.images)


def read_problems(report: LabelReport) -> Iterator[Finding]:
    """What reading the files of labels found."""
    for split, rows in report.problems.items():
        for file, problem in rows:
            path = image_path(report, split, problem.file) if problem.file else relative(report, file)
            yield Finding(problem.code, problem.severity, path, problem.text, FIXES[problem.code])


def by_image(report: LabelReport) -> Iterator[tuple[str, Split, ImageRecord, ImageLabels | None]]:
    """(name of the split, split, record, labels) of every image, labelled or not."""
    for name, split in report.splits.items():
        labels = {image_path(report, name, row.file): row for row in report.sets[name].images}
        for picture in split.pictures:
            yield name, split, picture, labels.get(split.show(picture.name))


def images(report: LabelReport) -> Iterator[Finding]:
    """Images that cannot be loaded or decoded, turned ones, and those of another size than the labels say."""
    for _, split, picture, labels in by_image(report):
        path = split.show(picture.name)
        if picture.code:
            moved = labels is None and changeable(report.root, split.root / picture.name)
            fix = report.move(split, picture.name) if moved else "replace it, or remove it and its labels"
            location = split.root / picture.name if moved else None
            yield Finding(picture.code, "error", path, f"({picture.problem})", fix, location)
            continue
        if labels is None:
            continue
        if picture.format not in DECODED:
            fix = "save it as JPEG or PNG, and write the new name into the labels"
            yield Finding("format", "error", path, f"({picture.format}: MindSpore does not decode it)", fix)
        stored, said = (picture.width, picture.height), (labels.width, labels.height)
        if picture.orientation != 1 and (len(labels.boxes) or labels.mask):
            turned = picture.orientation > 4 and said == stored[::-1] != stored
            yield turned_image(path, picture.orientation, turned, said == stored)
        elif labels.width and said != stored:
            text = f"(the labels say {said[0]}x{said[1]} pixels, and it has {stored[0]}x{stored[1]}: they are of "
            fix = "use the image that was labelled, or scale the labels"
            yield Finding("wrong-size", "error", path, f"{text}another image, or it was resized)", fix)


def turned_image(path: str, orientation: int, turned: bool, same: bool) -> Finding:
    """The finding for an image that viewers turn, and training does not."""
    where = "the labels are of the turned image" if turned else "the labels have the size of the stored one"
    where = where if turned or same else "the labels have neither size"
    text = f"(EXIF orientation {orientation}: viewers turn the image, training reads it as it is stored; {where})"
    fix = "store the pixels upright if the labels fit the turned image, else remove the orientation"
    return Finding("turned-image", "error", path, text, fix)


def unlabelled(report: LabelReport) -> Iterator[Finding]:
    """Images that no file of labels names, images without objects, and splits without any."""
    for name, split in report.splits.items():
        labels = report.sets[name]
        rows = [(image_path(report, name, row.file), row) for row in labels.images]
        listed = (report.places[name].boxes, {path for path, row in rows if row.width or not len(row.tags)})
        tagged = (report.places[name].tags, {path for path, row in rows if len(row.tags)})
        for file, named in (listed, tagged):
            others = [picture for picture in split.pictures if split.show(picture.name) not in named]
            if file and others:
                text = f"({len(others)} of {len(split.pictures)} images have no labels, such as "
                text += f"{split.show(others[0].name)})"
                fix = "add them to the labels, also those without an object; or move them away"
                yield Finding("image-without-label", "warning", relative(report, file), text, fix)
        for path, row in rows:
            if len(row.boxes) > MOST_OBJECTS:
                text = f"({len(row.boxes):,} objects in one image, and mslab learns at most {MOST_OBJECTS:,})"
                fix = "cut the image into smaller ones, or export the labels again: the objects of others may be in it"
                yield Finding("object-count", "error", path, text, fix)
        if not rows:
            fix = "put the images there, or correct the names in the labels"
            yield Finding("no-labels", "error", labels_file(report, name), "(no image has labels)", fix)
        elif report.places[name].boxes and not any(len(row.boxes) for row in labels.images):
            fix = "label some objects, or export the labels again"
            yield Finding("no-labels", "error", labels_file(report, name), "(no image has an object)", fix)
        elif report.places[name].boxes and (empty := sum(not len(row.boxes) for row in labels.images)):
            text = f"({empty} of {len(labels.images)} images have no object: they are learned as ground)"
            yield Finding("no-object", "info", labels_file(report, name), text, "nothing, if nothing is on them")


def nothing_of_the_task(report: LabelReport) -> Iterator[Finding]:
    """Splits of one task that have objects or tables, and nothing in them that this task could learn or measure."""
    lacks = {
        "detect": ("(every object is to be ignored: iscrowd)", lambda row: ~row.ignored),
        "keypoints": ("(no object has a key point)", lambda row: ~row.ignored & (row.points[..., 2] > 0).any(1)),
        "multilabel": ("(no image has a tag)", lambda row: row.tags),
    }
    if len(report.tasks) != 1 or report.tasks[0] not in lacks:
        return
    text, useful = lacks[report.tasks[0]]
    for name, labels in report.sets.items():
        rows = [row for row in labels.images if len(row.boxes) or len(row.tags)]
        if rows and not any(useful(row).any() for row in rows):
            yield Finding("no-labels", "error", labels_file(report, name), text, "label some, or choose another task")


def categories(report: LabelReport) -> Iterator[Finding]:
    """Splits whose classes, key points or tags are not those of the first one, and classes without objects."""
    first, *others = report.sets.items()
    for name, labels in others:
        path = labels_file(report, name)
        yield from differing(path, first, labels, "classes", labels.class_names, first[1].class_names)
        yield from differing(path, first, labels, "tags", list(labels.tags), list(first[1].tags))
        points = {category.name: category.points for category in first[1].categories}
        for category in labels.categories:
            if points.get(category.name, category.points) != category.points:
                text = f"(the key points of {category.name} are not those of {first[0]}, or in another order)"
                fix = "use one list of categories in all files"
                yield Finding("keypoint-names", "error", path, text, fix)
    kinds = {category.points: category.name for category in first[1].categories if category.points}
    if report.tasks == ("keypoints",) and len(kinds) > 1:
        one, other, *_ = kinds.values()
        text = f"({one} and {other} have different key points: one head learns the same ones for all classes)"
        fix = "give all classes one list of key points; those that an object does not have are 0, 0, 0"
        yield Finding("keypoint-names", "error", labels_file(report, first[0]), text, fix)
    for name, labels in report.sets.items():
        if labels.categories and (none := [key for key, count in report.counts[name].items() if not count]):
            text = f"({len(none)} of {len(labels.categories)} classes have no object: {', '.join(none[:6])})"
            fix = "label some, or take the class out of the list"
            yield Finding("empty-category", "warning", labels_file(report, name), text, fix)


def differing(
    path: str, first: tuple[str, LabelSet], labels: LabelSet, noun: str, own: list[str], names: list[str]
) -> Iterator[Finding]:
    """`noun`: classes or tags; `own`: of this split; `names`: of the first one."""
    fix = "use one list of categories in all files"
    if set(own) != set(names):
        lacking, more = [n for n in names if n not in own], [n for n in own if n not in names]
        words = [f"lacks {', '.join(lacking[:6])}"] * bool(lacking) + [f"has {', '.join(more[:6])} besides"] * bool(
            more
        )
        text = f"(its {noun} are not those of {first[0]}: it {' and '.join(words)})"
        yield Finding("category-list", "error", path, text, fix)
    elif own != names:
        text = (
            f"(its {noun} are in another order than in {first[0]}: mslab goes by their names, others by their numbers)"
        )
        yield Finding("category-order", "warning" if noun == "classes" else "error", path, text, fix)
    elif labels.ids != first[1].ids:
        text = (
            f"(the ids of its {noun} are not those of {first[0]}: mslab goes by their names, others by their numbers)"
        )
        yield Finding("category-order", "warning", path, text, fix)


def swapped_points(report: LabelReport) -> Iterator[Finding]:
    """Objects whose left and right points are on the other side than nearly always in their category."""
    for name, labels in report.sets.items():
        for number, category in enumerate(labels.categories):
            for left, right in mirror_pairs(category.points):
                rows = [(row.file, sides_of(row, number, left, right)) for row in labels.images]
                signs = np.concatenate([side for _, side in rows]) if rows else np.zeros(0)
                usual = np.sign(signs.sum())
                if len(signs) < PAIRS or (signs == usual).mean() < SWAPPED:
                    continue
                for file in (file for file, side in rows if (side == -usual).any()):
                    points = f"{category.points[left]} and {category.points[right]}"
                    text = f"({points} of a {category.name} are the other way round than in nearly all others)"
                    fix = "exchange them, if they are; nothing, if the object is turned"
                    yield Finding("keypoint-order", "warning", image_path(report, name, file), text, fix)


def sides_of(row: ImageLabels, label: int, left: int, right: int) -> np.ndarray:
    """For each object with both points: 1 if the right one is to the right, -1 if it is to the left."""
    points = row.points[row.classes == label]
    both = points[(points[:, left, 2] > 0) & (points[:, right, 2] > 0)] if len(points) else points
    return np.sign(both[:, right, 0] - both[:, left, 0]) if len(both) else np.zeros(0)


def constant_tags(report: LabelReport) -> Iterator[Finding]:
    for name, labels in report.sets.items():
        rows = [row.tags for row in labels.images if len(row.tags)]
        if len(rows) < 2:
            continue
        counts = np.sum(rows, axis=0, dtype=np.int64)
        for tag, count in zip(labels.tags, counts.tolist(), strict=True):
            if count in (0, len(rows)):
                text = f"({tag} is {int(count > 0)} in all {len(rows)} images: nothing can be learned or measured)"
                place = report.places[name]
                fix = "add images of the other kind, or leave the column out"
                yield Finding("tag-constant", "warning", relative(report, place.tags or place.images), text, fix)


def shared_images(report: LabelReport) -> Iterator[Finding]:
    """The same pixels twice: in two splits, or in one."""
    for group in equal_images(report):
        for number, (split, picture) in enumerate(group[1:], 1):
            other, twin = group[0]
            if any(earlier is not split for earlier, _ in group[:number]):
                text = f"(the same pixels as {other.show(twin.name)}: training and evaluation share this image)"
                fix = "remove it and its labels from one of the splits"
                yield Finding("split-leak", "error", split.show(picture.name), text, fix)
            else:
                text = f"(the same pixels as {other.show(twin.name)}: it counts twice)"
                fix = "remove one of them and its labels"
                yield Finding("duplicate", "warning", split.show(picture.name), text, fix)


RULES: list[Rule] = [
    read_problems,
    images,
    unlabelled,
    nothing_of_the_task,
    categories,
    swapped_points,
    constant_tags,
    shared_images,
]
