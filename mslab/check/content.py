"""Rules that compare images: equal or nearly equal images, and properties that give a label away.

`--skip-check` skips these rules and no others.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from mslab.check.images import loaded_images
from mslab.check.records import Finding, ImageRecord, Split
from mslab.check.report import DatasetReport
from mslab.check.worker import THUMBNAIL

NEAR = 3  # perceptual hashes of near-duplicates differ in at most this many of 64 bits
UNSURE = 0.2  # frequencies this much smaller than the others, on average, are taken for zero
ALIKE = 0.05  # mean difference of thumbnails of 16x16 pixels, in standard deviations: below, they show one image
SYMMETRIC = 0.2  # the same, between an image and its own mirror image or turn: below, mirroring proves no copy
SHIFTS = 2  # pixels of 16: a symmetric thing in the picture need not be in its middle
NEIGHBOURS = 64  # an image is compared with fewer than this many of the images that share a quarter of its hash
IMBALANCE = 5  # the largest class has this many times the images of the smallest
MIN_COUNT = 10  # images per class; with fewer, a shortcut cannot be distinguished from chance
# how systems and programs call a copy: cat (1).jpg, cat - Copy (2).jpg, cat copy 3.jpg, Copy of cat.jpg
COPIES = "copy|kopie|copie|copia|cópia|копия|副本|拷贝|コピー|사본|복사본"
COPY = re.compile(
    rf".*(-checkpoint\d*| ?\(\d+\)|[ _-]+\(?({COPIES})\)?( ?\(?\d+\)?)?)|({COPIES})( \(\d+\))? (of|de|von|di) .*",
    re.IGNORECASE | re.DOTALL,
)
SHORTCUT = 0.95  # balanced accuracy of recognising a class by image size or brightness alone


def equal_images(report: DatasetReport) -> list[list[tuple[Split, ImageRecord]]]:
    """Groups of two or more images with equal pixels, each in the order of splits and names.

    In a class, those that are named like a copy are last: they are the ones that go.
    """
    first: dict[bytes, tuple[Split, ImageRecord]] = {}
    groups: dict[bytes, list[tuple[Split, ImageRecord]]] = {}
    for split, picture in loaded_images(report):
        earlier = first.setdefault(picture.same, (split, picture))
        if earlier[1] is not picture:
            groups.setdefault(picture.same, [earlier]).append((split, picture))
    order = {id(split): number for number, split in enumerate(report.splits.values())}
    for group in groups.values():
        group.sort(key=lambda row: (order[id(row[0])], row[1].class_name, is_copy(row[1].name)))
    return list(groups.values())


def is_copy(name: str) -> bool:
    """Whether a file's name says that it is a copy of another one."""
    stem = name.rpartition("/")[2]
    return COPY.fullmatch(stem.rpartition(".")[0] or stem) is not None


def duplicates(report: DatasetReport) -> Iterator[Finding]:
    if len({str(split.root.resolve()) for split in report.splits.values()}) < len(report.splits):
        return  # same_folder in layout reports this once
    for group in equal_images(report):
        for number, (split, picture) in enumerate(group[1:], 1):
            earlier = group[:number]
            other_label = [s.show(p.name) for s, p in earlier if p.class_name != picture.class_name]
            other_split = [(s, p) for s, p in earlier if s is not split]
            twin = [s.show(p.name) for s, p in earlier if s is split and p.class_name == picture.class_name]
            path, location = split.show(picture.name), split.path(picture.name)
            if other_label:
                text = f"(the same pixels as {other_label[0]}: two labels for one image, at most one is correct)"
                yield Finding("label-conflict", "error", path, text, "leave it under its right label, remove the other")
            if other_split:
                source = other_split[-1][0]
                leaked = next(p for s, p in other_split if s is source)  # its later copies are reported as duplicates
                text = f"(the same pixels as {source.show(leaked.name)}: training and evaluation share this image)"
                move = source.path(leaked.name)  # in the earlier split, so that the evaluation images do not change
                fix = report.move(source, leaked.name).replace("moves it", f"moves the copy in {source.name}")
                yield Finding("split-leak", "error", path, text, fix, None if other_label else move)
            if twin:
                text = f"(the same pixels as {twin[0]}: it counts twice)"
                yield Finding("duplicate", "warning", path, text, report.move(split, picture.name), location)


COSINES = np.cos(np.pi / (2 * THUMBNAIL) * np.outer(np.arange(8), 2 * np.arange(THUMBNAIL) + 1))
SIGNS = (-1.0) ** np.arange(8)  # of the cosines, if the image is mirrored
TURNS: tuple[str, ...] = ("", "mirrored", "upside down and mirrored", "turned by 180°")
TURNS += ("turned by 90° and mirrored", "turned by 90°", "turned by 270°", "turned by 270° and mirrored")


def perceptual_hash(thumbnail: bytes) -> bytes:
    """The pHash of a square grey thumbnail, then that of the same image in its standard position: 8 bytes each.

    64 bits say which of the 64 lowest frequencies (DCT-II) are above their median, as in the library imagehash; they
    change little if the image changes little. Mirroring changes signs of frequencies, and turning also exchanges the
    axes. In the standard position the first wave across and the first wave down are positive, and the first is the
    stronger one. Where a change too small to see would decide otherwise, the hashes of all such positions follow.
    """
    pixels = np.frombuffer(thumbnail, np.uint8).reshape(THUMBNAIL, THUMBNAIL)
    low = np.round(COSINES @ pixels @ COSINES.T, 6)  # what is zero is not left to rounding
    upright = np.stack([low, low * SIGNS, low * SIGNS[:, None], low * SIGNS * SIGNS[:, None]])
    frequencies = np.concatenate([upright, upright.transpose(0, 2, 1)])
    across, down = frequencies[:, 0, 1], frequencies[:, 1, 0]
    unsure = UNSURE * np.sqrt(np.mean(low.ravel()[1:] ** 2))
    standard = (across >= -unsure) & (down >= -unsure) & (np.abs(across) >= np.abs(down) - unsure)
    rows = np.concatenate([frequencies[:1], frequencies[standard]]).reshape(-1, 64)
    return np.packbits(rows > np.median(rows, axis=1, keepdims=True), axis=1).tobytes()


def near_pairs(report: DatasetReport) -> list[tuple[int, int, int]]:
    """(i, j, bits), i < j: indices into loaded_images(report) of images that look alike, also mirrored or turned.

    Their perceptual hashes differ in at most NEAR bits. For mirrored and turned copies, hashes alone would also find
    other silhouettes: their thumbnails are compared, too.
    """
    pictures = [picture for _, picture in loaded_images(report)]
    closest = {(i, j): bits for i, j, bits in _closest(upright_hashes(pictures), np.arange(len(pictures)))}
    known = [index for index, picture in enumerate(pictures) if picture.grey]
    for i, j, bits in _closest(*standard_hashes([pictures[index] for index in known])):
        pair = known[i], known[j]
        if pair not in closest and turn_of(pictures[pair[0]], pictures[pair[1]]) is not None:
            closest[pair] = bits
    return [(i, j, bits) for (i, j), bits in sorted(closest.items())]


def maybe_turned(report: DatasetReport) -> list[int]:
    """Indices into loaded_images(report) of images that may be mirrored or turned copies, by their hashes."""
    pictures = [picture for _, picture in loaded_images(report)]
    upright = upright_hashes(pictures)
    found = np.array([(i, j) for i, j, _ in _closest(*standard_hashes(pictures))], np.int64).reshape(-1, 2)
    turned = differing_bits(upright[found[:, 0]], upright[found[:, 1]]) > NEAR
    return np.unique(found[turned]).tolist()


def upright_hashes(pictures: list[ImageRecord]) -> np.ndarray:
    return np.frombuffer(b"".join(picture.phash[:8] for picture in pictures), ">u8").astype(np.uint64)


def standard_hashes(pictures: list[ImageRecord]) -> tuple[np.ndarray, np.ndarray]:
    """(hashes in the standard positions, the index of each one's picture)."""
    hashes = np.frombuffer(b"".join(picture.phash[8:] for picture in pictures), ">u8").astype(np.uint64)
    return hashes, np.repeat(np.arange(len(pictures)), [len(picture.phash) // 8 - 1 for picture in pictures])


def differing_bits(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.unpackbits((a ^ b).view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1)


def _closest(hashes: np.ndarray, owners: np.ndarray) -> list[tuple[int, int, int]]:
    """(i, j, bits), i < j: owners of hashes that differ in at most NEAR bits, with the fewest bits of each pair.

    Such hashes agree in one of NEAR + 1 parts, so only hashes that share a part are compared. If many hashes are equal,
    each is paired only with the first one and with its neighbour.
    """
    width = 64 // (NEAR + 1)
    pairs = [np.empty((0, 3), np.int64)]

    def compare(a: np.ndarray, b: np.ndarray) -> None:
        bits, i, j = differing_bits(hashes[a], hashes[b]), owners[a], owners[b]
        pairs.append(np.stack([np.minimum(i, j), np.maximum(i, j), bits], axis=1)[(bits <= NEAR) & (i != j)])

    for part in range(NEAR + 1):
        key = (hashes >> np.uint64(part * width)) & np.uint64(2**width - 1)
        order = np.lexsort((hashes, key))
        ordered = hashes[order]
        new = np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(order)]
        compare(order[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))], order)
        for shift in range(1, NEIGHBOURS):
            a, b = order[:-shift], order[shift:]
            equal_part = key[a] == key[b]
            if not equal_part.any():
                break
            a, b = a[equal_part], b[equal_part]
            other = (hashes[a] != hashes[b]) | (shift == 1)
            compare(a[other], b[other])
    found = np.concatenate(pairs)
    found = found[np.lexsort((found[:, 2], found[:, 1], found[:, 0]))]
    _, first = np.unique(found[:, :2], axis=0, return_index=True)
    return [(int(i), int(j), int(bits)) for i, j, bits in found[first]]


def turn_of(a: ImageRecord, b: ImageRecord) -> int | None:
    """Index into TURNS of the turn that makes the thumbnail of `a` look like that of `b`, or None."""
    differences = [float(np.abs(turned - normal(b.grey)).mean()) for turned in turns(normal(a.grey))]
    best = int(np.argmin(differences))
    return best if differences[best] <= ALIKE else None


def turns(square: np.ndarray) -> list[np.ndarray]:
    upright = [square, square[:, ::-1], square[::-1], square[::-1, ::-1]]
    return [*upright, *(turned.T for turned in upright)]


def is_symmetric(picture: ImageRecord) -> bool:
    """Whether the image nearly equals one of its turns, also moved a little: a printed 0, an arrow, a disc."""
    square = normal(picture.grey)
    side, steps = len(square), range(-SHIFTS, SHIFTS + 1)

    def difference(turned: np.ndarray, down: int, across: int) -> float:
        rows, columns = slice(max(0, down), side + min(0, down)), slice(max(0, across), side + min(0, across))
        moved = turned[max(0, -down) : side + min(0, -down), max(0, -across) : side + min(0, -across)]
        return float(np.abs(square[rows, columns] - moved).mean())

    return any(difference(t, *by) <= SYMMETRIC for t in turns(square)[1:] for by in itertools.product(steps, steps))


def small_grey(thumbnail: bytes) -> bytes:
    """16x16 pixels of the 32x32: JPEG's noise disappears."""
    half = THUMBNAIL // 2
    pixels = np.frombuffer(thumbnail, np.uint8).reshape(half, 2, half, 2).mean(axis=(1, 3))
    return pixels.round().astype(np.uint8).tobytes()


def normal(grey: bytes) -> np.ndarray:
    """The pixels without brightness and contrast."""
    pixels = np.frombuffer(grey, np.uint8).reshape(THUMBNAIL // 2, THUMBNAIL // 2).astype(float)
    return (pixels - pixels.mean()) / max(float(pixels.std()), 8.0)


def near_duplicates(report: DatasetReport) -> Iterator[Finding]:
    pictures = list(loaded_images(report))
    hashes = upright_hashes([picture for _, picture in pictures])
    closest: dict[int, tuple[int, int]] = {}
    leaks: dict[int, int] = {}
    for i, j, bits in near_pairs(report):
        (first, earlier), (split, picture) = pictures[i], pictures[j]
        if earlier.same == picture.same or picture.blank:
            continue
        closest[j] = min(closest.get(j, (64, i)), (bits, i))
        upright = differing_bits(hashes[[i]], hashes[[j]])[0] <= NEAR
        if upright or earlier.class_name != picture.class_name or first.root == split.root:
            continue  # of another class it may be another sign
        if not (is_symmetric(earlier) or is_symmetric(picture)):
            leaks.setdefault(j, i)  # no camera takes mirrored images
    for j, (bits, i) in sorted(closest.items()):
        i = leaks.get(j, i)
        (first, earlier), (split, picture) = pictures[i], pictures[j]
        turn = turn_of(earlier, picture) if earlier.grey and picture.grey else None
        turned = f", {TURNS[turn]}" if turn else ""
        path, name = split.show(picture.name), first.show(earlier.name)
        if j in leaks:
            text = f"(the same image as {name}{turned}: training and evaluation share it)"
            fix = report.move(first, earlier.name).replace("moves it", f"moves the copy in {first.name}")
            yield Finding("split-leak", "error", path, text, fix, first.path(earlier.name))
            continue
        split_note = f", which is in {first.name}" if first is not split else ""
        text = f"(looks like {name}{split_note}{turned}: {bits} of 64 bits of the perceptual hash differ)"
        fix = "put both into one split, as mslab data split does"
        yield Finding("near-duplicate", "info", path, text, fix)


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
