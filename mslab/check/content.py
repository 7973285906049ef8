"""Rules that compare images with each other: equal and nearly equal ones, and labels that something else gives away.

`--skip-check` leaves these out, and only these.
"""

import math
from collections import defaultdict
from collections.abc import Iterator

import imagehash
import numpy as np
from PIL import Image

from mslab.check.images import loaded_images
from mslab.check.records import Finding, ImageRecord, Split
from mslab.check.report import DatasetReport

NEAR = 3  # bits of 64 in which the perceptual hashes of near-duplicates may differ
CROWD = 64  # images that share a quarter of the hash: of more, each is compared with so many neighbours
UNEVEN = 5  # times as many images in the largest class as in the smallest
ENOUGH = 10  # images a class from which on a shortcut can be told from chance
GIVEN_AWAY = 0.95  # balanced accuracy of telling a class by its images' size or brightness alone


def equal_images(report: DatasetReport) -> list[list[tuple[Split, ImageRecord]]]:
    """Groups of images with equal pixels, two and more, each in the order of splits and names."""
    first: dict[bytes, tuple[Split, ImageRecord]] = {}
    groups: dict[bytes, list[tuple[Split, ImageRecord]]] = {}
    for split, picture in loaded_images(report):
        earlier = first.setdefault(picture.same, (split, picture))
        if earlier[1] is not picture:
            groups.setdefault(picture.same, [earlier]).append((split, picture))
    return list(groups.values())


def duplicates(report: DatasetReport) -> Iterator[Finding]:
    if len({str(split.root.resolve()) for split in report.splits.values()}) < len(report.splits):
        return  # the same folder twice is one finding already
    for group in equal_images(report):
        for number, (split, picture) in enumerate(group[1:], 1):
            earlier = group[:number]
            other_label = [s.show(p.name) for s, p in earlier if p.class_name != picture.class_name]
            other_split = [(s, p) for s, p in earlier if s is not split]
            twin = [s.show(p.name) for s, p in earlier if s is split and p.class_name == picture.class_name]
            path, place = split.show(picture.name), split.root / picture.name
            if other_label:
                text = f"(the same pixels as {other_label[0]}: two labels for one image, at most one is right)"
                yield Finding("label-conflict", "error", path, text, "keep it under its right label, remove the other")
            if other_split:
                source = other_split[-1][0]
                leaked = next(p for s, p in other_split if s is source)  # its later copies are duplicates by themselves
                text = f"(the same pixels as {source.show(leaked.name)}: measured on what it was trained on)"
                move = source.root / leaked.name  # the earlier split gives way: what is measured on stays as it is
                fix = report.move(source).replace("moves it", f"moves the copy in {source.name}")
                yield Finding("split-leak", "error", path, text, fix, None if other_label else move)
            if twin:
                text = f"(the same pixels as {twin[0]}: it counts twice)"
                yield Finding("duplicate", "warning", path, text, report.move(split), place)


def perceptual_hash(thumbnail: bytes) -> bytes:
    """8 bytes that change little where the image changes little (imagehash's phash), of a square grey thumbnail."""
    side = math.isqrt(len(thumbnail))
    return np.packbits(imagehash.phash(Image.frombytes("L", (side, side), thumbnail)).hash).tobytes()


def near_pairs(report: DatasetReport) -> list[tuple[int, int, int]]:
    """(i, j, bits), i < j: images of loaded_images(report) whose perceptual hashes differ in at most NEAR bits.

    Two hashes that differ in NEAR bits agree in one of NEAR + 1 parts of them, so only images that share a part are
    compared. Of many equal hashes each is paired with its neighbours only, which still chains them together.
    """
    hashes = np.frombuffer(b"".join(picture.phash for _, picture in loaded_images(report)), ">u8").astype(np.uint64)
    width = 64 // (NEAR + 1)
    found = [np.empty((0, 3), np.int64)]
    for part in range(NEAR + 1):
        key = (hashes >> np.uint64(part * width)) & np.uint64(2**width - 1)
        order = np.lexsort((hashes, key))
        for shift in range(1, CROWD):
            a, b = order[:-shift], order[shift:]
            together = key[a] == key[b]
            if not together.any():
                break
            a, b = a[together], b[together]
            bits = np.unpackbits((hashes[a] ^ hashes[b]).view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1)
            near = bits <= (NEAR if shift == 1 else np.where(hashes[a] == hashes[b], -1, NEAR))
            found.append(np.stack([np.minimum(a, b), np.maximum(a, b), bits], axis=1)[near])
    return [(int(i), int(j), int(bits)) for i, j, bits in np.unique(np.concatenate(found), axis=0)]


def near_duplicates(report: DatasetReport) -> Iterator[Finding]:
    pictures = list(loaded_images(report))
    closest: dict[int, tuple[int, int]] = {}
    for i, j, bits in near_pairs(report):
        if pictures[i][1].same != pictures[j][1].same and not pictures[j][1].blank:
            closest[j] = min(closest.get(j, (64, i)), (bits, i))
    for j, (bits, i) in sorted(closest.items()):
        (first, earlier), (split, picture) = pictures[i], pictures[j]
        where = f", which is in {first.name}" if first is not split else ""
        text = f"(looks like {first.show(earlier.name)}{where}: {bits} of 64 bits of the perceptual hash differ)"
        fix = "keep both in one split; mslab data split does"
        yield Finding("near-duplicate", "info", split.show(picture.name), text, fix)


def imbalance(report: DatasetReport) -> Iterator[Finding]:
    for split in report.splits.values():
        counts = {name: len(pictures) for name, pictures in split.classes.items() if pictures}
        if len(counts) < 2:
            continue
        most, least = max(counts, key=lambda c: counts[c]), min(counts, key=lambda c: counts[c])
        if counts[most] >= UNEVEN * counts[least]:
            share = counts[most] / sum(counts.values())
            text = f"({most} has {counts[most]} images, {least} has {counts[least]}: always saying {most} is "
            fix = "more images of the small class; judge by its recall"
            yield Finding("imbalance", "warning", split.show(), f"{text}{share:.0%} right)", fix)


def too_few(report: DatasetReport) -> Iterator[Finding]:
    for split in report.splits.values():
        if split.name in ("train", ""):
            images = len(split.pictures)
            if report.batch_size and images < report.batch_size:
                text = f"({images} images, fewer than one batch of {report.batch_size})"
                yield Finding("too-few", "warning", split.show(), text, "a smaller batch_size, or more images")
            for name, pictures in split.classes.items():
                if len(pictures) == 1:
                    text = "(one image: it cannot be in training and in validation)"
                    yield Finding("too-few", "warning", f"{split.show(name)}/", text, "more images of this class")


def shortcut(report: DatasetReport) -> Iterator[Finding]:
    for split in report.splits.values():
        names = [name for name, pictures in split.classes.items() if sum(bool(p.sha256) for p in pictures) >= ENOUGH]
        if split.name not in ("train", "") or len(names) < 2:
            continue
        rows = [(p, index) for index, name in enumerate(names) for p in split.classes[name] if p.sha256]
        labels = np.array([index for _, index in rows])
        sizes = [(picture.width, picture.height) for picture, _ in rows]
        brightness = np.array([picture.brightness for picture, _ in rows])
        for index, name in enumerate(names):
            mine = labels == index
            told = {"size": told_by_value(sizes, mine), "brightness": told_by_level(brightness, mine)}
            for what, accuracy in told.items():
                if accuracy >= GIVEN_AWAY:
                    text = f"(the {what} of an image alone tells this class from the others, {accuracy:.0%} right: the "
                    text += "network may learn that instead)"
                    fix = "images of every class from the same sources, cut and exposed alike"
                    yield Finding("shortcut", "warning", f"{split.show(name)}/", text, fix)


def told_by_value(values: list[tuple[int, int]], mine: np.ndarray) -> float:
    """Balanced accuracy of guessing `mine` from the other images that have the same value."""
    counts: dict[tuple[int, int], np.ndarray] = defaultdict(lambda: np.zeros(2))
    for value, is_mine in zip(values, mine, strict=True):
        counts[value][int(is_mine)] += 1
    shares = np.array([np.sum(~mine), np.sum(mine)])
    right = np.zeros(2)
    for counted in counts.values():
        for label in (0, 1):
            others = counted - np.eye(2)[label]  # without the image itself
            weighed = others / shares
            right[label] += counted[label] * (weighed[label] > weighed[1 - label])
    return float(np.mean(right / shares))


def told_by_level(values: np.ndarray, mine: np.ndarray) -> float:
    """Balanced accuracy of the best single threshold: below or above it is `mine`."""
    ordered = mine[np.argsort(values, kind="stable")]
    below = np.concatenate([[0], np.cumsum(ordered)]) / max(1, mine.sum())  # recall of "mine below"
    others = np.concatenate([[0], np.cumsum(~ordered)]) / max(1, (~mine).sum())
    balanced = (below + 1 - others) / 2
    return float(max(balanced.max(), 1 - balanced.min()))


RULES = [duplicates, near_duplicates, imbalance, too_few, shortcut]
