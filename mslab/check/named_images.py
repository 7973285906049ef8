"""Names of images in a table -> the files that they mean: with and without suffix or folder, in other capitals."""

import functools
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from mslab.check.formats import is_image
from mslab.check.scan import is_hidden, is_image_file, is_leftover
from mslab.check.splits import has_programs, split_name
from mslab.check.tabular import plain_number
from mslab.errors import DatasetError

MOST = 1_000_000  # images in a folder


def images_below(folder: Path) -> list[str]:
    """The visible images in a folder at any level, relative to it, with "/", sorted. Raises DatasetError."""
    found: list[str] = []
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        inner = [Path(place) / name for name in folders]
        folders[:] = sorted(p.name for p in inner if not (is_leftover(p) or has_programs(p)))
        folders[:] = [name for name in folders if not name.endswith(".quarantine")]
        start = os.path.relpath(place, folder)
        start = "" if start == "." else f"{start}/".replace(os.sep, "/")
        bare = (name for name in names if not is_hidden(name))
        found += [f"{start}{n}" for n in bare if is_image(n) or ("." not in n and is_image_file(Path(place) / n))]
        if len(found) > MOST:
            raise DatasetError(
                f"{folder} has more than {MOST:,} images in it.",
                expected="the images of one data set beside its table",
                fix="put the table into the folder of its images",
            )
    return sorted(found)


def plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def stem(name: str) -> str:
    return name.rpartition(".")[0] if is_image(name) else name


class ImageFinder:
    """Find the image that a cell of a table means, among the images of a folder."""

    def __init__(self, images: Sequence[str], table: Path) -> None:
        self.by_stem: dict[str, list[str]] = defaultdict(list)
        self.by_number: dict[int, list[str]] = defaultdict(list)
        for image in images:
            name = stem(image.rpartition("/")[2])
            self.by_stem[plain(name)].append(image)
            if re.fullmatch(r"[0-9]{1,18}", name):
                self.by_number[int(name)].append(image)
        self.split = split_name(stem_of_table(table))[0]
        self.has_folder = bool(self.split) and any(map(self.in_split, images))

    def find(self, cell: str) -> list[str]:
        """The images that the cell may mean: none, the one, or several that nothing tells apart."""
        parts = [part for part in re.split(r"[/\\]+", cell.strip()) if part not in ("", ".")]
        if not parts:
            return []
        name = parts[-1]
        stems = (stem(name), name, name.rpartition(".")[0])  # the last one: 0001.dcm became 0001.png
        found = next((self.by_stem[plain(s)] for s in stems if plain(s) in self.by_stem), self.of_number(stem(name)))
        found = [image for image in found if not self.of_another_split(parts, image)]
        exact = "/".join(parts)
        for better in (functools.partial(alike, parts), lambda image: image.endswith(exact), self.in_split):
            if len(found) > 1:
                score = {image: better(image) for image in found}
                found = [image for image in found if score[image] == max(score.values())]
        return found

    def of_number(self, name: str) -> list[str]:
        """The images of a number that a spreadsheet has changed: 0007 to 7, or 7 to 7.0."""
        number = plain_number(name)
        return self.by_number.get(int(number), []) if re.fullmatch(r"[0-9]{1,18}", number) else []

    def in_split(self, image: str) -> bool:
        """Whether the image is in a folder of the table's split: train.csv is about train/, not about test/."""
        return (self.split or "train") in {split_name(part)[0] for part in image.split("/")[:-1]}

    def of_another_split(self, parts: list[str], image: str) -> bool:
        """Whether the image is in another split's folder, which the cell does not name: train.csv does not mean it."""
        folders = image.split("/")[:-1]
        named = folders and folders[-1] in parts[:-1]
        return self.has_folder and not named and not self.in_split(image) and any(split_name(f)[0] for f in folders)


def alike(parts: list[str], image: str) -> tuple[int, bool]:
    """(how many folders, from the last one on, a path has in common with these parts, whether it has their suffix)."""
    own, wanted = ([plain(part) for part in reversed(names)] for names in (image.split("/"), parts))
    same = [a == b for a, b in zip(own[1:], wanted[1:], strict=False)]
    return (same.index(False) if False in same else len(same)), own[0] == wanted[0]


def stem_of_table(table: Path) -> str:
    """The table's name without what says that it is one: "train_labels.csv" -> "train"."""
    return re.sub(r"(?i)[ _.-]*(labels?|list|targets?|annotations?|solutions?|classes|metadata|meta)$", "", table.stem)
