"""Records of the data check: findings, image files, splits."""

import functools
import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mslab.check import zh, zh_fixes, zh_labels
from mslab.check.packed import Pack
from mslab.config import language

SEVERITIES = ("error", "warning", "info")  # the first stops training


@dataclass(frozen=True)
class Finding:
    """One problem, or one fact worth knowing.

    `path` is relative to the root, with "/"; `message` explains the effect on training; `location` is the path on disk
    if --fix or --convert may act on it.
    """

    code: str
    severity: str  # one of SEVERITIES
    path: str
    message: str
    fix: str
    location: Path | None = None

    def to_dict(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in ("code", "severity", "path", "message", "fix")}

    def shown(self, lang: str = "") -> "Finding":
        """The finding as it is shown to a person: in their language, or in `lang`."""
        if (lang or language.current()) != "zh":
            return self
        tables = (table.get(self.code, {}) for table in (zh.MESSAGES, zh_labels.MESSAGES))
        more = (zh_labels.PHRASES, zh_labels.MORE) if self.code in zh_labels.MESSAGES else (zh.PHRASES,)
        message = language.translated(self.message, *tables, *more, lang="zh")
        return replace(self, message=message, fix="\n".join(map(chinese_fix, self.fix.split("\n"))))


@functools.lru_cache(1000)  # thousands of findings have the same one
def chinese_fix(line: str) -> str:
    return language.translated(line, zh_fixes.FIXES, zh_labels.FIXES, lang="zh")


@dataclass(slots=True)
class ImageRecord:
    """One image file and a worker's results for it. A data set has many, so there are no dicts or Path objects."""

    name: str  # relative to the split's folder, with "/": "Agaricus/0001.jpg"
    size: int  # bytes
    stamp: str  # times of its last changes, for the cache
    code: str = ""  # a finding's code if it cannot be loaded, else ""
    problem: str = ""  # the message for that code
    format: str = ""  # Pillow's name: JPEG, PNG …
    mode: str = ""  # Pillow's name: RGB, L …
    width: int = 0
    height: int = 0
    frames: int = 1
    orientation: int = 1  # EXIF's; 1 is upright
    blank: bool = False
    junk: int = 0  # bytes before a JPEG's end marker that are no picture
    brightness: float = 0.0  # mean grey, 0 to 255
    sha256: bytes = b""  # of the file
    thumbnail: bytes = b""  # digest of the grey thumbnail: equal pixels have equal ones
    phash: bytes = b""  # perceptual hash, then those in standard positions, 8 bytes each; empty if not computed
    grey: bytes = b""  # thumbnail of 16x16 pixels, only if the hash of another image is that of this one turned
    pixels: bytes = b""  # digest of the decoded pixels, only if another image has the same thumbnail

    label: str = ""  # its class, if that is not called like its folder (merge)

    @property
    def folder(self) -> str:
        return self.name.split("/", 1)[0]

    @property
    def class_name(self) -> str:
        return self.label or self.folder

    @property
    def same(self) -> bytes:
        """A digest that is equal for equal pixels."""
        return self.pixels or self.sha256


def interned(value: Any) -> Any:
    """One string object for equal strings, such as "JPEG": saves a hundred bytes per image."""
    return sys.intern(value) if type(value) is str else value


@dataclass
class Labels:
    """What a table says. An image's name is CLASS/FILE, as it would be in a folder of classes."""

    table: Path
    folder: Path  # that has the images, at any level
    files: dict[str, Path] = field(default_factory=dict)  # name -> where the image is, sorted by name
    columns: dict[str, dict[str, str]] = field(default_factory=dict)  # column -> {name: cell}
    notes: list[tuple[str, str]] = field(default_factory=list)  # (code of a finding, text)

    @property
    def class_names(self) -> list[str]:
        return sorted({name.partition("/")[0] for name in self.files})


@dataclass
class Split:
    """One folder of class folders, as it is on disk."""

    name: str  # train, val, test, or "" if the data set is one split
    root: Path
    prefix: str = ""  # of its findings' paths: "train/", or "" if the split is the root
    classes: dict[str, list[ImageRecord]] = field(default_factory=dict)  # class -> its images, sorted by name
    chosen: dict[str, list[ImageRecord]] | None = None  # the same by folder, if the settings choose or merge folders
    strays: list[str] = field(default_factory=list)  # hidden or junk folders beside the classes
    nested: list[str] = field(default_factory=list)  # folders inside class folders
    loose: list[str] = field(default_factory=list)  # files beside the class folders
    left_out: dict[str, str] = field(default_factory=dict)  # other files in class folders -> what they are
    links: dict[str, str] = field(default_factory=dict)  # links that are not followed: name -> reason
    unreadable: dict[str, str] = field(default_factory=dict)  # folders that cannot be read: name -> reason
    pack: Pack | None = None  # if the split is packed; its pictures are then rows of the shards: "Agaricus/17"
    table: Labels | None = None  # of the labels, if no folders say them; `root` is the table itself
    shape: Any = None  # what it contains instead of class folders, once levels.misplaced has looked

    @property
    def folders(self) -> dict[str, list[ImageRecord]]:
        """Visible folder -> its images: the classes, unless folders are merged."""
        return self.classes if self.chosen is None else self.chosen

    @property
    def pictures(self) -> list[ImageRecord]:
        return [picture for pictures in self.classes.values() for picture in pictures]

    @property
    def pixels(self) -> int:
        """Width times height, summed over all images; an upper bound for part of a pack."""
        return self.pack.pixels if self.pack else sum(picture.width * picture.height for picture in self.pictures)

    def path(self, name: str) -> Path:
        """Where an image is. Its name is CLASS/FILE, also in a table, whose images are in no folders of classes."""
        return self.table.files[name] if self.table and name in self.table.files else self.root / name

    def show(self, name: str = "") -> str:
        """A path as findings show it: one printable line, even if the name is not valid UTF-8."""
        if self.table:
            place = self.table.files.get(name)
            name = Path(os.path.relpath(place, self.root.parent)).as_posix() if place else name or self.root.name
        return printable(f"{self.prefix}{name}").replace("\n", "\\n") or "."

    @property
    def noun(self) -> str:
        """What has the images of a class: "class folder"."""
        return "class" if self.table else "class folder"

    @property
    def title(self) -> str:
        return self.show().rstrip("/")


def printable(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
