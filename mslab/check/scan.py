"""A folder as it lies on disk -> Split. Nothing is opened here, and no folder deeper than a class is entered."""

import os
import stat
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

from mslab.check import packed
from mslab.check.records import ImageRecord, Split

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"}  # what MindSpore's decoder takes
OTHER_SUFFIXES = {".gif", ".webp", ".avif", ".heic", ".heif", ".jp2", ".ppm", ".pgm", ".tga", ".ico", ".psd", ".svg"}
JUNK = {"__macosx", "@eadir", "lost+found", "kernel_meta", "somas_meta", "__pycache__", "$recycle.bin"}
JUNK |= {"system volume information"}


def is_junk(name: str) -> bool:
    """A folder that tools leave behind: hidden, or of a known name, such as MindSpore's rank_0."""
    return name.startswith(".") or name.lower() in JUNK or (name.startswith("rank_") and name[5:].isdigit())


def is_image(name: str) -> bool:
    """By its name; whether it can be loaded is seen later."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES | OTHER_SUFFIXES  # noqa: PTH122


def scan(name: str, root: Path, prefix: str, boundary: Path) -> Split:
    """The split in `root`. Links out of `boundary` are not followed."""
    split = Split(name, root, prefix)
    inside = os.path.realpath(boundary)
    for entry in entries(split, ""):
        if entry.is_symlink() and (why := link_trouble(entry.path, inside)):
            split.links[entry.name] = why
        elif not entry.is_dir():
            split.loose.append(entry.name)
        elif is_junk(entry.name):
            split.strays.append(entry.name)
        else:
            split.classes[entry.name] = pictures(split, entry.name, inside)
    return split


def scan_pack(name: str, folder: Path, prefix: str, deep: bool, progress: Callable[[int, int], None] | None) -> Split:
    """The packed split in `folder`; its pictures are rows of the shards. Raises DatasetError where a part is wrong."""
    pack = packed.read(folder)
    packed.verify(folder, pack, deep, progress)
    ends = list(accumulate(pack.counts))
    classes = {
        class_name: [ImageRecord(f"{class_name}/{row}", 0, "") for row in range(end - count, end)]
        for class_name, count, end in zip(pack.class_names, pack.counts, ends, strict=True)
    }
    return Split(name, folder, prefix, classes, pack=pack)


def pictures(split: Split, class_name: str, inside: str) -> list[ImageRecord]:
    """The class folder's images; what else lies there is noted in the split."""
    found = []
    for entry in entries(split, class_name):
        name = f"{class_name}/{entry.name}"
        if entry.is_symlink() and (why := link_trouble(entry.path, inside)):
            split.links[name] = why
        elif entry.is_dir():
            split.nested.append(name)
        elif not is_image(entry.name):
            split.left_out.append(name)
        else:
            known = entry.stat()
            picture = ImageRecord(name, known.st_size, f"{known.st_mtime_ns}-{known.st_ctime_ns}")
            if not stat.S_ISREG(known.st_mode):
                picture.code, picture.problem = "unreadable", "no regular file but a pipe or a device"
            found.append(picture)
    return found


def entries(split: Split, name: str) -> list[os.DirEntry]:
    """What is in a folder of the split, sorted by name; a folder that cannot be read is noted."""
    try:
        with os.scandir(split.root / name) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        split.closed[name] = error.strerror or str(error)
        return []


def link_trouble(path: str, inside: str) -> str:
    """Why a symbolic link is not followed: "broken", "loop", "leaves", or ""."""
    try:
        target = os.path.realpath(path, strict=True)
    except FileNotFoundError:
        return "broken"
    except OSError:  # too many levels of links
        return "loop"
    if not Path(target).is_relative_to(inside):
        return "leaves"
    return "loop" if Path(os.path.realpath(Path(path).parent)).is_relative_to(target) else ""


def holds_images(folder: Path) -> bool:
    return any(is_image(path.name) for path in folder.iterdir() if path.is_file())
