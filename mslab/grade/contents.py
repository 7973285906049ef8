"""What a submission holds, read inside the worker: files, configs, JSON, histories, predictions. Nothing is trusted.

Whatever is wrong with a file is one entry {"error": text}, in words for the student; nothing here ends the worker.
"""

import csv
import hashlib
import io
import json
import math
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from mslab.check.layout import plain_name
from mslab.data.unpacking import CHUNK, Budget, Member, open_archive, safe_parts
from mslab.errors import DatasetError, MslabError, explain
from mslab.runtime.console import escape_control

TEXT = 2000  # most characters of a text
PROBLEMS = 20  # most problems that are listed
NAMES = 1 << 20  # bytes of all file names together
MANY = 50  # files of a kind that are read
DEPTH = 20  # of tables in tables
FOLDERS = 100  # in folders
VALUES = 20_000  # in one file
YAML_BYTES, JSON_BYTES, CSV_BYTES = 64 << 10, 1 << 20, 4 << 20
ROWS, COLUMNS = 100_000, 2000
TOLD = ("epoch", "lr", "train_loss", "train_acc", "val_loss", "val_acc")  # of a history's digest: no times
JUNK = ("__MACOSX/", ".DS_Store")


def short(text: object, most: int = TEXT) -> str:
    """As facts may hold it: no control characters, not longer than that."""
    text = escape_control(str(text)[: 2 * most])
    return text if len(text) <= most else text[: most - 1] + "…"


class BadSubmission(Exception):
    """What is wrong with a file, or with the whole submission, for the student."""


def entry(read: Callable[[], dict[str, Any]], root: Path) -> dict[str, Any]:
    """What it gives, or {"error": text}: one file's trouble is one entry."""
    try:
        return read()
    except BadSubmission as refused:
        return {"error": short(refused)}
    except MslabError as error:
        return {"error": short(said(error, root))}
    except MemoryError:
        return {"error": "reading it takes more memory than a submission may"}
    except RecursionError:
        return {"error": "it is nested without end"}
    except OSError as error:
        return {"error": f"it cannot be read: {error.strerror or type(error).__name__}"}
    except Exception as error:  # readers of damaged files run into many kinds
        if known := explain(error):
            return {"error": short(known.what)}
        return {"error": short(f"it cannot be read: {error or 'it is damaged'}".replace(f"{root}/", ""), 300)}


def said(error: MslabError, root: Path) -> str:
    """An error's first two parts in one line, with names as the student knows them."""
    rows = "; ".join(f"{label} {text}" for label, text in error.details[:5])
    text = " ".join(filter(None, [error.what, rows, f"Expected: {error.expected}." if error.expected else ""]))
    return text.replace(f"{root}/", "")


# --- files -----------------------------------------------------------------------------------------------------------


@dataclass
class Contents:
    """The regular files of a submission, under `root`."""

    root: Path
    files: dict[str, int] = field(default_factory=dict)  # name with "/" -> bytes
    problems: list[str] = field(default_factory=list)  # any: nothing of it is used
    top: str = ""  # the one folder that holds everything, where names begin below it


def gather(source: Path, folder: Path, limits: Mapping[str, Any], wanted: Iterable[str]) -> Contents:
    """The submission's files: a folder's where they lie, an archive's unpacked to `folder`.

    Where none of the files `wanted` is there but everything lies in one folder, names begin in that folder.
    """
    found = Contents(source if source.is_dir() else folder)
    try:
        if source.is_dir():
            walk(found, limits)
        else:
            unpack(source, found, limits)
    except BadSubmission as refused:
        found.problems.append(str(refused))
    except DatasetError as error:  # what it expects instead is a data set
        found.problems.append(error.what.replace(str(source), "the archive"))  # equal bytes, equal facts
    except MemoryError:
        found.problems.append("reading the archive takes more memory than a submission may")
    except OSError as error:
        found.problems.append(f"the submission cannot be read: {error.strerror or error}")
    except Exception as error:  # what readers of damaged archives run into besides
        found.problems.append(short(f"the submission cannot be read: {error or 'it is damaged'}", 300))
    found.problems = [short(problem) for problem in found.problems[:PROBLEMS]]
    if found.problems:
        found.files = {}
    elif not found.files:
        found.problems.append("the submission holds no files")
    else:
        begin_inside(found, wanted)
    return found


def walk(found: Contents, limits: Mapping[str, Any]) -> None:
    """A folder's files. Links are not followed, and refused like everything else that is no file."""
    check, total = Checked(limits, found.problems), 0
    for at, folders, names in os.walk(found.root, onerror=unreadable):
        for name in sorted([*folders, *names]):
            path = Path(at) / name
            status, own = path.lstat(), path.relative_to(found.root).as_posix()
            if stat.S_ISDIR(status.st_mode):
                check.member(own)
                continue
            kind = "file" if stat.S_ISREG(status.st_mode) else "link" if stat.S_ISLNK(status.st_mode) else "device"
            if not check.file(own, kind):
                continue
            total += status.st_size
            found.files[own] = status.st_size
            if total > limits["bytes"]:
                raise BadSubmission(f"the submission holds more than {limits['bytes'] >> 20} MiB")


def unreadable(error: OSError) -> None:
    raise error  # else os.walk leaves the folder out without a word


def unpack(archive: Path, found: Contents, limits: Mapping[str, Any]) -> None:
    """Write an archive's files under found.root. What it takes is counted as it is read, whatever it says itself."""
    budget = Budget(archive, archive.stat().st_size, limits["bytes"], limits["ratio"])
    check = Checked(limits, found.problems)
    with open_archive(archive) as members:
        for member in members:
            try:
                parts = safe_parts(archive, member.name)
            except DatasetError as error:
                found.problems.append(error.what.replace(str(archive), "the archive"))
                parts = ()
            name = "/".join(parts)
            kind = member.kind if parts else "folder"
            if kind == "folder":
                check.member(name)
            elif check.file(name, kind) and not found.problems:
                found.files[name] = write(member, found.root.joinpath(*parts), budget)
                continue
            budget.spend(member.size)  # reading past it costs as much as reading it


def write(member: Member, target: Path, budget: Budget) -> int:
    """One member as a file. Returns its bytes."""
    source, size = member.open(), 0
    if source is None:
        raise BadSubmission(f"{short(member.name, 200)} in the archive is no file")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with source, target.open("xb") as sink:
            while chunk := source.read(CHUNK):
                budget.spend(len(chunk))
                size += sink.write(chunk)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise BadSubmission(f"the archive holds {short(member.name, 200)} both as a file and as a folder") from None
    return size


class Checked:
    """Names of members, one after the other: what is wrong with them goes into `problems`."""

    def __init__(self, limits: Mapping[str, Any], problems: list[str]) -> None:
        self.most, self.problems = limits["members"], problems
        self.count = self.bytes = 0
        self.seen: dict[str, str] = {}

    def member(self, name: str) -> None:
        """Count it. Raises BadSubmission for too many, and for too many problems."""
        self.count += 1
        self.bytes += len(name)
        if self.count > self.most:
            raise BadSubmission(f"it holds more than {self.most:,} files and folders")
        if self.bytes > NAMES:
            raise BadSubmission("its file names take more than 1 MiB")
        if len(self.problems) >= PROBLEMS:
            raise BadSubmission("and more of that kind")
        if name.count("/") > FOLDERS:  # whatever goes through them calls itself for each
            raise BadSubmission(f"its folders are nested deeper than {FOLDERS} levels")

    def file(self, name: str, kind: str) -> bool:
        """Whether this is a file with a name of its own."""
        self.member(name)
        key, shown = plain_name(name), short(name, 200)
        if kind != "file":
            self.problems.append(f"{shown} is a {kind}, where only files are taken")
        elif any(len(os.fsencode(part)) > 255 for part in name.split("/")):
            self.problems.append(f"{shown} is too long a name")
        elif key in self.seen:
            same = "it holds {} twice" if self.seen[key] == name else "it holds {} and {}, one file on some machines"
            self.problems.append(same.format(short(self.seen[key], 200), shown))
        else:
            self.seen[key] = name
            return True
        return False


def begin_inside(found: Contents, wanted: Iterable[str]) -> None:
    """Take the one folder at the top for the submission, as zips of a folder have it."""
    own = [name for name in found.files if not name.startswith(JUNK) and not name.endswith(JUNK)]
    tops = {name.partition("/")[0] for name in own}
    if len(tops) == 1 and all("/" in name for name in own) and not found.files.keys() & set(wanted):
        found.top = tops.pop()
        found.root = found.root / found.top
        found.files = {name.partition("/")[2]: found.files[name] for name in own}


# --- texts -----------------------------------------------------------------------------------------------------------


def entries(
    found: Contents, names: Iterable[str], most: int, read: Callable[[str], dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """{name: what `read` makes of the file's text, or its error}. `most`: bytes of a file."""

    def one(name: str) -> dict[str, Any]:
        if found.files[name] > most:
            raise BadSubmission(f"it has {found.files[name]:,} bytes, more than the {most:,} that are read")
        with (found.root / name).open("rb") as file:
            content = file.read(most + 1)
        try:
            return read(content.decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise BadSubmission("it is no text in UTF-8") from None

    names = sorted(names)
    made = {short(name, 300): entry(partial(one, name), found.root) for name in names[:MANY]}
    more = {"error": f"more than {MANY} files of its kind"}
    return made | {short(name, 300): more for name in names[MANY : 2 * MANY]}


def config(text: str) -> dict[str, Any]:
    """A YAML 1.2 file of settings: {"values": {…}}."""
    try:
        check_events(text)
        content = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        raise BadSubmission(f"it is no YAML{f', line {mark.line + 1}' if mark else ''}: {problem or error}") from None
    if not isinstance(content, dict):
        raise BadSubmission("it holds no settings; expected lines like 'epochs: 12'")
    return {"values": Plain().of(content)}


def check_events(text: str) -> None:
    """Raises BadSubmission, before anything is built, for what could grow: aliases, depth, sheer number."""
    depth = 0
    for count, event in enumerate(YAML(typ="safe", pure=True).parse(io.StringIO(text))):
        if isinstance(event, AliasEvent):
            raise BadSubmission(f"it repeats a part of itself (*{event.anchor}), which no config needs")
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > DEPTH:
            raise BadSubmission(f"it is nested deeper than {DEPTH} levels")
        if count > VALUES:
            raise BadSubmission(f"it holds more than {VALUES:,} values")


def table(text: str) -> dict[str, Any]:
    """A JSON file: {"values": …}."""
    try:
        return {"values": Plain().of(json.loads(text))}
    except json.JSONDecodeError as error:
        raise BadSubmission(f"it is no JSON: {error}") from None


class Plain:
    """Values of YAML and JSON as facts hold them: short texts, numbers that JSON has, not too many, not too deep."""

    left = VALUES

    def of(self, value: Any, depth: int = 0) -> Any:
        self.left -= 1
        if self.left < 0:
            raise BadSubmission(f"it holds more than {VALUES:,} values")
        if depth > DEPTH:
            raise BadSubmission(f"it is nested deeper than {DEPTH} levels")
        if isinstance(value, dict):
            return {short(key, 200): self.of(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self.of(item, depth + 1) for item in value]
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return value if abs(value) < 2**63 else "a number too large"
        if isinstance(value, float) and math.isfinite(value):
            return value
        return short(value)


def rows_of(text: str, columns: Iterable[str]) -> Iterable[dict[str, str]]:
    """Rows of CSV that has at least these columns. Raises BadSubmission."""
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        header = [cell.strip() for cell in next(reader, [])]
        if len(header) > COLUMNS:
            raise BadSubmission(f"it has more than {COLUMNS:,} columns")
        if lacking := [name for name in columns if header.count(name) != 1]:
            first = short(",".join(header), 200)
            raise BadSubmission(f"it has no column {', '.join(lacking)}; its first line is {first!r}")
        for count, row in enumerate(filter(None, reader), 1):
            if count > ROWS:
                raise BadSubmission(f"it has more than {ROWS:,} rows")
            if len(row) != len(header):
                raise BadSubmission(f"row {count} has {len(row)} cells, the first line {len(header)}")
            yield dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise BadSubmission(f"it is no CSV: {error}") from None


def history(text: str) -> dict[str, Any]:
    """history.csv of a run: its rows, a digest of what was learned (equal for equal runs), its last row."""
    digest, count, last = hashlib.sha256(), 0, {}
    for row in rows_of(text, TOLD):
        count, last = count + 1, row
        digest.update((",".join(figure(row[name]) for name in TOLD) + "\n").encode())
    if not count:
        raise BadSubmission("it has no rows")
    return {"rows": count, "digest": digest.hexdigest(), "last": {short(k, 200): number(v) for k, v in last.items()}}


def figure(cell: str) -> str:
    """A number as others would write it, too; other text as it is."""
    value = number(cell)
    return cell.strip() if value is None else f"{value:.6g}"


def number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def predictions(text: str) -> dict[str, Any]:
    """A file of predictions, such as `mslab predict --csv` writes: {"rows": {file: class}}."""
    found: dict[str, str] = {}
    for row in rows_of(text, ("file", "class")):
        name = short(unquoted(row["file"]), 300)
        if name in found:
            raise BadSubmission(f"it names {name} twice")
        found[name] = short(unquoted(row["class"]), 200)
    return {"rows": found}


def unquoted(cell: str) -> str:
    """Without the apostrophe that keeps a spreadsheet from taking the cell for a formula."""
    return cell[1:] if cell[:1] == "'" and cell[1:2] in ("=", "+", "-", "@", "\t", "\r") else cell
