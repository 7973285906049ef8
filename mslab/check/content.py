"""Rules that compare images: equal or nearly equal images, and properties that give a label away.

`--skip-check` skips these rules and no others.
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

NEAR = 3  # perceptual hashes of near-duplicates differ in at most this many of 64 bits
NEIGHBOURS = 64  # an image is compared with fewer than this many of the images that share a quarter of its hash
IMBALANCE = 5  # the largest class has this many times the images of the smallest
MIN_COUNT = 10  # images per class; with fewer, a shortcut cannot be distinguished from chance
SHORTCUT = 0.95  # balanced accuracy of recognising a class by image size or brightness alone


def equal_images(report: DatasetReport) -> list[list[tuple[Split, ImageRecord]]]:
    """Groups of two or more images with equal pixels, each in the order of splits and names."""
    first: dict[bytes, tuple[Split, ImageRecord]] = {}
    groups: dict[bytes, list[tuple[Split, ImageRecord]]] = {}
    for split, picture in loaded_images(report):
        earlier = first.setdefault(picture.same, (split, picture))
        if earlier[1] is not picture:
            groups.setdefault(picture.same, [earlier]).append((split, picture))
    return list(groups.values())


def duplicates(report: DatasetReport) -> Iterator[Finding]:
    if len({str(split.root.resolve()) for split in report.splits.values()}) < len(report.splits):
        return  # same_folder in layout reports this once
    for group in equal_images(report):
        for number, (split, picture) in enumerate(group[1:], 1):
            earlier = group[:number]
            other_label = [s.show(p.name) for s, p in earlier if p.class_name != picture.class_name]
            other_split = [(s, p) for s, p in earlier if s is not split]
            twin = [s.show(p.name) for s, p in earlier if s is split and p.class_name == picture.class_name]
            path, location = split.show(picture.name), split.root / picture.name
            if other_label:
                text = f"(the same pixels as {other_label[0]}: two labels for one image, at most one is correct)"
                yield Finding("label-conflict", "error", path, text, "leave it under its right label, remove the other")
            if other_split:
                source = other_split[-1][0]
                leaked = next(p for s, p in other_split if s is source)  # its later copies are reported as duplicates
                text = f"(the same pixels as {source.show(leaked.name)}: training and evaluation share this image)"
                move = source.root / leaked.name  # in the earlier split, so that the evaluation images do not change
                fix = report.move(source, leaked.name).replace("moves it", f"moves the copy in {source.name}")
                yield Finding("split-leak", "error", path, text, fix, None if other_label else move)
            if twin:
                text = f"(the same pixels as {twin[0]}: it counts twice)"
                yield Finding("duplicate", "warning", path, text, report.move(split, picture.name), location)


def perceptual_hash(thumbnail: bytes) -> bytes:
    """imagehash's phash of a square grey thumbnail: 8 bytes that change little if the image changes little."""
    side = math.isqrt(len(thumbnail))
    return np.packbits(imagehash.phash(Image.frombytes("L", (side, side), thumbnail)).hash).tobytes()


def near_pairs(report: DatasetReport) -> list[tuple[int, int, int]]:
    """(i, j, bits), i < j: indices into loaded_images(report) whose perceptual hashes differ in at most NEAR bits.

    Two hashes that differ in NEAR bits agree in one of NEAR + 1 parts, so only images that share a part are compared.
    If many hashes are equal, each is paired only with its neighbours, which still connects all of them.
    """
    hashes = np.frombuffer(b"".join(picture.phash for _, picture in loaded_images(report)), ">u8").astype(np.uint64)
    width = 64 // (NEAR + 1)
    pairs = [np.empty((0, 3), np.int64)]
    for part in range(NEAR + 1):
        key = (hashes >> np.uint64(part * width)) & np.uint64(2**width - 1)
        order = np.lexsort((hashes, key))
        for shift in range(1, NEIGHBOURS):
            a, b = order[:-shift], order[shift:]
            equal_part = key[a] == key[b]
            if not equal_part.any():
                break
            a, b = a[equal_part], b[equal_part]
            bits = np.unpackbits((hashes[a] ^ hashes[b]).view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1)
            near = bits <= (NEAR if shift == 1 else np.where(hashes[a] == hashes[b], -1, NEAR))
            pairs.append(np.stack([np.minimum(a, b), np.maximum(a, b), bits], axis=1)[near])
    return [(int(i), int(j), int(bits)) for i, j, bits in np.unique(np.concatenate(pairs), axis=0)]


def near_duplicates(report: DatasetReport) -> Iterator[Finding]:
    pictures = list(loaded_images(report))
    closest: dict[int, tuple[int, int]] = {}
    for i, j, bits in near_pairs(report):
        if pictures[i][1].same != pictures[j][1].same and not pictures[j][1].blank:
            closest[j] = min(closest.get(j, (64, i)), (bits, i))
    for j, (bits, i) in sorted(closest.items()):
        (first, earlier), (split, picture) = pictures[i], pictures[j]
        split_note = f", which is in {first.name}" if first is not split else ""
        text = f"(looks like {first.show(earlier.name)}{split_note}: {bits} of 64 bits of the perceptual hash differ)"
        fix = "put both into one split, as mslab data split does"
        yield Finding("near-duplicate", "info", split.show(picture.name), text, fix)


def imbalance(report: DatasetReport) -> Iterator[Finding]:
    for split in report.splits.values():
        counts = {name: len(pictures) for name, pictures in split.classes.items() if pictures}
        if len(counts) < 2:
            continue
        most, least = max(counts, key=lambda c: counts[c]), min(counts, key=lambda c: counts[c])
        if counts[most] >= IMBALANCE * counts[least]:
            fraction = counts[most] / sum(counts.values())
            text = f"({most} has {counts[most]} images, {least} has {counts[least]}: always predicting {most} is "
            fix = "add images of the small class; watch its recall"
            yield Finding("imbalance", "warning", split.show(), f"{text}{fraction:.0%} correct)", fix)


def too_few(report: DatasetReport) -> Iterator[Finding]:
    for split in report.splits.values():
        if split.name in ("train", ""):
            images = len(split.pictures)
            if report.batch_size and images < report.batch_size:
                text = f"({images} images, fewer than one batch of {report.batch_size})"
                yield Finding("too-few", "warning", split.show(), text, "lower batch_size, or add images")
            for name, pictures in split.classes.items():
                if len(pictures) == 1:
                    text = "(one image: it cannot be in training and in validation)"
                    yield Finding("too-few", "warning", f"{split.show(name)}/", text, "add images of this class")


def shortcut(report: DatasetReport) -> Iterator[Finding]:
    for split in report.splits.values():
        names = [name for name, pictures in split.classes.items() if sum(bool(p.sha256) for p in pictures) >= MIN_COUNT]
        if split.name not in ("train", "") or len(names) < 2:
            continue
        rows = [(p, index) for index, name in enumerate(names) for p in split.classes[name] if p.sha256]
        labels = np.array([index for _, index in rows])
        sizes = [(picture.width, picture.height) for picture, _ in rows]
        brightness = np.array([picture.brightness for picture, _ in rows])
        for index, name in enumerate(names):
            mine = labels == index
            accuracies = {"size": accuracy_by_value(sizes, mine), "brightness": accuracy_by_threshold(brightness, mine)}
            for property_name, accuracy in accuracies.items():
                if accuracy >= SHORTCUT:
                    text = f"(image {property_name} alone separates this class from the others with {accuracy:.0%} "
                    text += "accuracy: the network may learn that instead)"
                    fix = "take the images of every class from the same sources, with the same cropping and exposure"
                    yield Finding("shortcut", "warning", f"{split.show(name)}/", text, fix)


def accuracy_by_value(values: list[tuple[int, int]], mine: np.ndarray) -> float:
    """Balanced accuracy of predicting `mine` from the other images with the same value."""
    counts: dict[tuple[int, int], np.ndarray] = defaultdict(lambda: np.zeros(2))
    for value, is_mine in zip(values, mine, strict=True):
        counts[value][int(is_mine)] += 1
    totals = np.array([np.sum(~mine), np.sum(mine)])
    correct = np.zeros(2)
    for count in counts.values():
        for label in (0, 1):
            others = count - np.eye(2)[label]  # without the image itself
            frequencies = others / totals
            correct[label] += count[label] * (frequencies[label] > frequencies[1 - label])
    return float(np.mean(correct / totals))


def accuracy_by_threshold(values: np.ndarray, mine: np.ndarray) -> float:
    """Balanced accuracy of the best single threshold, with `mine` either below or above it."""
    ordered = mine[np.argsort(values, kind="stable")]
    below = np.concatenate([[0], np.cumsum(ordered)]) / max(1, mine.sum())  # recall of "mine below"
    others = np.concatenate([[0], np.cumsum(~ordered)]) / max(1, (~mine).sum())
    balanced = (below + 1 - others) / 2
    return float(max(balanced.max(), 1 - balanced.min()))


RULES = [duplicates, near_duplicates, imbalance, too_few, shortcut]
