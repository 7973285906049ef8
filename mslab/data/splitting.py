"""`mslab data split`: one folder of classes -> train, val and test, stratified; look-alikes stay together."""

import shutil
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

from mslab.check import DatasetReport, ImageRecord
from mslab.check.content import near_pairs
from mslab.check.images import loaded_images
from mslab.data import seeding
from mslab.data.placing import beside
from mslab.errors import DatasetError


def split_dataset(
    report: DatasetReport,
    out: Path,
    val: float,
    test: float = 0.0,
    seed: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, int]]:
    """Copy the images of a checked folder to out/train, out/val and, where `test` > 0, out/test.

    `val` and `test` are shares of each class. Returns {split: {class: images}}. The same seed splits the same images
    alike. Raises DatasetError, with nothing written, where the folder has errors, is split already, or a class is too
    small; `out` appears only when it is complete.
    """
    parts = assign(report, {"val": val, "test": test} if test else {"val": val}, seed)
    files = [(part, picture.name) for part, pictures in parts.items() for picture in pictures]
    with beside(out) as partial:
        for done, (part, name) in enumerate(files, 1):
            target = partial / part / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(report.splits[""].root / name, target)
            if progress:
                progress(done, len(files))
        partial.rename(out)
    return {
        part: {name: sum(p.class_name == name for p in pictures) for name in report.class_names}
        for part, pictures in parts.items()
    }


def assign(report: DatasetReport, shares: dict[str, float], seed: int) -> dict[str, list[ImageRecord]]:
    """{split: its pictures, by name}, train first. Raises DatasetError."""
    if list(report.splits) != [""]:
        raise DatasetError(
            f"{report.root} is split already: {', '.join(report.splits)}.",
            expected="a folder with one folder of images a class",
            fix=f"one of them alone: mslab data split {report.root / 'train'}",
        )
    report.raise_errors()
    if any(not 0 < share < 1 for share in shares.values()) or sum(shares.values()) >= 1:
        raise DatasetError(
            f"Shares that cannot be: {', '.join(f'{name} {share:g}' for name, share in shares.items())}.",
            expected="shares above 0 that add up to less than 1",
            fix="--val 0.2, or --val 0.2 --test 0.2",
        )
    groups = look_alikes(report)
    wanted = {
        part: {name: max(1, round(share * len(files))) for name, files in report.splits[""].classes.items()}
        for part, share in shares.items()
    }
    order = seeding.stream("split", seed).permutation(len(groups))
    parts: dict[str, list[ImageRecord]] = {"train": [], **{part: [] for part in shares}}
    for index in sorted(order, key=lambda index: -len(groups[index])):  # large groups first: singles fill up exactly
        counts = Counter(picture.class_name for picture in groups[index])
        fits = (part for part in shares if all(wanted[part][name] >= number for name, number in counts.items()))
        part = next(fits, "train")
        parts[part] += groups[index]
        for name, number in counts.items() if part != "train" else ():
            wanted[part][name] -= number
    short = [
        f"{name} in {part}"
        for part, pictures in parts.items()
        for name in report.class_names
        if not any(picture.class_name == name for picture in pictures)
    ]
    if short:
        raise DatasetError(
            f"{report.root} cannot be split: nothing would be left for {', '.join(short[:6])}.",
            expected=f"in each class at least {len(parts)} images that do not look alike",
            fix="add images to these classes, or leave the classes out",
        )
    return {part: sorted(pictures, key=lambda picture: picture.name) for part, pictures in parts.items()}


def look_alikes(report: DatasetReport) -> list[list[ImageRecord]]:
    """Every image in one group: those that are duplicates or near-duplicates of each other share it."""
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
