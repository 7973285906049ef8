"""Read a tar archive in one pass, forwards, with every size checked before it is used.

Python's tarfile reads headers of any size into memory, takes sizes below zero, and needs time that is quadratic in a
header. Here a header has at most 1 MiB, and its bytes count like those of files. Damage raises ValueError or EOFError.
"""

import bz2
import gzip
import io
import lzma
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any, cast

BLOCK = 512
CHUNK = 1 << 20
MAX_HEADER = 1 << 20  # bytes of a long name, of extended headers, and of the map of a sparse file
MAX_DICTIONARY = 512 << 20  # bytes of memory that an lzma stream may ask for; xz -9 needs 65 MiB
KINDS = {b"\0": "file", b"0": "file", b"7": "file", b"S": "file", b"5": "folder", b"1": "link", b"2": "link"}
WITHOUT_CONTENT = b"123456"  # types whose size says nothing
FOR_NEXT = b"xXLKg"  # headers that describe the next one, or all


class Inflated(io.RawIOBase):
    """The decompressed bytes of a file, never more at once than were asked for. `new` makes a decompressor."""

    def __init__(self, source: IO[bytes], new: Callable[[], Any]) -> None:
        self.source, self.new, self.engine = source, new, new()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            data, later = b"", False
            if self.engine.eof:  # parallel compressors write several streams
                data, later = self.engine.unused_data or self.source.read(io.DEFAULT_BUFFER_SIZE), True
                if not data:
                    return 0
                self.engine = self.new()
            elif self.engine.needs_input and not (data := self.source.read(io.DEFAULT_BUFFER_SIZE)):
                raise EOFError("it ends before its compressed data do")
            try:
                inflated = self.engine.decompress(data, len(buffer))
            except (OSError, lzma.LZMAError) as error:  # OSError: what bz2 raises for damage
                if later:  # padding after the last stream
                    return 0
                raise ValueError(str(error)) from None
            if inflated:
                buffer[: len(inflated)] = inflated
                return len(inflated)


def decompressed(file: IO[bytes]) -> IO[bytes]:
    """The bytes of a tar that may be compressed with gzip, bzip2, xz or lzma; the file itself if it is not."""
    file.seek(0)
    start = file.read(6)
    file.seek(0)
    if start[:2] == b"\x1f\x8b":
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if start[:3] == b"BZh":
        return io.BufferedReader(Inflated(file, bz2.BZ2Decompressor), CHUNK)
    if start == b"\xfd7zXZ\0" or start[:3] == b"]\0\0":
        return io.BufferedReader(Inflated(file, lambda: lzma.LZMADecompressor(memlimit=MAX_DICTIONARY)), CHUNK)
    return file


def is_tar(file: IO[bytes]) -> bool:
    """Whether the file begins with a header of a tar, compressed or not."""
    block = decompressed(file).read(BLOCK)
    return len(block) == BLOCK and (not any(block) or checksum_fits(block))


@dataclass
class TarEntry:
    """One entry of a tar. `pieces`: (offset, bytes) of the parts of a sparse file that are stored."""

    name: str
    kind: str
    size: int  # bytes, unpacked
    stored: int  # bytes that follow in the archive
    pieces: list[tuple[int, int]] | None = None


@dataclass
class Extended:
    """What the headers before an entry say about it."""

    path: str | None = None
    left: int = MAX_HEADER  # bytes that these headers may still have
    records: dict[bytes, bytes] = field(default_factory=dict)
    sparse: list[int] = field(default_factory=list)  # offsets and sizes in turn, of format 0.0


class TarReader:
    """Yields the entries; the content of one is read, or skipped, before the next.

    `spend` counts bytes. An entry may claim `most` bytes in the archive, and a sparse one `most_unpacked` outside.
    """

    def __init__(self, file: IO[bytes], spend: Callable[[int], None], most: int, most_unpacked: int) -> None:
        self.file, self.spend, self.most, self.most_unpacked = file, spend, most, most_unpacked
        self.left = self.padding = 0  # bytes of the current entry that have not been read

    def entries(self) -> Iterator[TarEntry]:
        extended = Extended()
        while block := self.header():
            kind, size = block[156:157], number(block[124:136], self.most)
            if kind in FOR_NEXT:
                if size > extended.left:
                    raise ValueError(f"its headers have more than {MAX_HEADER >> 20} MiB")
                extended.left -= size if kind != b"g" else 0
                self.extend(extended, kind, self.take(size + -size % BLOCK)[:size])
                continue
            yield self.entry(block, kind, size, extended)
            extended = Extended()
            for _ in self.read(self.left):
                pass
            self.take(self.padding)
        if extended.left < MAX_HEADER:
            raise EOFError("it ends before the file that a header announces")

    def header(self) -> bytes:
        """The next header; b"" at the end."""
        block = self.file.read(BLOCK)
        if not any(block):
            return b""
        self.spend(BLOCK)
        if len(block) < BLOCK:
            raise EOFError("it ends in a header")
        if not checksum_fits(block):
            raise ValueError("a header has a wrong checksum")
        return block

    def entry(self, block: bytes, kind: bytes, size: int, extended: Extended) -> TarEntry:
        name, records = text(block[:100]), extended.records
        if block[257:265] != b"ustar  \0" and (prefix := text(block[345:500])):  # GNU tar stores times there
            name = f"{prefix}/{name}"
        folder = kind in b"\0" and name.endswith("/")  # tar of 1979
        if records.get(b"size"):
            size = number(records[b"size"], self.most, 10)
        self.left = 0 if folder or kind in WITHOUT_CONTENT else size
        self.padding = -self.left % BLOCK
        name = (records.get(b"GNU.sparse.name") or records.get(b"path") or b"").decode("utf-8", "surrogateescape") or (
            name if extended.path is None else extended.path
        )
        entry = TarEntry(name, "folder" if folder else KINDS.get(kind, "device"), size, self.left)
        if kind == b"S":
            entry.size = number(block[483:495], self.most_unpacked)
            entry.pieces = pairs(self.old_map(block))
        elif real := records.get(b"GNU.sparse.realsize") or records.get(b"GNU.sparse.size"):
            entry.size = number(real, self.most_unpacked, 10)
            entry.pieces = pairs(self.new_map(extended))
        if entry.pieces is not None:
            entry.stored = self.left
            check_map(entry)
        return entry

    def extend(self, extended: Extended, kind: bytes, content: bytes) -> None:
        """Add what a header says about the next entry."""
        if kind == b"L":
            extended.path = text(content)
        elif kind in b"xX":
            for key, value in pax_records(content):
                extended.records[key] = value
                if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
                    extended.sparse.append(number(value, self.most_unpacked, 10))
        elif kind == b"g" and any(key in (b"path", b"size") or b"sparse" in key for key, _ in pax_records(content)):
            raise ValueError("a header gives all files one name or size")

    def old_map(self, block: bytes) -> list[int]:
        """The map in a header of type S, and in the blocks that continue it."""
        fields, more = block[386:482], block[482]
        while more:
            block = self.take(BLOCK)
            fields, more = fields + block[:504], block[504]
            if len(fields) > MAX_HEADER:
                raise ValueError("the map of a sparse file is too long")
        numbers = [fields[at : at + 12] for at in range(0, len(fields), 12)]
        return [number(field, self.most_unpacked) for field in numbers if any(field)]

    def new_map(self, extended: Extended) -> list[int]:
        """The map in extended headers (formats 0.0 and 0.1), or before the content (1.0)."""
        if extended.records.get(b"GNU.sparse.major") != b"1":
            numbers = extended.records.get(b"GNU.sparse.map", b"").split(b",")
            return extended.sparse or [number(text, self.most_unpacked, 10) for text in numbers if text]
        first, _, rest = self.map_block().partition(b"\n")
        count, blocks, lines = 2 * number(first, MAX_HEADER, 10), [rest], rest.count(b"\n")
        while lines < count:
            blocks.append(self.map_block())
            lines += blocks[-1].count(b"\n")
        return [number(line, self.most_unpacked, 10) for line in b"".join(blocks).split(b"\n")[:count]]

    def map_block(self) -> bytes:
        if self.left < BLOCK:
            raise ValueError("the map of a sparse file is too long")
        self.left -= BLOCK
        return self.take(BLOCK)

    def content(self, entry: TarEntry) -> Iterator[bytes]:
        """Yield the unpacked bytes of the current entry. They are counted."""
        if entry.pieces is None:
            yield from self.read(self.left)
            return
        at = 0
        for start, size in [*entry.pieces, (entry.size, 0)]:
            while at < start:
                chunk = bytes(min(start - at, CHUNK))
                self.spend(len(chunk))
                yield chunk
                at += len(chunk)
            yield from self.read(size)
            at += size

    def read(self, size: int) -> Iterator[bytes]:
        """Yield the next bytes of the current entry."""
        while size:
            chunk = self.take(min(size, CHUNK))
            size -= len(chunk)
            self.left -= len(chunk)
            yield chunk

    def take(self, size: int) -> bytes:
        self.spend(size)
        content = self.file.read(size)
        if len(content) < size:
            raise EOFError("it ends in the middle of a file")
        return content


def number(field: bytes, most: int, base: int = 8) -> int:
    """A size in digits, or in GNU's binary form. Raises ValueError unless it is from 0 to `most`."""
    if field[:1] >= b"\x80" and base == 8:
        size = int.from_bytes(field, "big", signed=True) + (1 << 8 * len(field) - 1)
    elif re.fullmatch(rb"\d{0,20}", digits := field.strip(b" \0")):
        size = int(digits or b"0", base)
    else:
        raise ValueError(f"a header has a size of {field[:20]!r}")
    if not 0 <= size <= most:
        raise ValueError(f"a header claims {size} bytes")
    return size


def checksum_fits(block: bytes) -> bool:
    """Whether the sum over the block, its own field read as spaces, is the recorded one; some add signed bytes."""
    match = re.match(rb"[ \0]*([0-7]+)", block[148:156])
    rest = block[:148] + b" " * 8 + block[156:]
    missing = sum(rest) - int(match[1], 8) if match else -1
    return missing == 0 or missing == 256 * sum(byte > 127 for byte in rest)


def pax_records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) of the lines "LENGTH KEY=VALUE\\n" of an extended header. Raises ValueError."""
    at = 0
    while at < len(content) and content[at]:
        digits = content[at : at + 8].partition(b" ")[0]
        end = at + int(digits) if re.fullmatch(rb"\d{1,7}", digits) else 0
        if not at + len(digits) < end <= len(content) or content[end - 1] != 10:
            raise ValueError("an extended header is damaged")
        key, _, value = content[at + len(digits) + 1 : end - 1].partition(b"=")
        yield key, value
        at = end


def pairs(numbers: list[int]) -> list[tuple[int, int]]:
    if len(numbers) % 2:
        raise ValueError("the map of a sparse file is incomplete")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def check_map(entry: TarEntry) -> None:
    """Raise ValueError unless the pieces are in order, inside the file, and are what the archive stores."""
    at = 0
    for start, size in entry.pieces or []:
        if start < at:
            raise ValueError("the parts of a sparse file overlap")
        at = start + size
    if at > entry.size or sum(size for _, size in entry.pieces or []) != entry.stored:
        raise ValueError("the parts of a sparse file do not fit its size")


def text(field: bytes) -> str:
    """A name, up to the first NUL. Bytes that are no UTF-8 are kept, as file names have them."""
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")
