"""`mslab data import`: a zip or tar of images -> a data set. Nothing in the archive is trusted.

Paths outside the folder, decompression bombs and damaged archives stop the import before anything is in place. Links,
devices and junk are skipped and counted.
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
from mslab.data.placing import staging_folder
from mslab.errors import DatasetError

MAX_FILES = 1_000_000
MAX_BYTES = 200 * 2**30
MAX_RATIO = 100  # unpacked bytes per byte of the archive, checked beyond FREE_BYTES; images hardly compress
FREE_BYTES = 50 * 2**20
CHUNK = 1 << 20
DAMAGE: tuple[type[Exception], ...] = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError)
DAMAGE += (struct.error, EOFError, NotImplementedError, ValueError)  # raised by the readers for damaged bytes
OTHER_NAMES = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}


@dataclass
class Member:
    """One entry of an archive, of any kind."""

    name: str  # with "/"
    kind: str  # "file", "folder", or a skipped kind: "link", "device"
    size: int  # bytes, as the archive claims
    open: Callable[[], IO[bytes] | None]


@dataclass
class Imported:
    """Result of an import."""

    root: Path
    level: str  # folder of the archive that became the root; "." for its top level
    images: int = 0
    skipped: Counter = field(default_factory=Counter)  # kind -> number of entries
    renamed: dict[str, str] = field(default_factory=dict)  # folder of a split in the archive -> its new name

    def __str__(self) -> str:
        lines = [f"{self.root}: {self.images} images from the archive's folder {self.level}/"]
        lines += [f"  {old}/ is renamed to {new}/" for old, new in self.renamed.items()]
        lines += [f"  skipped: {', '.join(f'{n} {kind}' for kind, n in self.skipped.items())}"] * bool(self.skipped)
        return "\n".join(lines)


def import_archive(archive: Path, out: Path, progress: Callable[[int, int], None] | None = None) -> Imported:
    """Unpack the archive's images to `out`, starting at the folder that contains the classes.

    Raises DatasetError, leaving nothing behind, if the file is not an archive, is damaged, encrypted or a decompression
    bomb, has a path outside its folder, or has no folders of images.
    """
    result = Imported(out, ".")
    with staging_folder(out) as partial:
        try:
            unpack(archive, partial, result.skipped, progress)
            top, splits = find_level(archive, partial)
            result.level = top.relative_to(partial).as_posix()
            for path in folders(top) if splits else []:
                name = split_name(path)
                if name and name != path.name and not (top / name).exists():
                    result.renamed[path.name] = name
                    path.rename(top / name)
            unpacked, result.images = (sum(p.is_file() for p in folder.rglob("*")) for folder in (partial, top))
            result.skipped["images outside that folder"] = unpacked - result.images
            top.rename(out)
        except OSError as error:
            raise DatasetError(
                f"{archive} cannot be unpacked to {out}: {error.strerror or error}.",
                expected="a readable archive, and enough free space for its images",
                fix="check the path; free some space, or use --out on another disk",
            ) from None
    result.skipped = +result.skipped
    return result


def unpack(archive: Path, folder: Path, skipped: Counter, progress: Callable[[int, int], None] | None) -> None:
    """Write the archive's images to `folder`. Bytes are counted as they are read; claimed sizes are not trusted."""
    budget, files = Budget(archive, archive.stat().st_size), 0
    written: dict[str, str] = {}  # plain name -> name
    with open_archive(archive) as members:
        for member in members:
            parts = safe_parts(archive, member.name)
            if member.kind == "folder" or not parts:
                continue
            name = "/".join(parts)
            source = member.open() if member.kind == "file" else None
            if source is None or any(is_junk(part) for part in parts[:-1]) or not is_image(parts[-1]):
                skipped["files that are not images" if source else f"{member.kind}s"] += 1
                budget.spend(member.size)  # skipping it costs as much as reading it
                continue
            if earlier := written.get(plain_name(name)):
                raise archive_error(archive, f"contains {earlier} and {name}, which are the same file on some systems")
            written[plain_name(name)] = name
            target = folder.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with source, target.open("xb") as sink:
                while chunk := source.read(CHUNK):
                    budget.spend(len(chunk))
                    sink.write(chunk)
            files += 1
            if files > MAX_FILES:
                raise archive_error(archive, f"contains more than {MAX_FILES:,} images")
            if progress:
                progress(files, files)


@dataclass
class Budget:
    """Limit on unpacked bytes. Raises DatasetError beyond it."""

    archive: Path
    size: int  # of the archive, bytes
    max_bytes: int = MAX_BYTES
    ratio: float = MAX_RATIO
    spent: int = 0

    def spend(self, size: int) -> None:
        self.spent += size
        if self.spent > self.max_bytes or (self.spent > FREE_BYTES and self.spent > self.ratio * self.size):
            times = self.spent / max(1, self.size)
            raise archive_error(
                self.archive, f"unpacks to more than {self.spent // 2**20} MiB, {times:.0f} times its size"
            )


def safe_parts(archive: Path, name: str) -> tuple[str, ...]:
    """The parts of the path. Raises DatasetError if it is outside the archive's folder."""
    plain = name.replace("\\", "/")
    path = PurePosixPath(plain)
    if path.is_absolute() or ".." in path.parts or "\0" in plain or (len(plain) > 1 and plain[1] == ":"):
        raise archive_error(archive, f"contains the path {name!r}, which leads out of its folder")
    return path.parts


@contextmanager
def open_archive(archive: Path) -> Iterator[Iterator[Member]]:
    """Yield an iterator over the archive's members. Raises DatasetError for damage, also in the middle."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as file:
                yield zip_members(file)
        elif archive.is_file() and tarfile.is_tarfile(archive):
            with tarfile.open(archive, "r:*") as tar:
                yield tar_members(tar)
        else:
            archive.stat()  # raises OSError if it is missing
            raise archive_error(
                archive, "is not a zip or tar archive", "a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz file"
            )
    except DAMAGE as error:
        raise archive_error(archive, f"is damaged or has a format that Python cannot unpack: {error}") from None
    except RuntimeError as error:  # zipfile raises it for encrypted members
        reason = "it has a password" if "password" in str(error) or "encrypted" in str(error) else str(error)
        raise archive_error(archive, f"cannot be unpacked: {reason}", "an archive without a password") from None


def zip_members(file: zipfile.ZipFile) -> Iterator[Member]:
    for info in file.infolist():
        kind = "folder" if info.filename.endswith("/") else "link" if stat.S_ISLNK(info.external_attr >> 16) else "file"
        yield Member(zip_name(info), kind, 0, functools.partial(file.open, info))  # unpacked only when opened


def zip_name(info: zipfile.ZipInfo) -> str:
    """The intended name: without the UTF-8 flag it may still be UTF-8, or GBK from a Chinese Windows."""
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
    """(the highest folder whose classes or splits contain the most images, whether it contains splits)."""
    best, level, split = 0, folder, False
    for path, _, _ in os.walk(folder):
        candidate = Path(path)
        splits = sum(images_in_classes(inside) for inside in folders(candidate) if split_name(inside))
        classes = images_in_classes(candidate)
        if max(splits, classes) > best or (max(splits, classes) == best and candidate in level.parents):
            best, level, split = max(splits, classes), candidate, splits >= classes
    if best == 0:
        raise archive_error(archive, "contains no folders of images", "one folder of images per class, at any level")
    return level, split


def folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def images_in_classes(folder: Path) -> int:
    """Number of files directly inside the subfolders of this folder."""
    return sum(sum(path.is_file() for path in inside.iterdir()) for inside in folders(folder))


def split_name(folder: Path) -> str:
    """train, val or test if the folder has this name or a variant of it; else ""."""
    name = OTHER_NAMES.get(folder.name.lower(), folder.name.lower())
    return name if name in SPLITS else ""


def archive_error(archive: Path, reason: str, expected: str = "") -> DatasetError:
    return DatasetError(
        f"{archive} {reason}.",
        expected=expected or "an archive with one folder of images per class, and nothing else",
        fix="create the archive again, or unpack it by hand and inspect it; nothing was written",
    )
