"""Which images are others than those a run was trained on: whole class folders first, then files, by name."""

import csv
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from mslab.check import DatasetReport
from mslab.errors import RunError
from mslab.runs import manifest

Images = dict[str, dict[str, dict[str, str]]]  # {split: {class: {file: sha256}}}
Counts = dict[str, dict[str, int]]
PER_CLASS = 3  # files of one class that are named
MOST = 12  # lines


def recorded(run: Path) -> Images | None:
    """What images.csv says, None where a run is older than it. Raises RunError where it is damaged."""
    file = run / "images.csv"
    if not file.is_file():
        return None
    try:
        with file.open(newline="", encoding="utf-8") as rows:
            return by_class((row["split"], row["image"], row["sha256"]) for row in csv.DictReader(rows))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise RunError(
            f"{file} cannot be read: {repr(error)[:200]}.",
            expected="the columns split, image, sha256, as mslab wrote them",
            fix="restore the file",
        ) from None


def present(report: DatasetReport) -> Images:
    return by_class(manifest.image_rows(report))


def by_class(rows: Iterable[tuple[str, str, str]]) -> Images:
    images: Images = {}
    for split, image, sha256 in rows:
        class_name, _, name = image.partition("/")
        images.setdefault(split, {}).setdefault(class_name, {})[name] = sha256
    return images


def differences(then: Images, now: Images) -> list[str]:
    """A line for each class folder that is gone, new, renamed or wholly other, then for files; at last a count."""
    lines: list[str] = []
    for split in dict.fromkeys([*then, *now]):
        lines += split_differences(split, then.get(split, {}), now.get(split, {}))
    return shortened(lines) or ["no image is another: the same ones, packed now or then, or packed in another way"]


def split_differences(split: str, then: dict[str, dict[str, str]], now: dict[str, dict[str, str]]) -> list[str]:
    gone, new = [name for name in then if name not in now], [name for name in now if name not in then]
    lines = []
    for name in list(gone):
        if other := next((other for other in new if now[other] == then[name]), None):
            lines.append(f"{split}/{name}/ is called {split}/{other}/ now: the same {images_text(len(then[name]))}")
            gone.remove(name)
            new.remove(other)
    lines += [f"{split}/{name}/ is missing: a class folder of {images_text(len(then[name]))}" for name in gone]
    lines += [f"{split}/{name}/ is new: a class folder of {images_text(len(now[name]))}" for name in new]
    both = [name for name in then if name in now]
    whole = [name for name in both if not set(then[name].values()) & set(now[name].values()) and any(then[name])]
    for name in whole:
        count = images_text(len(then[name]))
        lines.append(f"{split}/{name}/ is another: none of its {count} is there, {len(now[name])} others")
    return lines + file_differences(split, {n: then[n] for n in both}, {n: now[n] for n in both}, set(whole))


def file_differences(
    split: str, then: dict[str, dict[str, str]], now: dict[str, dict[str, str]], told: set[str]
) -> list[str]:
    """Files of the classes that are on both sides: changed, moved or renamed, missing, new."""
    pairs = [(name, file) for name in then if name not in told for file in then[name] if file not in now[name]]
    fresh = [(name, file) for name in now if name not in told for file in now[name] if file not in then[name]]
    places: dict[str, list[tuple[str, str]]] = {}
    for name, file in fresh:
        places.setdefault(now[name][file], []).append((name, file))
    moved = {pair: places[digest].pop() for pair in pairs if places.get(digest := then[pair[0]][pair[1]])}
    lines = []
    for name in then:
        if name in told:
            continue
        same = [file for file in then[name] if file in now[name]]
        rows = [f"{file} has another content" for file in same if then[name][file] != now[name][file]]
        for file in then[name]:
            if (name, file) in moved:
                rows.append(f"{file} is {split}/{'/'.join(moved[name, file])} now")
            elif file not in now[name]:
                rows.append(f"{file} is missing")
        arrived = set(moved.values())
        rows += [f"{file} is new" for file in now[name] if file not in then[name] and (name, file) not in arrived]
        lines += [f"{split}/{name}/{row}" for row in rows[:PER_CLASS]]
        lines += [f"{split}/{name}/ … and {len(rows) - PER_CLASS} more"] * (len(rows) > PER_CLASS)
    return lines


def counted_differences(then: Counts, now: Counts) -> list[str]:
    """What numbers of images alone tell, for runs that are older than images.csv."""
    lines = ["there is no images.csv, so single images cannot be compared: the run is older, or it was taken away"]
    for split in dict.fromkeys([*then, *now]):
        before, after = Counter(then.get(split, {})), Counter(now.get(split, {}))
        for name in dict.fromkeys([*before, *after]):
            if before[name] != after[name]:
                lines.append(f"{split}/{name}/ has {images_text(after[name])} now, {before[name]} then")
    return shortened(lines if len(lines) > 1 else [*lines, "there are as many of each class as then"])


def shortened(lines: list[str]) -> list[str]:
    return lines if len(lines) <= MOST else [*lines[: MOST - 1], f"… and {len(lines) - MOST + 1} lines more"]


def images_text(number: int) -> str:
    return "1 image" if number == 1 else f"{number} images"
