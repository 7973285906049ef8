"""Compare the images of a run with those of today: complete class folders first, then single files, by name."""

import csv
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from mslab.check import DatasetReport
from mslab.errors import RunError
from mslab.files import read_lines
from mslab.runs import manifest

Images = dict[str, dict[str, dict[str, str]]]  # {split: {class: {file: sha256}}}
Counts = dict[str, dict[str, int]]
PER_CLASS = 3  # files listed per class
MAX_LINES = 12


def recorded(run: Path) -> Images | None:
    """Read images.csv. Returns None for older runs, which have no such file. Raises RunError if it is damaged."""
    file = run / "images.csv"
    if not file.is_file():
        return None
    try:
        rows = csv.DictReader(read_lines(file))
        return by_class((row["split"], row["image"], row["sha256"]) for row in rows)
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
    """List missing, new, renamed and replaced class folders, then files, then the number of lines left out."""
    lines: list[str] = []
    for split in dict.fromkeys([*then, *now]):
        lines += split_differences(split, then.get(split, {}), now.get(split, {}))
    return shorten(lines) or ["no image differs: the same images, but packed before or now, or packed differently"]


def split_differences(split: str, then: dict[str, dict[str, str]], now: dict[str, dict[str, str]]) -> list[str]:
    missing, new = [name for name in then if name not in now], [name for name in now if name not in then]
    lines = []
    for name in list(missing):
        if renamed := next((candidate for candidate in new if now[candidate] == then[name]), None):
            lines.append(f"{split}/{name}/ is now called {split}/{renamed}/: the same {images_text(len(then[name]))}")
            missing.remove(name)
            new.remove(renamed)
    lines += [f"{split}/{name}/ is missing: a class folder of {images_text(len(then[name]))}" for name in missing]
    lines += [f"{split}/{name}/ is new: a class folder of {images_text(len(now[name]))}" for name in new]
    both = [name for name in then if name in now]
    replaced = [name for name in both if not set(then[name].values()) & set(now[name].values()) and any(then[name])]
    for name in replaced:
        count = images_text(len(then[name]))
        lines.append(f"{split}/{name}/ was replaced: none of its {count} is there, but {len(now[name])} other images")
    return lines + file_differences(split, {n: then[n] for n in both}, {n: now[n] for n in both}, set(replaced))


def file_differences(
    split: str, then: dict[str, dict[str, str]], now: dict[str, dict[str, str]], replaced: set[str]
) -> list[str]:
    """List changed, moved or renamed, missing and new files of the classes in both data sets, except `replaced`."""
    missing = [(name, file) for name in then if name not in replaced for file in then[name] if file not in now[name]]
    added = [(name, file) for name in now if name not in replaced for file in now[name] if file not in then[name]]
    by_digest: dict[str, list[tuple[str, str]]] = {}
    for name, file in added:
        by_digest.setdefault(now[name][file], []).append((name, file))
    moved = {pair: by_digest[digest].pop() for pair in missing if by_digest.get(digest := then[pair[0]][pair[1]])}
    lines = []
    for name in then:
        if name in replaced:
            continue
        both = [file for file in then[name] if file in now[name]]
        rows = [f"{file} has different contents" for file in both if then[name][file] != now[name][file]]
        for file in then[name]:
            if (name, file) in moved:
                rows.append(f"{file} is now {split}/{'/'.join(moved[name, file])}")
            elif file not in now[name]:
                rows.append(f"{file} is missing")
        targets = set(moved.values())
        rows += [f"{file} is new" for file in now[name] if file not in then[name] and (name, file) not in targets]
        lines += [f"{split}/{name}/{row}" for row in rows[:PER_CLASS]]
        lines += [f"{split}/{name}/ … and {len(rows) - PER_CLASS} more"] * (len(rows) > PER_CLASS)
    return lines


def count_differences(then: Counts, now: Counts) -> list[str]:
    """Compare the numbers of images, for older runs without images.csv."""
    lines = ["single images cannot be compared: images.csv is missing, because the run is older or it was removed"]
    for split in dict.fromkeys([*then, *now]):
        before, after = Counter(then.get(split, {})), Counter(now.get(split, {}))
        for name in dict.fromkeys([*before, *after]):
            if before[name] != after[name]:
                lines.append(f"{split}/{name}/ has {images_text(after[name])} now, {before[name]} then")
    return shorten(lines if len(lines) > 1 else [*lines, "the number of images of each class is the same"])


def shorten(lines: list[str]) -> list[str]:
    return (
        lines
        if len(lines) <= MAX_LINES
        else [*lines[: MAX_LINES - 1], f"… and {len(lines) - MAX_LINES + 1} more lines"]
    )


def images_text(number: int) -> str:
    return "1 image" if number == 1 else f"{number} images"
