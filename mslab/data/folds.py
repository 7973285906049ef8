"""`mslab data split --folds`: tables of images for cross-validation. No image is copied.

OUT/fold1/train.csv and val.csv, …: each image is in val.csv of one fold and in train.csv of the others.
"""

import csv
import io
import os
from collections import Counter
from pathlib import Path

import numpy as np

from mslab.check import DatasetReport, ImageRecord
from mslab.check.groups import COLUMN, Grouping
from mslab.check.records import printable
from mslab.data.placing import staging_folder
from mslab.data.splitting import group_images, refuse_split, say_groups
from mslab.errors import DatasetError
from mslab.runtime.packages import scikit_learn


def fold_dataset(
    report: DatasetReport, out: Path, count: int, seed: int = 1, grouping: Grouping | None = None
) -> list[dict[str, int]]:
    """Write the tables of `count` folds to `out`, stratified; groups and images that look alike stay in one fold.

    Returns {class: number of validation images} of each fold. Raises DatasetError, with nothing written, if a fold
    would lack a class.
    """
    refuse_split(report)
    groups = group_images(report, grouping)
    say_groups(report, groups)
    images = [image for group in groups for image in group]
    owners = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    refuse_few(report, images, owners, count)
    numbers = assign_folds([image.class_name for image in images], owners, count, seed)
    classes = [Counter(images[i].class_name for i in np.flatnonzero(numbers == fold)) for fold in range(count)]
    names = report.class_names
    if missing := [f"{name} in fold {f + 1}" for f, own in enumerate(classes) for name in names if not own[name]]:
        raise impossible(report, f"no image would be left for {', '.join(missing[:6])}", count)
    with staging_folder(out) as partial:
        partial.mkdir()
        for fold in range(count):
            folder = partial / f"fold{fold + 1}"
            folder.mkdir()
            for name, chosen in (("train", numbers != fold), ("val", numbers == fold)):
                rows = sorted((images[i] for i in np.flatnonzero(chosen)), key=lambda image: image.name)
                text = table_of(report, rows, out / folder.name, grouping)
                (folder / f"{name}.csv").write_text(text, encoding="utf-8", newline="")
        partial.rename(out)
    return [{name: own[name] for name in names} for own in classes]


def assign_folds(labels: list[str], groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The fold of each image, int (n,), from 0 on: scikit-learn's StratifiedGroupKFold."""
    with scikit_learn():
        from sklearn.model_selection import StratifiedGroupKFold
    folds = StratifiedGroupKFold(count, shuffle=True, random_state=seed % 2**32)
    numbers = np.zeros(len(labels), int)
    for fold, (_, val) in enumerate(folds.split(np.zeros(len(labels)), labels, groups)):
        numbers[val] = fold
    return numbers


def refuse_few(report: DatasetReport, images: list[ImageRecord], owners: np.ndarray, count: int) -> None:
    """Raise DatasetError if a class has fewer groups than there are folds."""
    sets = Counter(name for name, _ in {(image.class_name, owner) for image, owner in zip(images, owners, strict=True)})
    if few := [f"{printable(name)} has {sets[name]}" for name in report.class_names if sets[name] < count]:
        raise impossible(report, f"fewer than {count} images or groups that may be apart: {', '.join(few[:6])}", count)


def impossible(report: DatasetReport, reason: str, count: int) -> DatasetError:
    return DatasetError(
        f"{report.root} cannot be divided into {count} folds: {reason}.",
        expected="images of each class in each fold, with every group in one of them",
        fix="use fewer --folds, add images of these classes, or name smaller groups with --group",
    )


def table_of(report: DatasetReport, rows: list[ImageRecord], folder: Path, grouping: Grouping | None) -> str:
    """The table of these images, with paths from `folder` on. Raises DatasetError for a name that is no text."""
    split, text = report.splits[""], io.StringIO(newline="")
    write = csv.writer(text, lineterminator="\n").writerow
    write(["image", "label", *[COLUMN] * bool(grouping)])
    for image in rows:
        path = Path(os.path.relpath(split.path(image.name), folder)).as_posix()
        if printable(path) != path or "\\" in path:
            raise DatasetError(
                f"{report.root} has an image whose name no table can hold: {printable(path)}.",
                expected="names in UTF-8, without a backslash",
                fix="rename it",
            )
        write([path, image.class_name, *([grouping.group_of(image.name)] if grouping else [])])
    return text.getvalue()
