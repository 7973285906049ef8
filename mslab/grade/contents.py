"""Read a submission inside the worker: files, configs, JSON, histories, predictions. Nothing is trusted.

A problem with a file becomes one entry {"error": text for the student}; no file can stop the worker.
"""

import csv
import errno
import hashlib
import io
import math
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mslab.check.layout import plain_name
from mslab.data.archives import Budget, Folder, open_archive, safe_parts
from mslab.errors import DatasetError, MslabError, explain
from mslab.escaping import escape_control
from mslab.files import FormatError, decode, delimiter_of, parse_json, parse_yaml

TEXT = 2000  # characters of a text, at most
PROBLEMS = 20  # listed problems, at most
NAME_BYTES = 1 << 20  # of all file names together
MAX_FILES = 50  # files of one kind that are read
DEPTH = 20  # levels of nested tables
FOLDERS = 100  # levels of nested folders
VALUES = 20_000  # values in one file
YAML_BYTES, JSON_BYTES, CSV_BYTES = 64 << 10, 1 << 20, 4 << 20
ROWS, COLUMNS = 100_000, 2000
DIGEST_COLUMNS = ("epoch", "lr", "train_loss", "train_acc", "val_loss", "val_acc")  # of history.csv, without times
FULL = (errno.ENOSPC, errno.EDQUOT)  # the disk's fault, not the submission's
JUNK = ("__MACOSX/", ".DS_Store")


def short(text: object, most: int = TEXT) -> str:
    """Text as the facts may contain it: no control characters, at most `most` characters."""
    text = escape_control(str(text)[: 2 * most])
    return text if len(text) <= most else text[: most - 1] + "…"


class BadSubmission(Exception):
    """A problem with a file or with the entire submission; the message is for the student."""


def entry(read: Callable[[], dict[str, Any]], root: Path) -> dict[str, Any]:
    """Return read()'s result, or {"error": text} if it fails, so that a bad file is one bad entry."""
    try:
        return read()
    except BadSubmission as error:
        return {"error": short(error)}
    except MslabError as error:
        return {"error": short(error_line(error, root))}
    except MemoryError:
        return {"error": "reading it takes more memory than a submission may use"}
    except RecursionError:
        return {"error": "it is nested too deeply"}
    except OSError as error:
        if error.errno in FULL:
            raise
        return {"error": f"it cannot be read: {error.strerror or type(error).__name__}"}
    except Exception as error:  # readers of damaged files raise many types
        if explained := explain(error):
            return {"error": short(explained.what)}
        return {"error": short(f"it cannot be read: {error or 'it is damaged'}".replace(f"{root}/", ""), 300)}


def error_line(error: MslabError, root: Path) -> str:
    """An error's message, details and expectation on one line, with paths relative to the submission."""
    rows = "; ".join(f"{label} {text}" for label, text in error.details[:5])
    text = " ".join(filter(None, [error.what, rows, f"Expected: {error.expected}." if error.expected else ""]))
    return text.replace(f"{root}/", "")


# --- files -----------------------------------------------------------------------------------------------------------


@dataclass
class Contents:
    """The regular files of a submission, below `root`."""

    root: Path
    files: dict[str, int] = field(default_factory=dict)  # name with "/" -> bytes
    problems: list[str] = field(default_factory=list)  # if there are any, no file is used
    top: str = ""  # the single top-level folder, if names are relative to it


def gather(source: Path, folder: Path, limits: Mapping[str, Any], expected: Iterable[str]) -> Contents:
    """List the submission's files: a folder's in place, an archive's unpacked to `folder`.

    If none of the `expected` files is there and all files are in one folder, names are relative to that folder.
    """
    contents = Contents(source if source.is_dir() else folder)
    try:
        if source.is_dir():
            walk(contents, limits)
        else:
            unpack(source, contents, limits)
    except BadSubmission as error:
        contents.problems.append(str(error))
    except DatasetError as error:  # its `expected` part speaks of data sets
        contents.problems.append(error.what.replace(str(source), "the archive"))  # equal bytes give equal facts
    except MemoryError:
        contents.problems.append("reading the archive takes more memory than a submission may use")
    except OSError as error:
        if error.errno in FULL:
            raise
        contents.problems.append(f"the submission cannot be read: {error.strerror or error}")
    except Exception as error:  # readers of damaged archives raise other types, too
        contents.problems.append(short(f"the submission cannot be read: {error or 'it is damaged'}", 300))
    contents.problems = [short(problem) for problem in contents.problems[:PROBLEMS]]
    if contents.problems:
        contents.files = {}
    elif not contents.files:
        contents.problems.append("the submission contains no files")
    else:
        strip_top_folder(contents, expected)
    return contents


def walk(contents: Contents, limits: Mapping[str, Any]) -> None:
    """List a folder's files. Links are refused, not followed, as is everything else that is not a regular file."""
    check, total = MemberCheck(limits, contents.problems), 0
    for folder, folders, names in os.walk(contents.root, onerror=raise_error):
        for name in sorted([*folders, *names]):
            path = Path(folder) / name
            status, name_inside = path.lstat(), path.relative_to(contents.root).as_posix()
            if stat.S_ISDIR(status.st_mode):
                check.member(name_inside)
                continue
            kind = "file" if stat.S_ISREG(status.st_mode) else "link" if stat.S_ISLNK(status.st_mode) else "device"
            if not check.file(name_inside, kind):
                continue
            total += status.st_size
            contents.files[name_inside] = status.st_size
            if total > limits["bytes"]:
                raise BadSubmission(f"the submission contains more than {limits['bytes'] >> 20} MiB")


def raise_error(error: OSError) -> None:
    raise error  # otherwise os.walk skips the folder silently


def unpack(archive: Path, contents: Contents, limits: Mapping[str, Any]) -> None:
    """Write an archive's files below contents.root. Unpacked bytes are counted; declared sizes are not trusted."""
    budget = Budget(archive, archive.stat().st_size, limits["bytes"], limits["ratio"])
    check = MemberCheck(limits, contents.problems)
    contents.root.mkdir(parents=True, exist_ok=True)
    with open_archive(archive, budget) as members, Folder(archive, contents.root) as folder:
        for member in members:
            try:
                parts = safe_parts(archive, member.name)
            except DatasetError as error:
                contents.problems.append(error.what.replace(str(archive), "the archive"))
                parts = ()
            name = "/".join(parts)
            kind = member.kind if parts else "folder"
            if kind == "folder":
                check.member(name)
            elif check.file(name, kind) and not contents.problems:
                with folder.create(parts) as sink:
                    contents.files[name] = sum(sink.write(chunk) for chunk in member.chunks())


class MemberCheck:
    """Check the names of members in turn; problems are appended to `problems`."""

    def __init__(self, limits: Mapping[str, Any], problems: list[str]) -> None:
        self.most, self.problems = limits["members"], problems
        self.count = self.bytes = 0
        self.names: dict[str, str] = {}

    def member(self, name: str) -> None:
        """Count a member. Raises BadSubmission for too many members or too many problems."""
        self.count += 1
        self.bytes += len(name)
        if self.count > self.most:
            raise BadSubmission(f"it contains more than {self.most:,} files and folders")
        if self.bytes > NAME_BYTES:
            raise BadSubmission("its file names take more than 1 MiB")
        if len(self.problems) >= PROBLEMS:
            raise BadSubmission("further problems are not listed")
        if name.count("/") > FOLDERS:  # functions that walk folders recurse once per level
            raise BadSubmission(f"its folders are nested deeper than {FOLDERS} levels")

    def file(self, name: str, kind: str) -> bool:
        """Return whether this is a regular file with a valid, unique name."""
        self.member(name)
        key, shortened = plain_name(name), short(name, 200)
        if kind != "file":
            self.problems.append(f"{shortened} is a {kind}; only files are accepted")
        elif key in self.names:
            template = (
                "it contains {} twice" if self.names[key] == name else "it contains {} and {}, one file on some systems"
            )
            self.problems.append(template.format(short(self.names[key], 200), shortened))
        else:
            self.names[key] = name
            return True
        return False


def strip_top_folder(contents: Contents, expected: Iterable[str]) -> None:
    """Make names relative to the single top-level folder, which a zip of a folder has."""
    names = [name for name in contents.files if not name.startswith(JUNK) and not name.endswith(JUNK)]
    tops = {name.partition("/")[0] for name in names}
    if len(tops) == 1 and all("/" in name for name in names) and not contents.files.keys() & set(expected):
        contents.top = tops.pop()
        contents.root = contents.root / contents.top
        contents.files = {name.partition("/")[2]: contents.files[name] for name in names}


# --- texts -----------------------------------------------------------------------------------------------------------


def entries(
    contents: Contents, names: Iterable[str], most: int, read: Callable[[str], dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """{name: result of `read` on the file's text, or its error}. `most`: bytes of a file."""

    def parse_file(name: str) -> dict[str, Any]:
        if contents.files[name] > most:
            raise BadSubmission(f"it has {contents.files[name]:,} bytes; at most {most:,} are read")
        with (contents.root / name).open("rb") as file:
            content = file.read(most + 1)
        try:
            return read(decode(content))
        except FormatError as error:
            raise BadSubmission(str(error)) from None

    names = sorted(names)
    parsed = {short(name, 300): entry(partial(parse_file, name), contents.root) for name in names[:MAX_FILES]}
    too_many = {"error": f"there are more than {MAX_FILES} files of its kind"}
    return parsed | {short(name, 300): too_many for name in names[MAX_FILES : 2 * MAX_FILES]}


def config(text: str) -> dict[str, Any]:
    """Read settings from YAML 1.2: {"values": {…}}."""
    try:
        content = parse_yaml(text)
    except FormatError as error:
        raise BadSubmission(f"{f'line {error.line}: ' if error.line else ''}{error}") from None
    if not isinstance(content, dict):
        raise BadSubmission("it contains no settings; expected lines like 'epochs: 12'")
    return {"values": PlainValues().convert(content)}


def json_values(text: str) -> dict[str, Any]:
    """Read a JSON file: {"values": …}."""
    try:
        return {"values": PlainValues().convert(parse_json(text))}
    except FormatError as error:
        raise BadSubmission(str(error)) from None


class PlainValues:
    """Convert values of YAML and JSON to JSON with short texts and finite numbers; count and depth are limited."""

    remaining = VALUES

    def convert(self, value: Any, depth: int = 0) -> Any:
        self.remaining -= 1
        if self.remaining < 0:
            raise BadSubmission(f"it contains more than {VALUES:,} values")
        if depth > DEPTH:
            raise BadSubmission(f"it is nested deeper than {DEPTH} levels")
        if isinstance(value, dict):
            return {short(key, 200): self.convert(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self.convert(item, depth + 1) for item in value]
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return value if abs(value) < 2**63 else "a number too large"
        if isinstance(value, float) and math.isfinite(value):
            return value
        return short(value)


def rows_of(text: str, columns: Iterable[str]) -> Iterable[dict[str, str]]:
    """Yield the rows of a CSV text that has at least these columns. Raises BadSubmission."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter_of(text))
    try:
        header = [cell.strip() for cell in next(reader, [])]
        if len(header) > COLUMNS:
            raise BadSubmission(f"it has more than {COLUMNS:,} columns")
        if missing := [name for name in columns if header.count(name) != 1]:
            first = short(",".join(header), 200)
            raise BadSubmission(f"it has no column {', '.join(missing)}; its first line is {first!r}")
        for count, row in enumerate(filter(None, reader), 1):
            if count > ROWS:
                raise BadSubmission(f"it has more than {ROWS:,} rows")
            if len(row) != len(header):
                raise BadSubmission(f"row {count} has {len(row)} cells; the first line has {len(header)}")
            yield dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise BadSubmission(f"it is not valid CSV: {error}") from None


def history(text: str) -> dict[str, Any]:
    """Read a run's history.csv: number of rows, digest of the training figures (equal for equal runs), last row."""
    digest, count, last = hashlib.sha256(), 0, {}
    for row in rows_of(text, DIGEST_COLUMNS):
        count, last = count + 1, row
        digest.update((",".join(figure(row[name]) for name in DIGEST_COLUMNS) + "\n").encode())
    if not count:
        raise BadSubmission("it has no rows")
    return {"rows": count, "digest": digest.hexdigest(), "last": {short(k, 200): number(v) for k, v in last.items()}}


def figure(cell: str) -> str:
    """A number in one canonical form (0.10 -> 0.1); other text stripped."""
    value = number(cell)
    return cell.strip() if value is None else f"{value:.6g}"


def number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def predictions(text: str) -> dict[str, Any]:
    """Read predictions as `mslab predict --csv` writes them: {"rows": {file: class}}."""
    rows: dict[str, str] = {}
    for row in rows_of(text, ("file", "class")):
        name = short(strip_apostrophe(row["file"]), 300)
        if name in rows:
            raise BadSubmission(f"it lists {name} twice")
        rows[name] = short(strip_apostrophe(row["class"]), 200)
    return {"rows": rows}


def strip_apostrophe(cell: str) -> str:
    """Remove the apostrophe that stops a spreadsheet from reading the cell as a formula."""
    return cell[1:] if cell[:1] == "'" and cell[1:2] in ("=", "+", "-", "@", "\t", "\r") else cell
