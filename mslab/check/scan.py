"""List a folder on disk -> Split. No file is opened, and no folder deeper than a class is entered."""

import os
import stat
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

from mslab.check import packed
from mslab.check.records import ImageRecord, Split

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"}  # that MindSpore's decoder accepts
OTHER_SUFFIXES = {".gif", ".webp", ".avif", ".heic", ".heif", ".jp2", ".ppm", ".pgm", ".tga", ".ico", ".psd", ".svg"}
JUNK = {"__macosx", "@eadir", "lost+found", "kernel_meta", "somas_meta", "__pycache__", "$recycle.bin"}
JUNK |= {"system volume information"}


def is_junk(name: str) -> bool:
    """Whether tools leave such a folder behind: it is hidden, or has a known name, such as MindSpore's rank_0."""
    return name.startswith(".") or name.lower() in JUNK or (name.startswith("rank_") and name[5:].isdigit())


def is_image(name: str) -> bool:
    """Whether the name is that of an image; loading it comes later."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES | OTHER_SUFFIXES  # noqa: PTH122


def scan(name: str, root: Path, prefix: str, boundary: Path) -> Split:
    """The split in `root`. Links out of `boundary` are not followed."""
    split = Split(name, root, prefix)
    inside = os.path.realpath(boundary)
    for entry in entries(split, ""):
        if entry.is_symlink() and (reason := link_problem(entry.path, inside)):
            split.links[entry.name] = reason
        elif not entry.is_dir():
            split.loose.append(entry.name)
        elif is_junk(entry.name):
            split.strays.append(entry.name)
        else:
            split.classes[entry.name] = pictures(split, entry.name, inside)
    return split


def scan_pack(name: str, folder: Path, prefix: str, deep: bool, progress: Callable[[int, int], None] | None) -> Split:
    """The packed split in `folder`; its pictures are rows of the shards. Raises DatasetError if a part is wrong."""
    pack = packed.read(folder)
    packed.verify(folder, pack, deep, progress)
    stops = list(accumulate(pack.counts))
    classes = {
        class_name: [ImageRecord(f"{class_name}/{row}", 0, "") for row in range(stop - count, stop)]
        for class_name, count, stop in zip(pack.class_names, pack.counts, stops, strict=True)
    }
    return Split(name, folder, prefix, classes, pack=pack)


def pictures(split: Split, class_name: str, inside: str) -> list[ImageRecord]:
    """The class folder's images; everything else in it is recorded in the split."""
    records = []
    for entry in entries(split, class_name):
        name = f"{class_name}/{entry.name}"
        if entry.is_symlink() and (reason := link_problem(entry.path, inside)):
            split.links[name] = reason
        elif entry.is_dir():
            split.nested.append(name)
        elif not is_image(entry.name):
            split.left_out.append(name)
        else:
            status = entry.stat()
            picture = ImageRecord(name, status.st_size, f"{status.st_mtime_ns}-{status.st_ctime_ns}")
            if not stat.S_ISREG(status.st_mode):
                picture.code, picture.problem = "unreadable", "not a regular file but a pipe or a device"
            records.append(picture)
    return records


def entries(split: Split, name: str) -> list[os.DirEntry]:
    """The entries of a folder of the split, sorted by name; an unreadable folder is recorded in the split."""
    try:
        with os.scandir(split.root / name) as listing:
            return sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        split.unreadable[name] = error.strerror or str(error)
        return []


def link_problem(path: str, inside: str) -> str:
    """Reason not to follow a symbolic link: "broken", "loop", "leaves", or "" to follow it."""
    try:
        target = os.path.realpath(path, strict=True)
    except FileNotFoundError:
        return "broken"
    except OSError:  # too many levels of links
        return "loop"
    if not Path(target).is_relative_to(inside):
        return "leaves"
    return "loop" if Path(os.path.realpath(Path(path).parent)).is_relative_to(target) else ""
