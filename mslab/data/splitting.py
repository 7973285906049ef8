"""`mslab data split`: one folder of classes -> train, val and test, stratified; near-duplicates stay together."""

import logging
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mslab.check import DatasetReport, ImageRecord
from mslab.check.content import near_pairs, turn_of
from mslab.check.groups import RECORD, Grouping, groups_csv
from mslab.check.images import loaded_images
from mslab.check.records import printable
from mslab.data import seeding
from mslab.data.placing import space_of, staging_folder
from mslab.errors import DatasetError
from mslab.escaping import command

log = logging.getLogger("mslab")
Groups = list[list[ImageRecord]]
# what tools add to the name of an image that they change or copy: cat_aug_3, cat_hflip, cat_jpg.rf.<hash>, cat - Copy
CHANGES = (
    "aug augmented augmentation flip flipped hflip vflip fliplr flipud mirror mirrored rot rotate rotated rotation "
    "crop cropped bright brightness dark contrast blur blurred noise noisy gaussian hue saturation shear zoom "
    "shift resized"
)
DERIVED = re.compile(
    rf"(?:[ _.-]+(?:{'|'.join(CHANGES.split())})\d*(?:[ _.-]{{1,2}}\d+)*|\.rf\.[0-9A-Za-z]{{16,}}"
    r"|[ _-]+(?:copy|copie|kopie|copia|副本|コピー)(?: ?\(?\d+\)?)?)+$",
    re.IGNORECASE,
)
FEW = 4  # images: photo.jpg, photo (1).jpg to photo (3).jpg
MANY = 5  # images in a group that may be why a split is impossible
OFFER = "--group '(.+)_frame' keeps only those together whose names have the same part in brackets"
NUMBERED = re.compile(r" ?\(\d{1,2}\)$")  # photo (1).jpg, which browsers and Windows write


def split_dataset(
    report: DatasetReport,
    out: Path,
    val: float,
    test: float = 0.0,
    seed: int = 1,
    progress: Callable[[int, int], None] | None = None,
    grouping: Grouping | None = None,
) -> dict[str, dict[str, int]]:
    """Copy the images of a checked folder to out/train, out/val and, if `test` > 0, out/test.

    `val` and `test` are fractions of each class. Images of one group stay together, are recorded in groups.csv, and
    then images that only look alike need not be together. Returns {split: {class:
    number of images}}. Equal seeds give equal splits. Raises DatasetError, with nothing written, if the folder has
    errors, is already split, or a class is too small. `out` appears only when it is complete.
    """
    parts = assign(report, {"val": val, "test": test} if test else {"val": val}, seed, grouping)
    files = [(part, picture.name) for part, pictures in parts.items() for picture in pictures]
    needed = space_of(picture.size for pictures in parts.values() for picture in pictures)
    with staging_folder(out, needed) as partial:
        for done, (part, name) in enumerate(files, 1):
            target = partial / part / name
            target.parent.mkdir(parents=True, exist_ok=True)
            source = report.splits[""].path(name)
            shutil.copyfile(source, target)
            with suppress(PermissionError):  # FAT, and many a disk of a network, have no modes
                shutil.copystat(source, target)
            if progress:
                progress(done, len(files))
        if grouping:
            images = report.splits[""].pictures
            (partial / RECORD).write_text(groups_csv(grouping, images), encoding="utf-8")
        partial.rename(out)
    return {
        part: {name: sum(p.class_name == name for p in pictures) for name in report.class_names}
        for part, pictures in parts.items()
    }


def assign(
    report: DatasetReport, fractions: dict[str, float], seed: int, grouping: Grouping | None = None
) -> dict[str, list[ImageRecord]]:
    """{split: its images, sorted by name}, train first. Raises DatasetError."""
    refuse_split(report)
    if any(not 0 < fraction < 1 for fraction in fractions.values()) or sum(fractions.values()) >= 1:
        raise DatasetError(
            f"Impossible fractions: {', '.join(f'{name} {fraction:g}' for name, fraction in fractions.items())}.",
            expected="fractions above 0 that add up to less than 1",
            fix="use --val 0.2, or --val 0.2 --test 0.2",
        )
    groups = group_images(report, grouping)
    largest = say_groups(report, groups)
    remaining = {
        part: {name: max(1, round(fraction * len(files))) for name, files in report.splits[""].classes.items()}
        for part, fraction in fractions.items()
    }
    order = seeding.stream("split", seed).permutation(len(groups))
    placed: dict[str, Groups] = {"train": [], **{part: [] for part in fractions}}
    # large groups first: single images then fill up the exact number
    for index in sorted(order, key=lambda index: -len(groups[index])):
        counts = Counter(picture.class_name for picture in groups[index])
        fits = (part for part in fractions if all(remaining[part][name] >= number for name, number in counts.items()))
        part = next(fits, "train")
        placed[part].append(groups[index])
        for name, number in counts.items() if part != "train" else ():
            remaining[part][name] -= number
    fill_up(placed, report.class_names)
    if empty := lacking(placed, report.class_names):
        few = len(largest) < MANY and not grouping
        offer = "name smaller groups with --group" if grouping else OFFER
        raise DatasetError(
            f"{report.root} cannot be split: no image would be left for "
            f"{', '.join(f'{name} in {part}' for part, name in empty[:6])}.",
            details=[] if few else [("groups", f"{len(largest)} images stay together, such as {largest[0].name}")],
            expected=f"at least {len(placed)} {'clearly different images' if few else 'such groups'} in each class",
            fix="add images to these classes, or remove the classes" + ("" if few else f"; {offer}"),
        )
    parts = {part: [picture for group in members for picture in group] for part, members in placed.items()}
    say_shares(report, parts, fractions, "" if grouping else f"; {OFFER}")
    return {part: sorted(pictures, key=lambda picture: picture.name) for part, pictures in parts.items()}


def refuse_split(report: DatasetReport) -> None:
    """Raise DatasetError if the images are split already, or cannot be used."""
    if list(report.splits) != [""]:
        raise DatasetError(
            f"{report.root} is already split: {', '.join(report.splits)}.",
            expected="a folder with one folder of images per class",
            fix=f"split only one of them: {command('data', 'split', next(iter(report.splits.values())).root)}",
        )
    report.raise_errors()


def say_groups(report: DatasetReport, groups: Groups) -> list[ImageRecord]:
    """Log how many images stay together. Returns the largest group."""
    largest = max(groups, key=len)
    if len(largest) > 1:
        together = [len(group) for group in groups if len(group) > 1]
        names = printable(", ".join(image.name for image in largest[:3])) + " …" * (len(largest) > 3)
        text = f"{sum(together)} of {report.images} images are in {len(together)} groups that stay together"
        log.info(f"{text}; the largest has {len(largest)}: {names}")
    return largest


def fill_up(placed: dict[str, Groups], class_names: list[str]) -> None:
    """Move the smallest group of train to each split that lacks a class, while train keeps one of each class."""
    for part, name in lacking(placed, class_names):
        if part != "train":
            in_train = Counter(label for group in placed["train"] for label in classes_of(group))
            spare = [
                g for g in placed["train"] if name in classes_of(g) and all(in_train[c] > 1 for c in classes_of(g))
            ]
            if spare and (part, name) in lacking(placed, class_names):
                smallest = min(spare, key=len)
                placed["train"].remove(smallest)
                placed[part].append(smallest)


def classes_of(group: list[ImageRecord]) -> set[str]:
    return {picture.class_name for picture in group}


def lacking(placed: dict[str, Groups], class_names: list[str]) -> list[tuple[str, str]]:
    """(split, class) of those without an image."""
    found = {part: {name for group in groups for name in classes_of(group)} for part, groups in placed.items()}
    return [(part, name) for part, names in found.items() for name in class_names if name not in names]


def say_shares(
    report: DatasetReport, parts: dict[str, list[ImageRecord]], fractions: dict[str, float], offer: str
) -> None:
    """Log the reached share of each split, and the class that is farthest from it because its groups are large."""
    shares = {part: len(pictures) / report.images for part, pictures in parts.items()}
    log.info(", ".join(f"{part} has {share:.0%} of the images" for part, share in shares.items()))
    counts = {part: Counter(picture.class_name for picture in pictures) for part, pictures in parts.items()}
    misses = [
        (abs(counts[part][name] - fraction * number), part, name, number)
        for part, fraction in fractions.items()
        for name, number in report.counts[""].items()
    ]
    miss, part, name, number = max(misses)
    if miss > max(1.0, fractions[part] * number / 4):
        reached = f"{counts[part][name]} of {number} images of {printable(name)}, not {fractions[part]:.0%}"
        log.info(f"note: {part} has {reached}: large groups stay together. Another --seed may come closer{offer}")


def group_images(report: DatasetReport, grouping: Grouping | None = None) -> Groups:
    """Every image in exactly one group: copies, changed copies by their names, and images that look alike.

    With `grouping`, images that look alike are together only if they are one image, mirrored or turned.
    """
    pictures = [picture for _, picture in loaded_images(report)]
    first: dict[bytes | tuple[str, str], int] = {}
    pairs = [(first.setdefault(picture.same, index), index) for index, picture in enumerate(pictures)]
    pairs += [(i, j) for i, j, _ in near_pairs(report) if grouping is None or same_image(pictures[i], pictures[j])]
    keys = chosen_keys(pictures, grouping) if grouping else original_names(pictures)
    pairs += [(first.setdefault(key, index), index) for index, key in keys.items()]
    return connected(pictures, pairs)


def same_image(a: ImageRecord, b: ImageRecord) -> bool:
    """Whether both show one image, mirrored or turned: the check would report a leak."""
    return bool(a.grey and b.grey and turn_of(a, b))


def connected(pictures: list[ImageRecord], pairs: list[tuple[int, int]]) -> Groups:
    """Groups of the images that pairs connect, directly or through others."""
    leader = list(range(len(pictures)))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    for i, j in pairs:
        low, high = sorted((find(i), find(j)))
        leader[high] = low
    groups: dict[int, list[ImageRecord]] = defaultdict(list)
    for index, picture in enumerate(pictures):
        groups[find(index)].append(picture)
    return list(groups.values())


def chosen_keys(pictures: list[ImageRecord], grouping: Grouping) -> dict[int, tuple[str, str]]:
    """{index: its group} of the images that have one."""
    names = ((index, grouping.group_of(picture.name)) for index, picture in enumerate(pictures))
    return {index: ("", name) for index, name in names if name}


def original_names(pictures: list[ImageRecord]) -> dict[int, tuple[str, str]]:
    """{index: (class, name of the original)} of changed copies by their names, and of their originals.

    A number in brackets counts beside the image without it; names such as download (57).jpg belong to other images.
    Names that half of a class would share are no such names.
    """
    stems = [(picture.class_name, picture.name.partition("/")[2].rpartition(".")[0]) for picture in pictures]
    numbered = Counter((name, NUMBERED.sub("", stem)) for name, stem in stems)
    taken = set(stems)
    keys: dict[int, tuple[str, str]] = {}
    for index, (name, stem) in enumerate(stems):
        plain = name, NUMBERED.sub("", stem)
        key = plain if plain in taken and numbered[plain] <= FEW else (name, stem)
        keys[index] = name, DERIVED.sub("", key[1]) or key[1]
    sizes, classes = Counter(keys.values()), Counter(name for name, _ in stems)
    return {index: key for index, key in keys.items() if 1 < sizes[key] <= classes[key[0]] / 2}
