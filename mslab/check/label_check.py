"""The check of labels for detection, segmentation, key points and tags: `mslab check FOLDER --task detect`."""

import os
from collections.abc import Callable
from pathlib import Path

from mslab.check import dataset, label_rules, mask_rules
from mslab.check.label_report import LabelReport
from mslab.check.levels import Shape
from mslab.check.pool import ask
from mslab.check.records import ImageRecord, Split
from mslab.check.scan import record_of
from mslab.config import paths
from mslab.errors import DatasetError
from mslab.tasks.folders import LabelFiles, find_labels, pictures_in
from mslab.tasks.labels import LabelSet
from mslab.tasks.reading import EXPECTED, read_split

Progress = Callable[[int, int], None]
RULES = (*label_rules.RULES, *mask_rules.RULES)


def check_labels(
    root: str | Path,
    task: str | None = None,
    cache: bool = True,
    progress: Progress | None = None,
    val: str | Path | None = None,
) -> LabelReport:
    """Read the labels, load every image, apply every rule. `task`: one of TASKS; by default all that have labels.

    `val`: then `root` has the training images, and `val` those for validation. Raises DatasetError if there are no
    such labels. On Ctrl-C the KeyboardInterrupt has the incomplete report as `.report`.
    """
    root = paths.path_of(root, DatasetError, EXPECTED, lambda: "the path of that folder")
    if val is not None and root.is_absolute() != Path(val).is_absolute():  # both are shown below one folder
        root, val = (Path(os.path.abspath(folder)) for folder in (root, val))  # noqa: PTH100  (links are not resolved)
    places = find_labels(root) if val is None else {"train": place_of(root, "train"), "val": place_of(val, "val")}
    if not places:
        raise unlabelled(root)
    if val is not None and places["train"] == places["val"]:
        raise DatasetError(
            f"train_data and val_data have the same labels: {places['val'].images}.",
            expected="images for validation that are not trained on: train/ and val/, or COCO's files of both",
            fix="name the two folders, such as train_data=FOLDER/train val_data=FOLDER/val",
        )
    root = root if val is None else Path(os.path.commonpath([root, val]))
    read = {name: read_split(place.of_task(task)) for name, place in places.items()}
    tasks = tasks_of([labels for labels, _ in read.values()])
    if task and task not in tasks and not any(problems for _, problems in read.values()):
        others = ", ".join(tasks_of([read_split(place)[0] for place in places.values()])) or "none"
        what = f"{root} has no labels for {task}; it has some for: {others}."
        raise DatasetError(what, expected=EXPECTED, fix="--task with one of these, or add the labels")
    if val is not None and task == "segment" and not next(iter(read.values()))[0].categories:
        raise nameless(Path(places["train"].images).parent)
    splits = {name: split_of(name, root, place) for name, place in places.items()}
    report = LabelReport(root, splits, tasks=(task,) if task else tasks)
    report.places = {name: place.of_task(task) for name, place in places.items()}
    report.sets = {name: labels for name, (labels, _) in read.items()}
    report.problems = {name: problems for name, (_, problems) in read.items()}
    try:
        names = [picture.name for split in splits.values() for picture in split.pictures]
        dataset.load(report, cache and all(name.count("/") == 1 for name in names), progress)  # it keeps FOLDER/NAME
        load_masks(report)
    except KeyboardInterrupt as stop:
        report.complete, stop.report = False, report  # type: ignore[attr-defined]
        raise
    finally:
        for rule in RULES:
            report.findings.extend(rule(report))
    return report


def unlabelled(root: Path) -> DatasetError:
    fix = "mslab data import FOLDER --format voc, yolo or labelme brings others into this form"
    return DatasetError(f"{root} has no labels of boxes, masks, key points or tags.", expected=EXPECTED, fix=fix)


def nameless(folder: Path) -> DatasetError:
    return DatasetError(
        f"{folder} has masks, and no names of their classes.",
        expected="classes.txt, a line for each class from 1 on, beside the masks' folder or in the folder around it",
        fix=f"write the names into {folder / 'classes.txt'}",
    )


def place_of(folder: str | Path, split: str) -> LabelFiles:
    """The files of a split in a folder of its own, or in one of the complete data set. Raises DatasetError."""
    folder = paths.path_of(folder, DatasetError, EXPECTED, lambda: "the path of that folder")
    found = find_labels(folder)
    place = found.get(split) or found.get("")
    if place is None and len(found) == 1:
        place = next(iter(found.values()))
    if place is None:
        raise unlabelled(folder)
    return place


def tasks_of(sets: list[LabelSet]) -> tuple[str, ...]:
    """The tasks that some split has labels for."""
    images = [image for labels in sets for image in labels.images]
    have = {
        "detect": any(len(image.boxes) for image in images),
        "segment": any(image.mask or any(image.masks) for image in images),
        "keypoints": any(image.points[..., 2].any() for image in images),
        "multilabel": any(len(image.tags) for image in images),
    }
    return tuple(task for task, found in have.items() if found)


def split_of(name: str, root: Path, place: LabelFiles) -> Split:
    """The images of a split as records of the check."""
    folder = place.images
    home = folder.parent if folder != root else folder
    records: dict[str, list[ImageRecord]] = {}
    for picture in pictures_in(folder):
        record = record_of((folder / picture).relative_to(home).as_posix(), os.lstat(folder / picture))
        record.label = "image"
        records.setdefault(record.folder, []).append(record)
    return Split(name, home, dataset.prefix_of(home, root), records, shape=Shape())


def load_masks(report: LabelReport) -> None:
    for name, labels in report.sets.items():
        folder = report.places[name].masks
        masks = [image.mask for image in labels.images if image.mask]
        if folder:
            answers = ask("mask", [folder / mask for mask in masks])
            report.masks[name] = {masks[index]: answer for index, answer in answers}
