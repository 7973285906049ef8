"""Files in folders that others can write to: atomic writing, and reading with bounds.

Nothing is written through a link, nothing waits for a FIFO, and no text costs much more memory than it has bytes.
"""

import codecs
import contextlib
import csv
import errno
import hashlib
import io
import json
import math
import os
import re
import secrets
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mslab.errors import MslabError
from mslab.escaping import quoted

if TYPE_CHECKING:
    import zipfile

MAX_TEXT = 64 << 20  # bytes of a text file: history.csv and train.log of a long run
MAX_LINE = 1 << 20  # characters
MAX_HASHED = 1 << 40  # bytes
MAX_JSON_VALUES = 3_000_000  # eval.json of 1,000 classes has a million
MAX_DIRECTORY = 256 << 20  # bytes of a zip's list of members: a million images need half of it
HAS_FOLDER_DESCRIPTORS = os.open in os.supports_dir_fd  # not on Windows
TEMPORARY = re.compile(r"\..{1,100}\.[0-9a-f]{16}\.tmp", re.S)  # names of files that replace_atomically() writes
FLAGS = {"rb": os.O_RDONLY, "r+b": os.O_RDWR, "wb": os.O_WRONLY | os.O_CREAT}
FLAGS["ab"] = os.O_WRONLY | os.O_CREAT | os.O_APPEND
NO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
KINDS = {stat.S_IFREG: "a file", stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link", stat.S_IFIFO: "a FIFO"}
KINDS |= {stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


class FormatError(ValueError):
    """A text that is too large or not in its format. `line`: number of the line, from 1, if it is known."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.line = line


# --- writing ---------------------------------------------------------------------------------------------------------


def replace_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Call `write(file)` with a new file beside `path`, then rename that file to `path`, durably.

    The new file has a random name, and is opened by that name once and relative to an open folder, so that nobody can
    put a link in its place. A link at `path` is replaced, not followed. The umask decides who can read the file.
    Raises MslabError, and leaves the earlier file unchanged, if the disk refuses.
    """
    folder: int | None = None
    temporary: str | Path = f".{path.name[:100]}.{secrets.token_hex(8)}.tmp"
    try:
        if kind_of(path, links=True) not in ("", "a file", "a folder"):  # renaming would replace /dev/null
            raise OSError(errno.EINVAL, "it is not a regular file")
        if HAS_FOLDER_DESCRIPTORS:
            folder = os.open(path.parent, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC)
        else:
            temporary = path.with_name(str(temporary))
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_LINK | NO_WAIT, 0o666, dir_fd=folder)
        try:
            with os.fdopen(handle, "w+b") as file:
                write(file)
                sync(file)
            os.replace(temporary, path if folder is None else path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
        with contextlib.suppress(OSError):  # some systems do not allow opening a folder
            entry = os.open(path.parent if folder is None else ".", os.O_RDONLY, dir_fd=folder)
            os.fsync(entry)
            os.close(entry)
    except OSError as error:
        expected, fix = obstacle(error, path.parent)
        raise MslabError(
            f"{path} could not be written: {error.strerror or error}.",
            expected=expected,
            fix=f"{fix}, or write elsewhere; the earlier file is unchanged",
        ) from error
    finally:
        if folder is not None:
            os.close(folder)


def obstacle(error: OSError, folder: Path) -> tuple[str, str]:
    """(what a folder that took no file should be, what to do) by the reason that the system gave."""
    if error.errno in (errno.EACCES, errno.EPERM):
        fix = "ask its owner for the right"
        with contextlib.suppress(OSError, AttributeError):  # Windows has no geteuid
            status = folder.stat()
            if status.st_uid == os.geteuid() and not status.st_mode & stat.S_IWUSR:
                fix = f"chmod u+w {quoted(folder)}"
        return "a folder that you may write into", fix
    if error.errno == errno.EROFS:
        return "a disk that can be written to; this one is mounted read-only", "mount it for writing"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "free space on the disk", "free some space"
    return "free space on the disk, and a writable folder", "free some space"


def sync(file: IO[bytes]) -> None:
    """Write what was written to the disk. Some file systems, such as those of networks and FUSE, cannot be asked to."""
    file.flush()
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    replace_atomically(path, lambda file: file.write(text.encode("utf-8")))


def json_text(value: Any, ascii: bool = False) -> str:
    """JSON of several lines, as UTF-8 can hold it: a name's byte that is not UTF-8 becomes \\udcXX, and comes back.

    `ascii`: every other character beyond ASCII becomes \\uXXXX, too.
    """
    text = json.dumps(value, indent=2, ensure_ascii=ascii)
    return re.sub("[\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"


def finite(value: Any) -> Any:
    """The same values with None for each number that is not finite, which JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def make_folder(path: Path) -> None:
    """Create the folder if it does not exist. Raises MslabError if that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MslabError(
            f"{path} cannot be created: {error.strerror}.",
            expected="a writable folder",
            fix="use --out with another name",
        ) from None


# --- reading ---------------------------------------------------------------------------------------------------------


def open_regular(path: Path, mode: str = "rb", links: bool = True, folder: int | None = None) -> IO[bytes]:
    """Open a regular file: "rb", "r+b", "wb" or "ab". Never waits, as opening a FIFO would.

    Raises OSError for a folder, FIFO, device or socket, with `links=False` for a link, and unless reading for every
    link and for a file that has a second name (a hard link): both could stand for another file. `folder`: descriptor
    of the folder that `path` is relative to.
    """
    changes = mode != "rb"
    handle = os.open(path, FLAGS[mode] | NO_WAIT | (NO_LINK if changes or not links else 0), 0o666, dir_fd=folder)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        if changes and status.st_nlink > 1:
            raise OSError(errno.EMLINK, "it is a hard link to a file elsewhere", str(path))
        if mode == "wb":
            os.ftruncate(handle, 0)
        return os.fdopen(handle, mode)
    except BaseException:
        os.close(handle)
        raise


@dataclass(frozen=True)
class Below:
    """A file of a folder that others may have filled: no link is followed, neither to the file nor on the way to it."""

    folder: Path
    name: str  # relative, with "/"

    def __str__(self) -> str:
        return str(self.folder / self.name)

    def open(self) -> IO[bytes]:
        """Open it for reading. Raises OSError."""
        *parts, last = self.name.split("/")
        if not HAS_FOLDER_DESCRIPTORS:
            return open_regular(self.folder / self.name, links=False)
        handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | NO_WAIT)
        try:
            for part in parts:
                inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | NO_LINK | NO_WAIT, dir_fd=handle)
                os.close(handle)
                handle = inner
            return open_regular(Path(last), links=False, folder=handle)
        finally:
            os.close(handle)


def kind_of(path: Path, links: bool = False) -> str:
    """What a path is: "a file", "a link", "a FIFO" …, "" if there is nothing. `links`: what a link leads to."""
    try:
        mode = (path.stat() if links else path.lstat()).st_mode
    except (OSError, ValueError):  # the latter: a name with a zero byte
        return ""
    return KINDS.get(stat.S_IFMT(mode), "no regular file")


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a regular UTF-8 file, with their ends, for csv. Raises OSError, and ValueError."""
    with io.TextIOWrapper(open_regular(path), "utf-8-sig", newline="") as file:  # Excel writes a byte-order mark
        while line := file.readline(MAX_LINE):
            if len(line) == MAX_LINE:
                raise FormatError(f"it has a line of more than {MAX_LINE:,} characters")
            yield line


def read_bytes(path: Path, most: int = MAX_TEXT) -> bytes:
    """Content of a regular file. Raises OSError, and FormatError if it has more than `most` bytes."""
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise FormatError(f"it has more than {most:,} bytes")
    return content


def read_text(path: Path, most: int = MAX_TEXT) -> str:
    """Text of a regular file as decode() reads it, with line ends as "\\n". Raises OSError, and FormatError."""
    return io.StringIO(decode(read_bytes(path, most)), newline=None).read()


def decode(content: bytes) -> str:
    """Text as editors save it: UTF-8, UTF-16 or UTF-32 with a byte-order mark or without, or Windows' Chinese GBK.

    Raises FormatError for anything else, such as the encodings of Western Windows, which cannot be told apart.
    """
    marks = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF32_LE: "utf-32-le", codecs.BOM_UTF32_BE: "utf-32-be"}
    marks |= {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}  # begins like UTF-32's: later
    mark, encoding = next(((m, e) for m, e in marks.items() if content.startswith(m)), (b"", "utf-8"))
    if not mark and b"\0" in content[:2]:  # the first character is ASCII
        encoding = "utf-16-be" if content[:1] == b"\0" else "utf-16-le"
    try:
        return content[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-8" and not mark:
            with contextlib.suppress(UnicodeDecodeError):
                text = content.decode("gb18030")
                # "é" and the letter after it look like a rare character of GBK; Chinese text has common ones, and
                # emoji, whose four bytes look like nothing else
                chinese = Counter(c for c in text if not c.isascii())
                common = (c for c in chinese if len(c.encode("gb18030")) == 4 or c.encode("gb2312", "ignore"))
                if 2 * sum(chinese[c] for c in common) > chinese.total():
                    return text
        line = content[: error.start].count(b"\n") + 1 if "8" in encoding else None
        raise FormatError("it is not UTF-8 text, and neither UTF-16 nor GBK; save it as UTF-8", line) from None


def for_people(table: str) -> str:
    """A CSV that a person opens: Excel takes it for UTF-8 only with a byte-order mark, which ASCII does not need.

    CSV for scripts (history.csv, steps.csv, images.csv, course systems' tables, standard output) has none.
    """
    return table if table.isascii() else f"\ufeff{table}"


def table_rows(text: str) -> Iterator[dict[str, str]]:
    """Rows of a CSV text whose first line names the columns, between commas, semicolons (Excel's in Europe) or tabs."""
    return csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter_of(text), skipinitialspace=True)


def delimiter_of(text: str) -> str:
    """What separates the columns in a CSV's first line."""
    # delimiter_of("id;submitted;attempt") -> ";"
    first = text.partition("\n")[0]
    return max(",;\t", key=first.count)


def sha256(path: Path) -> str:
    """A regular file's SHA-256, hexadecimal. Raises OSError, also for one of more than a TiB, such as /proc/kcore."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > MAX_HASHED:
            raise OSError(errno.EFBIG, "it claims more than a TiB", str(path))
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_json(path: Path, most: int = MAX_TEXT) -> Any:
    """Values of a JSON file. Raises OSError, and FormatError."""
    return parse_json(read_bytes(path, most))


def parse_json(
    text: str | bytes,
    most_values: int = MAX_JSON_VALUES,
    table: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> Any:
    """Values of a JSON text. Raises FormatError, before anything is built if it could have more values than that.

    `table` makes each table from its pairs; it may raise ValueError.
    """
    content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if not content.strip(b"\0 \r\n\t"):
        reason = "it contains zero bytes only, as after a crash" if b"\0" in content else "it is empty"
        raise FormatError(f"it is not valid JSON: {reason}")
    if sum(content.count(mark) for mark in b",[{") > most_values:  # at least the number of values
        raise FormatError(f"it contains more than {most_values:,} values")
    try:
        return json.loads(text, object_pairs_hook=table)
    except RecursionError:
        raise FormatError("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise FormatError("it is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise FormatError(f"it is not valid JSON: {error}", error.lineno) from None
    except ValueError as error:  # an integer of thousands of digits
        raise FormatError(f"it is not valid JSON: {error}") from None


def open_zip(file: IO[bytes], most: int = MAX_DIRECTORY) -> "zipfile.ZipFile":
    """A zip whose directory has at most `most` bytes, and whose members do not overlap. Raises BadZipFile."""
    import zipfile

    end = zipfile._EndRecData(file)  # type: ignore[attr-defined]  # as ZipFile finds it, which reads all of the directory
    if end and end[5] > most:
        raise zipfile.BadZipFile(f"its directory has more than {most:,} bytes")
    archive, at = zipfile.ZipFile(file), 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        if info.header_offset < at:
            raise zipfile.BadZipFile("its parts overlap")
        at = info.header_offset + 30 + info.compress_size  # 30: a header without a name
    if at > archive.start_dir:
        raise zipfile.BadZipFile("its parts overlap its directory")
    return archive
