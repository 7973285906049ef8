"""What lies on disk and what is wrong with it: splits, image files, findings."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mslab.check.packed import Pack

SEVERITIES = ("error", "warning", "info")  # the first stops training


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or worth knowing.

    `path` is relative to the root, with "/"; `message` says what it would have done to training; `place` is where it
    lies, for those that --fix moves.
    """

    code: str
    severity: str  # one of SEVERITIES
    path: str
    message: str
    fix: str
    place: Path | None = None

    def to_dict(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in ("code", "severity", "path", "message", "fix")}


@dataclass(slots=True)
class ImageRecord:
    """One image file and what a worker saw in it. A data set holds many: no dicts, no Path objects."""

    name: str  # relative to the split's folder, with "/": "Agaricus/0001.jpg"
    size: int  # bytes
    stamp: str  # times of its last changes, for the cache
    code: str = ""  # why it cannot be loaded: a finding's code; "" where it was
    problem: str = ""  # the same as a message
    format: str = ""  # Pillow's name: JPEG, PNG …
    mode: str = ""  # Pillow's name: RGB, L …
    width: int = 0
    height: int = 0
    frames: int = 1
    orientation: int = 1  # EXIF's; 1 is upright
    blank: bool = False
    brightness: float = 0.0  # mean grey, 0 to 255
    sha256: bytes = b""  # of the file
    thumbnail: bytes = b""  # digest of the grey thumbnail: equal pixels have equal ones
    phash: bytes = b""  # perceptual hash, 8 bytes; empty where it was not asked for
    pixels: bytes = b""  # digest of the decoded pixels, only where another image has the same thumbnail

    @property
    def class_name(self) -> str:
        return self.name.split("/", 1)[0]

    @property
    def same(self) -> bytes:
        """Equal for equal pixels."""
        return self.pixels or self.sha256


def shared(value: Any) -> Any:
    """The same text object for equal texts, such as "JPEG": a hundred bytes an image less."""
    return sys.intern(value) if type(value) is str else value


@dataclass
class Split:
    """One folder of class folders, as it lies on disk."""

    name: str  # train, val, test, or "" where the data set is one split
    root: Path
    prefix: str = ""  # of its findings' paths: "train/", or "" where the split is the root
    classes: dict[str, list[ImageRecord]] = field(default_factory=dict)  # visible folder -> its images, sorted by name
    strays: list[str] = field(default_factory=list)  # hidden or junk folders beside the classes
    nested: list[str] = field(default_factory=list)  # folders inside class folders
    loose: list[str] = field(default_factory=list)  # files beside the class folders
    left_out: list[str] = field(default_factory=list)  # files in class folders that are no images
    links: dict[str, str] = field(default_factory=dict)  # links that are not followed: name -> why
    closed: dict[str, str] = field(default_factory=dict)  # folders that cannot be read: name -> why
    pack: Pack | None = None  # of a packed split, whose pictures are rows of its shards: "Agaricus/17"

    @property
    def pictures(self) -> list[ImageRecord]:
        return [picture for pictures in self.classes.values() for picture in pictures]

    @property
    def pixels(self) -> int:
        """Width times height of all images together; of part of a pack, at most that."""
        return self.pack.pixels if self.pack else sum(picture.width * picture.height for picture in self.pictures)

    def show(self, name: str = "") -> str:
        """A path as findings write it: always text that can be printed, whatever bytes the name has."""
        return printable(f"{self.prefix}{name}") or "."

    @property
    def title(self) -> str:
        return self.show().rstrip("/")


def printable(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
