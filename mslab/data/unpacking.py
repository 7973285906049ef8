"""`mslab data import`: a zip or tar of images -> a data set. Nothing in the archive is trusted.

Names that lead out, bombs and damaged archives end the import before anything is in place; links, devices and junk
are left out and counted.
"""

import functools
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from mslab.check.layout import SPLITS, plain_name
from mslab.check.scan import is_image, is_junk
from mslab.data.placing import beside
from mslab.errors import DatasetError

MAX_FILES = 1_000_000
MAX_BYTES = 200 * 2**30
MAX_RATIO = 100  # bytes unpacked for one byte of the archive, from FREE_BYTES on; images hardly shrink
FREE_BYTES = 50 * 2**20
CHUNK = 1 << 20
DAMAGE: tuple[type[Exception], ...] = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError)
DAMAGE += (struct.error, EOFError, NotImplementedError, ValueError)  # what readers of damaged bytes run into
OTHER_NAMES = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}


@dataclass
class Member:
    """One entry of an archive, whatever its kind."""

    name: str  # with "/"
    kind: str  # "file", "folder", or what is left out: "link", "device"
    size: int  # bytes, as the archive says
    open: Callable[[], IO[bytes] | None]


@dataclass
class Imported:
    """What an import did."""

    root: Path
    level: str  # the folder of the archive that became the root, "." for its top
    images: int = 0
    left_out: Counter = field(default_factory=Counter)  # kind -> how many
    renamed: dict[str, str] = field(default_factory=dict)  # folder of a split -> its name here

    def __str__(self) -> str:
        lines = [f"{self.root}: {self.images} images from the archive's folder {self.level}/"]
        lines += [f"  {old}/ became {new}/" for old, new in self.renamed.items()]
        lines += [f"  left out: {', '.join(f'{n} {kind}' for kind, n in self.left_out.items())}"] * bool(self.left_out)
        return "\n".join(lines)


def import_archive(archive: Path, out: Path, progress: Callable[[int, int], None] | None = None) -> Imported:
    """Unpack the archive's images to `out`, from the level on where the classes are.

    Raises DatasetError, and leaves nothing behind, where it is no archive, is damaged, is encrypted, leads out of its
    folder, is a bomb, or holds no folders of images.
    """
    done = Imported(out, ".")
    with beside(out) as partial:
        try:
            unpack(archive, partial, done.left_out, progress)
            top, splits = find_level(archive, partial)
            done.level = top.relative_to(partial).as_posix()
            for path in folders(top) if splits else []:
                name = split_name(path)
                if name and name != path.name and not (top / name).exists():
                    done.renamed[path.name] = name
                    path.rename(top / name)
            unpacked, done.images = (sum(p.is_file() for p in folder.rglob("*")) for folder in (partial, top))
            done.left_out["images outside that folder"] = unpacked - done.images
            top.rename(out)
        except OSError as error:
            raise DatasetError(
                f"{archive} cannot be unpacked to {out}: {error.strerror or error}.",
                expected="a readable archive, and room for its images",
                fix="check the path; free some space, or --out on another disk",
            ) from None
    done.left_out = +done.left_out
    return done


def unpack(archive: Path, folder: Path, left_out: Counter, progress: Callable[[int, int], None] | None) -> None:
    """Write the archive's images under `folder`. Everything is counted as it is read, whatever the archive says."""
    budget, files = Budget(archive, archive.stat().st_size), 0
    seen: dict[str, str] = {}
    with open_archive(archive) as members:
        for member in members:
            parts = safe_parts(archive, member.name)
            if member.kind == "folder" or not parts:
                continue
            name = "/".join(parts)
            source = member.open() if member.kind == "file" else None
            if source is None or any(is_junk(part) for part in parts[:-1]) or not is_image(parts[-1]):
                left_out["files that are no images" if source else f"{member.kind}s"] += 1
                budget.spend(member.size)  # reading past it costs as much as reading it
                continue
            if earlier := seen.get(plain_name(name)):
                raise refused(archive, f"holds {earlier} and {name}, which are one file on some machines")
            seen[plain_name(name)] = name
            target = folder.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with source, target.open("xb") as sink:
                while chunk := source.read(CHUNK):
                    budget.spend(len(chunk))
                    sink.write(chunk)
            files += 1
            if files > MAX_FILES:
                raise refused(archive, f"holds more than {MAX_FILES:,} images")
            if progress:
                progress(files, files)


@dataclass
class Budget:
    """Bytes that may be unpacked. Raises DatasetError beyond."""

    archive: Path
    size: int  # of the archive, bytes
    most: int = MAX_BYTES
    ratio: float = MAX_RATIO
    spent: int = 0

    def spend(self, size: int) -> None:
        self.spent += size
        if self.spent > self.most or (self.spent > FREE_BYTES and self.spent > self.ratio * self.size):
            times = self.spent / max(1, self.size)
            raise refused(self.archive, f"unpacks to more than {self.spent // 2**20} MiB, {times:.0f} times its size")


def safe_parts(archive: Path, name: str) -> tuple[str, ...]:
    """The name's parts. Raises DatasetError where it leads out of the archive's own folder."""
    plain = name.replace("\\", "/")
    path = PurePosixPath(plain)
    if path.is_absolute() or ".." in path.parts or "\0" in plain or (len(plain) > 1 and plain[1] == ":"):
        raise refused(archive, f"holds the name {name!r}, which leads out of its folder")
    return path.parts


@contextmanager
def open_archive(archive: Path) -> Iterator[Iterator[Member]]:
    """The archive's members, one after the other. Raises DatasetError for damaged ones, also in the middle."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as file:
                yield zip_members(file)
        elif archive.is_file() and tarfile.is_tarfile(archive):
            with tarfile.open(archive, "r:*") as tar:
                yield tar_members(tar)
        else:
            archive.stat()  # a missing one is an OSError
            raise refused(archive, "is no zip or tar archive", "a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz file")
    except DAMAGE as error:
        raise refused(archive, f"is damaged or of a kind that Python cannot unpack: {error}") from None
    except RuntimeError as error:  # zipfile's answer to encryption
        why = "it has a password" if "password" in str(error) or "encrypted" in str(error) else str(error)
        raise refused(archive, f"cannot be unpacked: {why}", "an archive without a password") from None


def zip_members(file: zipfile.ZipFile) -> Iterator[Member]:
    for info in file.infolist():
        kind = "folder" if info.filename.endswith("/") else "link" if stat.S_ISLNK(info.external_attr >> 16) else "file"
        yield Member(zip_name(info), kind, 0, functools.partial(file.open, info))  # what is not opened is not unpacked


def zip_name(info: zipfile.ZipInfo) -> str:
    """The name as it was meant: without the UTF-8 flag it may be UTF-8 all the same, or GBK from a Chinese Windows."""
    if info.flag_bits & 0x800 or info.filename.isascii():
        return info.filename
    raw = info.filename.encode("cp437", "replace")
    for encoding in ("utf-8", "gbk"):
        with suppress(UnicodeDecodeError):
            return raw.decode(encoding)
    return info.filename


def tar_members(tar: tarfile.TarFile) -> Iterator[Member]:
    for info in tar:
        links = info.issym() or info.islnk()
        kind = "file" if info.isreg() else "folder" if info.isdir() else "link" if links else "device"
        yield Member(info.name, kind, info.size, functools.partial(tar.extractfile, info))


def find_level(archive: Path, folder: Path) -> tuple[Path, bool]:
    """The folder whose classes, or whose splits' classes, hold the most images, the highest one; whether of splits."""
    best, level, split = 0, folder, False
    for at, _, _ in os.walk(folder):
        here = Path(at)
        splits = sum(held(path) for path in folders(here) if split_name(path))
        classes = held(here)
        if max(splits, classes) > best or (max(splits, classes) == best and here in level.parents):
            best, level, split = max(splits, classes), here, splits >= classes
    if best == 0:
        raise refused(archive, "holds no folders of images", "one folder of images a class, at any level")
    return level, split


def folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def held(folder: Path) -> int:
    """Images right inside the folders of this one."""
    return sum(sum(path.is_file() for path in inside.iterdir()) for inside in folders(folder))


def split_name(folder: Path) -> str:
    """train, val or test where the folder is called so, or nearly so; else ""."""
    name = OTHER_NAMES.get(folder.name.lower(), folder.name.lower())
    return name if name in SPLITS else ""


def refused(archive: Path, why: str, expected: str = "") -> DatasetError:
    return DatasetError(
        f"{archive} {why}.",
        expected=expected or "an archive with one folder of images a class, and nothing else",
        fix="pack the images anew, or unpack it by hand and look at it; nothing was written",
    )
