"""Read a submission inside the worker: files, configs, JSON, histories, predictions. Nothing is trusted.

A problem with a file becomes one entry {"error": text for the student}; no file can stop the worker.
"""

import csv
import errno
import hashlib
import io
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mslab.data.archives import Budget
from mslab.errors import DatasetError, MslabError, explain
from mslab.files import FormatError, decode, delimiter_of, parse_json
from mslab.grade.choosing import choose_folder, open_inner, without_path
from mslab.grade.members import PROBLEMS, BadSubmission, Contents, MemberCheck, short, unpack, walk
from mslab.safe_yaml import parse_yaml

MAX_FILES = 50  # files of one kind that are read
DEPTH = 20  # levels of nested tables
VALUES = 20_000  # values in one file
YAML_BYTES, JSON_BYTES, CSV_BYTES = 64 << 10, 1 << 20, 4 << 20
ROWS, COLUMNS = 100_000, 2000
DIGEST_COLUMNS = ("epoch", "lr", "train_loss", "train_acc", "val_loss", "val_acc")  # of history.csv, without times
FULL = (errno.ENOSPC, errno.EDQUOT)  # the disk's fault, not the submission's


def entry(read: Callable[[], dict[str, Any]], contents: Contents) -> dict[str, Any]:
    """Return read()'s result, or {"error": text} if it fails, so that a bad file is one bad entry."""
    try:
        return read()
    except BadSubmission as error:
        return {"error": short(error)}
    except MslabError as error:
        return {"error": short(error_line(error, contents))}
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
        return {"error": short(contents.relative(f"it cannot be read: {error or 'it is damaged'}"), 300)}


def error_line(error: MslabError, contents: Contents) -> str:
    """An error's message, details and expectation on one line, with paths relative to the submission."""
    rows = "; ".join(f"{label} {text}" for label, text in error.details[:5])
    text = " ".join(filter(None, [error.what, rows, f"Expected: {error.expected}." if error.expected else ""]))
    return contents.relative(text)


# --- files -----------------------------------------------------------------------------------------------------------


def gather(source: Path, folder: Path, limits: Mapping[str, Any], expected: Iterable[str]) -> Contents:
    """List the submission's files: a folder's in place, an archive's unpacked below `folder`.

    If `expected` files are missing, archives in it are opened as well. Names are relative to the folder with the most
    expected files; if there is none, to the innermost folder that contains everything.
    """
    contents, names = Contents(source if source.is_dir() else folder), list(dict.fromkeys(expected))
    check = MemberCheck(limits, contents.problems)
    try:
        if source.is_dir():
            walk(contents, limits, check)
            budget = Budget(source, sum(contents.files.values()), limits["bytes"], limits["ratio"])
        else:
            budget = Budget(source, source.stat().st_size, limits["bytes"], limits["ratio"])
            for name, size in unpack(source, folder, budget, check).items():
                contents.add(name, folder / name, size)
        if not contents.problems:
            open_inner(contents, folder, budget, check, names)
    except BadSubmission as error:
        contents.problems.append(str(error))
    except DatasetError as error:  # its `expected` part speaks of data sets
        contents.problems.append(without_path(error, source))  # equal bytes give equal facts
    except MemoryError:
        contents.problems.append("reading the archive takes more memory than a submission may use")
    except OSError as error:
        if error.errno in FULL:
            raise
        contents.problems.append(f"the submission cannot be read: {error.strerror or error}")
    except Exception as error:  # readers of damaged archives raise other types, too
        contents.problems.append(short(f"the submission cannot be read: {error or 'it is damaged'}", 300))
    if not contents.problems and not contents.files:
        contents.problems.append("the submission contains no files")
    contents.problems = [short(problem) for problem in contents.problems[:PROBLEMS]]
    contents.notes = [short(note, 300) for note in contents.notes[:PROBLEMS]]
    if contents.problems:
        contents.files = {}
    else:
        choose_folder(contents, names)
    return contents


# --- texts -----------------------------------------------------------------------------------------------------------


def entries(
    contents: Contents, names: Iterable[str], most: int, read: Callable[[str], dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """{name: result of `read` on the file's text, or its error}. `most`: bytes of a file."""

    def parse_file(name: str) -> dict[str, Any]:
        if contents.files[name] > most:
            raise BadSubmission(f"it has {contents.files[name]:,} bytes; at most {most:,} are read")
        with contents.paths[name].open("rb") as file:
            content = file.read(most + 1)
        try:
            return read(decode(content))
        except FormatError as error:
            raise BadSubmission(str(error)) from None

    names = sorted(names)
    parsed = {short(name, 300): entry(partial(parse_file, name), contents) for name in names[:MAX_FILES]}
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
