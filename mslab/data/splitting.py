"""`mslab data split`: one folder of classes -> train, val and test, stratified; near-duplicates stay together."""

import shutil
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mslab.check import DatasetReport, ImageRecord
from mslab.check.content import near_pairs
from mslab.check.images import loaded_images
from mslab.data import seeding
from mslab.data.placing import staging_folder
from mslab.errors import DatasetError
from mslab.escaping import command


def split_dataset(
    report: DatasetReport,
    out: Path,
    val: float,
    test: float = 0.0,
    seed: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, int]]:
    """Copy the images of a checked folder to out/train, out/val and, if `test` > 0, out/test.

    `val` and `test` are fractions of each class. Returns {split: {class: number of images}}. Equal seeds give equal
    splits. Raises DatasetError, with nothing written, if the folder has errors, is already split, or a class is too
    small. `out` appears only when it is complete.
    """
    parts = assign(report, {"val": val, "test": test} if test else {"val": val}, seed)
    files = [(part, picture.name) for part, pictures in parts.items() for picture in pictures]
    with staging_folder(out) as partial:
        for done, (part, name) in enumerate(files, 1):
            target = partial / part / name
            target.parent.mkdir(parents=True, exist_ok=True)
            source = report.splits[""].root / name
            shutil.copyfile(source, target)
            with suppress(PermissionError):  # FAT, and many a disk of a network, have no modes
                shutil.copystat(source, target)
            if progress:
                progress(done, len(files))
        partial.rename(out)
    return {
        part: {name: sum(p.class_name == name for p in pictures) for name in report.class_names}
        for part, pictures in parts.items()
    }


def assign(report: DatasetReport, fractions: dict[str, float], seed: int) -> dict[str, list[ImageRecord]]:
    """{split: its images, sorted by name}, train first. Raises DatasetError."""
    if list(report.splits) != [""]:
        raise DatasetError(
            f"{report.root} is already split: {', '.join(report.splits)}.",
            expected="a folder with one folder of images per class",
            fix=f"split only one of them: {command('data', 'split', report.root / 'train')}",
        )
    report.raise_errors()
    if any(not 0 < fraction < 1 for fraction in fractions.values()) or sum(fractions.values()) >= 1:
        raise DatasetError(
            f"Impossible fractions: {', '.join(f'{name} {fraction:g}' for name, fraction in fractions.items())}.",
            expected="fractions above 0 that add up to less than 1",
            fix="use --val 0.2, or --val 0.2 --test 0.2",
        )
    groups = group_duplicates(report)
    remaining = {
        part: {name: max(1, round(fraction * len(files))) for name, files in report.splits[""].classes.items()}
        for part, fraction in fractions.items()
    }
    order = seeding.stream("split", seed).permutation(len(groups))
    parts: dict[str, list[ImageRecord]] = {"train": [], **{part: [] for part in fractions}}
    # large groups first: single images then fill up the exact number
    for index in sorted(order, key=lambda index: -len(groups[index])):
        counts = Counter(picture.class_name for picture in groups[index])
        fits = (part for part in fractions if all(remaining[part][name] >= number for name, number in counts.items()))
        part = next(fits, "train")
        parts[part] += groups[index]
        for name, number in counts.items() if part != "train" else ():
            remaining[part][name] -= number
    empty = [
        f"{name} in {part}"
        for part, pictures in parts.items()
        for name in report.class_names
        if not any(picture.class_name == name for picture in pictures)
    ]
    if empty:
        raise DatasetError(
            f"{report.root} cannot be split: no image would be left for {', '.join(empty[:6])}.",
            expected=f"at least {len(parts)} clearly different images in each class",
            fix="add images to these classes, or remove the classes",
        )
    return {part: sorted(pictures, key=lambda picture: picture.name) for part, pictures in parts.items()}


def group_duplicates(report: DatasetReport) -> list[list[ImageRecord]]:
    """Every image in exactly one group; duplicates and near-duplicates are in the same group."""
    pictures = [picture for _, picture in loaded_images(report)]
    leader = list(range(len(pictures)))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    first: dict[bytes, int] = {}
    pairs = [(first.setdefault(picture.same, index), index) for index, picture in enumerate(pictures)]
    for i, j in [*pairs, *((i, j) for i, j, _ in near_pairs(report))]:
        low, high = sorted((find(i), find(j)))
        leader[high] = low
    groups: dict[int, list[ImageRecord]] = defaultdict(list)
    for index, picture in enumerate(pictures):
        groups[find(index)].append(picture)
    return list(groups.values())
