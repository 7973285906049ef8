"""Read a zip or tar archive of others in one pass. Nothing in it is trusted: names, sizes, and what it unpacks to.

Memory does not depend on what the archive claims. All unpacked bytes are counted; a Budget limits them.
"""

import bz2
import copy
import functools
import gzip
import io
import lzma
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from mslab import files
from mslab.check.formats import HEAD, is_format, name_of
from mslab.data import tars
from mslab.errors import DatasetError

MAX_BYTES = 200 * 2**30
MAX_RATIO = 100  # unpacked bytes per byte of the archive, checked beyond FREE_BYTES; images hardly compress
FREE_BYTES = 50 * 2**20
CHUNK = 1 << 20
INFLATED_HERE = (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)  # zipfile inflates them in one step, to any size
MAX_NAME, MAX_PART = 4096, 255  # bytes of a path, and of each name in it, as Linux allows
MAX_FOLDERS, MAX_DEPTH = 100_000, 100
FORMATS = {b"PK\3\4": "zip", b"PK\5\6": "zip", b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}
OTHER_FORMATS = {b"Rar!": "RAR", b"7z\xbc\xaf\x27\x1c": "7z", b"(\xb5/\xfd": "Zstandard", b"MSCF": "CAB"}
DAMAGE: tuple[type[Exception], ...] = (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, struct.error)
DAMAGE += (EOFError, NotImplementedError, ValueError, OverflowError)  # raised by the readers for damaged bytes


@dataclass
class Member:
    """One entry of an archive, of any kind."""

    name: str  # with "/"
    kind: str  # "file", "folder", or a skipped kind: "link", "device"
    chunks: Callable[[], Iterator[bytes]]  # yields a file's content, before the next member is asked for


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
    """The parts of the path. Raises DatasetError if it is outside the archive's folder, or too long for a disk."""
    plain = name.replace("\\", "/")
    sizes = [len(part.encode("utf-8", "surrogateescape")) for part in plain.split("/")]
    if max(sizes) > MAX_PART or sum(sizes) + len(sizes) > MAX_NAME:
        raise archive_error(archive, f"contains the path {name[:80]!r}…, which is too long for a file name")
    path = PurePosixPath(plain)
    if path.is_absolute() or ".." in path.parts or "\0" in plain or (len(plain) > 1 and plain[1] == ":"):
        raise archive_error(archive, f"contains the path {name!r}, which leads out of its folder")
    return path.parts


@contextmanager
def open_archive(archive: Path, budget: Budget) -> Iterator[Iterator[Member]]:
    """Yield an iterator over the archive's members. Raises DatasetError for damage, also in the middle."""
    try:
        if not archive.is_file():
            archive.stat()  # raises OSError if it is missing
            raise not_an_archive(archive)
        with files.open_regular(archive) as file:
            if zipfile.is_zipfile(file):
                with files.open_zip(file) as opened:
                    yield zip_members(opened, budget)
            elif tars.is_tar(file):
                yield tar_members(file, budget)
            else:
                raise not_an_archive(archive)
    except DAMAGE as error:
        reason = str(error)[:200] or type(error).__name__
        raise archive_error(archive, f"is damaged or has a format that Python cannot unpack: {reason}") from None
    except RuntimeError as error:  # zipfile raises it for encrypted members
        reason = "it has a password" if "password" in str(error) or "encrypted" in str(error) else str(error)
        raise archive_error(archive, f"cannot be unpacked: {reason}", "an archive without a password") from None


def not_an_archive(archive: Path) -> DatasetError:
    kind = format_of(archive)
    reason = f"is a {kind} archive, and no zip or tar archive" if kind in OTHER_FORMATS.values() else ""
    expected = "a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz file"
    return archive_error(archive, reason or "is not a zip or tar archive", expected)


def format_of(path: Path) -> str:
    """The format of an archive by its first bytes, also of one that is not opened here; "" if it is none."""
    try:
        with files.open_regular(path, links=False) as file:
            start = file.read(512)
    except OSError:
        return ""
    known = next((name for mark, name in (FORMATS | OTHER_FORMATS).items() if start.startswith(mark)), "")
    return known or ("tar" if start[257:262] == b"ustar" else "LZH" if start[2:5] == b"-lh" else "")


def archive_error(archive: Path, reason: str, expected: str = "") -> DatasetError:
    return DatasetError(
        f"{archive} {reason}.",
        expected=expected or "an archive with one folder of images per class, and nothing else",
        fix="create the archive again, or unpack it by hand and inspect it; nothing was written",
    )


class Folder:
    """A new folder to which an archive is unpacked: files are created in it, and never opened if they exist."""

    def __init__(self, archive: Path, path: Path) -> None:
        self.archive, self.path = archive, path
        self.made: set[tuple[str, ...]] = {()}

    def __enter__(self) -> "Folder":
        # through its descriptor: whoever puts another folder in its place receives nothing
        self.descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY) if files.HAS_FOLDER_DESCRIPTORS else None
        return self

    def __exit__(self, *error: object) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)

    def create(self, parts: tuple[str, ...]) -> IO[bytes]:
        """Open a new file, and make its folders. Raises DatasetError if there is such a file or folder."""
        try:
            self.make(parts[:-1])
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | files.NO_LINK | files.NO_WAIT
            return os.fdopen(os.open(self.inside(parts), flags, 0o666, dir_fd=self.descriptor), "wb")
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            name = "/".join(parts)[:200]
            raise archive_error(self.archive, f"contains {name} both as a file and as a folder") from None

    def make(self, parts: tuple[str, ...]) -> None:
        if parts in self.made:
            return
        if len(parts) > MAX_DEPTH or len(self.made) > MAX_FOLDERS:
            limits = f"{MAX_FOLDERS:,} folders, or more than {MAX_DEPTH} inside each other"
            raise archive_error(self.archive, f"contains more than {limits}")
        self.make(parts[:-1])
        os.mkdir(self.inside(parts), dir_fd=self.descriptor)
        self.made.add(parts)

    def inside(self, parts: tuple[str, ...]) -> str:
        return "/".join(parts) if self.descriptor is not None else str(self.path.joinpath(*parts))


def image_head(chunks: Iterator[bytes]) -> bytes | None:
    """The first bytes of a member whose name does not end like an image's, or None if it is no image."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= HEAD:
            break
    return head if is_format(name_of(head)) else None


# --- zip -------------------------------------------------------------------------------------------------------------


def zip_members(file: zipfile.ZipFile, budget: Budget) -> Iterator[Member]:
    for info in file.infolist():
        kind = "folder" if info.filename.endswith("/") else "link" if stat.S_ISLNK(info.external_attr >> 16) else "file"
        yield Member(zip_name(info), kind, functools.partial(zip_chunks, file, info, budget))


def zip_name(info: zipfile.ZipInfo) -> str:
    """The intended name. Without the UTF-8 flag it may still be UTF-8, or of an older Windows."""
    if info.flag_bits & 0x800 or info.filename.isascii():
        return info.filename
    return readable_name(info.filename.encode("cp437", "replace"), info.filename)


def readable_name(raw: bytes, otherwise: str | None = None) -> str:
    """Text of a name whose encoding nobody recorded: UTF-8, a Chinese Windows' GBK, or a Western one's letters.

    `otherwise`: what a zip's reader makes of it; without it the bytes are a file's name on a disk, and stay what they
    are if they are neither UTF-8 nor common Chinese.
    """
    for encoding in ("utf-8", "gb2312"):
        with suppress(UnicodeDecodeError):
            return raw.decode(encoding)
    if otherwise is None:
        return raw.decode("utf-8", "surrogateescape")
    western = raw.decode("cp437")
    if all(c.isascii() or c.isalpha() for c in western):  # M\x81ller: in GBK these bytes would be M乴ler
        return western
    with suppress(UnicodeDecodeError):
        return raw.decode("gbk")
    return otherwise


def zip_chunks(file: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget) -> Iterator[bytes]:
    """Yield a member's content. Raises BadZipFile unless it has the recorded size and checksum."""
    left, checksum, own = info.file_size, 0, info.compress_type in INFLATED_HERE
    with zip_content(file, info) as source:
        while left and (chunk := source.read(min(CHUNK, left))):
            budget.spend(len(chunk))
            left, checksum = left - len(chunk), zlib.crc32(chunk, checksum) if own else 0
            yield chunk
    if own and (left or checksum != info.CRC):
        raise zipfile.BadZipFile(f"{info.filename[:200]} has another size or checksum than the archive records")


def zip_content(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    """Open a member. Never inflates more than is read."""
    if info.compress_type not in INFLATED_HERE:
        return file.open(info)
    packed = copy.copy(info)
    packed.compress_type, packed.file_size = zipfile.ZIP_STORED, info.compress_size
    del packed.CRC  # which is that of the unpacked bytes
    source = file.open(packed)
    new = bz2.BZ2Decompressor if info.compress_type == zipfile.ZIP_BZIP2 else lzma_of_zip(source)
    return io.BufferedReader(tars.Inflated(source, new), CHUNK)


def lzma_of_zip(source: IO[bytes]) -> Callable[[], Any]:
    """Read the properties before lzma data in a zip: two bytes of version, two of length, and five of LZMA."""
    header = source.read(9)
    if len(header) < 9 or header[2:4] != b"\x05\x00" or header[4] >= 225:
        raise ValueError("its lzma properties are damaged")
    position, dictionary = header[4], int.from_bytes(header[5:9], "little")
    if dictionary > tars.MAX_DICTIONARY:
        raise ValueError(f"its lzma data need {dictionary >> 20} MiB of memory")
    options = {"id": lzma.FILTER_LZMA1, "dict_size": max(dictionary, 4096), "lc": position % 9}
    options |= {"lp": position // 9 % 5, "pb": position // 45}
    return lambda: lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[options])


# --- tar -------------------------------------------------------------------------------------------------------------


def tar_members(file: IO[bytes], budget: Budget) -> Iterator[Member]:
    inside = tars.decompressed(file)
    most = budget.size if inside is file else budget.max_bytes
    reader = tars.TarReader(inside, budget.spend, most, budget.max_bytes)
    for entry in reader.entries():
        yield Member(entry.name, entry.kind, functools.partial(reader.content, entry))
