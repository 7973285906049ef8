"""List a folder on disk -> Split. No folder deeper than a class is entered.

A file is opened only if its name does not tell whether it is an image: its first bytes do.
"""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

from mslab import files
from mslab.check import packed
from mslab.check.formats import HEAD, is_format, is_image, name_of
from mslab.check.records import ImageRecord, Split

JUNK = {"__macosx", "kernel_meta", "somas_meta", "__pycache__"}
# folders that tools leave among images, whatever is in them
LEFT = JUNK | {".ipynb_checkpoints", ".checkpoint", ".checkpoints", ".thumbnails", ".thumbs", ".appledouble"}
LEFT |= {".picasaoriginals", ".comments", ".trash", ".tmp", ".pytest_cache"}
FEW = 10_000  # entries of a folder that is looked through before it is moved
LISTS = {".ds_store", "thumbs.db", "desktop.ini"}  # files that systems put into every folder that is shown
OPENED = 20  # files, at most, whose names do not end like an image's
# what file systems and file servers keep in every folder, or at the top: it cannot be moved, or comes back
SYSTEM = {"lost+found", "@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "~snapshot", ".snapshot"}
SYSTEM |= {
    ".snapshots",
    ".zfs",
    "$recycle.bin",
    "recycler",
    "system volume information",
    ".ds_store",
    ".spotlight-v100",
}
SYSTEM |= {".spotlight-v100", ".fseventsd", ".trashes", ".temporaryitems", ".documentrevisions-v100", ".glusterfs"}


def is_systems(name: str) -> bool:
    """Whether a file system or a file server keeps such an entry."""
    return name.lower() in SYSTEM or name.lower().startswith((".trash-", ".nfs"))


def is_hidden(name: str) -> bool:
    """Whether it is hidden, or of a file system: never a class."""
    return is_systems(name) or name.startswith(".")


def is_junk(name: str) -> bool:
    """Whether tools leave such a folder behind: it is hidden, or has a known name, such as MindSpore's rank_0."""
    return is_hidden(name) or name.lower() in JUNK or (name.startswith("rank_") and name[5:].isdigit())


def is_leftover(folder: Path) -> bool:
    """Whether tools left this folder behind. A visible one that directly holds images is a class."""
    return is_junk(folder.name) and (is_hidden(folder.name) or not has_images(folder))


def is_left(name: str) -> bool:
    """Whether tools leave such a folder behind, with copies of what lies there: its images are none of the data."""
    return name.lower() in LEFT or is_systems(name) or (is_junk(name) and not is_hidden(name))


def is_accounted(folder: Path) -> bool:
    """Whether --fix may move a folder: tools left it, or it has nothing but images. Others may be work."""
    if is_left(folder.name) and not is_systems(folder.name):
        return True
    count = 0
    for _, folders, names in os.walk(folder):
        count += len(folders) + len(names)
        if count > FEW or not all(is_image(name) or name.lower() in LISTS or name.startswith("._") for name in names):
            return False
    return os.access(folder, os.R_OK | os.X_OK)


def content_kind(path: str | Path) -> str:
    """What a file without an image's name is, by its first bytes: see formats.name_of; "" if it cannot be read."""
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):  # to open a device may do something
            return ""
        with files.open_regular(Path(path)) as file:
            return name_of(file.read(HEAD))
    except OSError:
        return ""


def is_image_file(path: Path) -> bool:
    """Whether the file is an image, by its name or by its content. Hidden files are none."""
    return is_image(path.name) or (not path.name.startswith(".") and is_format(content_kind(path)))


def has_images(folder: Path) -> bool:
    """Whether an image is directly in the folder. Stops at the first one; of other names, opens a few files."""
    try:
        with os.scandir(folder) as entries:
            others: list[str] = []
            for entry in entries:
                if is_image(entry.name) and not entry.is_dir():
                    return True
                if len(others) < OPENED and not entry.is_dir():
                    others.append(entry.path)
    except OSError:
        return False
    return any(is_image_file(Path(path)) for path in others)


@dataclass(frozen=True)
class Folders:
    """Which entries of a split are read. Links out of `boundary` are followed only with `follow_links`.

    `ignore`: names, at any level, or paths in the split such as Agaricus/0001.jpg.
    """

    boundary: Path
    follow_links: bool = False
    ignore: frozenset[str] = frozenset()

    @cached_property
    def inside(self) -> str:
        return os.path.realpath(self.boundary)

    def link_problem(self, path: str) -> str:
        """Reason not to follow a symbolic link: "broken", "loop", "leaves", or "" to follow it."""
        try:
            target = os.path.realpath(path, strict=True)
        except FileNotFoundError:
            return "broken"
        except OSError:  # too many levels of links
            return "loop"
        if Path(os.path.realpath(Path(path).parent)).is_relative_to(target):
            return "loop"
        return "" if self.follow_links or Path(target).is_relative_to(self.inside) else "leaves"

    def refused_above(self, folder: Path, named: Path) -> str:
        """Reason not to follow a link on the way from a folder that the user named to that of a split, or ""."""
        above = [path for path in (folder, *folder.parents) if named in path.parents and path.is_symlink()]
        return next(filter(None, map(self.link_problem, map(str, above))), "")

    def entries(self, split: Split, name: str) -> list[os.DirEntry]:
        """The entries of a folder of the split, sorted by name; an unreadable folder is recorded in the split."""
        start = f"{name}/" if name else ""
        try:
            with os.scandir(split.root / name) as entries:
                listing = [entry for entry in entries if not self.ignore & {entry.name, f"{start}{entry.name}"}]
        except OSError as error:
            split.unreadable[name] = error.strerror or str(error)
            return []
        return sorted(listing, key=lambda entry: entry.name)


def scan(name: str, root: Path, prefix: str, folders: Folders) -> Split:
    """The split in `root`."""
    split = Split(name, root, prefix)
    for entry in folders.entries(split, ""):
        if entry.is_symlink() and (reason := folders.link_problem(entry.path)):
            split.links[entry.name] = reason
        elif not entry.is_dir():
            split.loose.append(entry.name)
        elif is_leftover(Path(entry.path)):
            split.strays.append(entry.name)
        else:
            split.classes[entry.name] = pictures(split, entry.name, folders)
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


def pictures(split: Split, class_name: str, folders: Folders) -> list[ImageRecord]:
    """The class folder's images; everything else in it is recorded in the split."""
    records = []
    for entry in folders.entries(split, class_name):
        name = f"{class_name}/{entry.name}"
        if entry.is_symlink() and (reason := folders.link_problem(entry.path)):
            split.links[name] = reason
        elif entry.is_dir():
            split.nested.append(name)
        elif kind := no_image(entry):
            split.left_out[name] = kind
        else:
            records.append(record_of(name, entry.stat()))
    return records


def record_of(name: str, status: os.stat_result) -> ImageRecord:
    """The record of a file that is not loaded yet."""
    record = ImageRecord(name, status.st_size, f"{status.st_mtime_ns}-{status.st_ctime_ns}")
    if not stat.S_ISREG(status.st_mode):
        record.code, record.problem = "unreadable", "not a regular file but a pipe or a device"
    return record


def no_image(entry: os.DirEntry) -> str:
    """What the file is if it is no image, or "". It is opened only if its name does not end like an image's."""
    if is_image(entry.name):
        return ""
    if entry.name.startswith("."):
        return "data that macOS keeps beside a file" if entry.name.startswith("._") else "a hidden file"
    kind = content_kind(entry.path)
    return "" if is_format(kind) else kind or "not an image"
