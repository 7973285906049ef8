"""The files of a submission: a folder's are listed, an archive's unpacked, each name is checked. Nothing is trusted."""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mslab.check.layout import plain_name
from mslab.data.archives import Budget, Folder, open_archive, safe_parts
from mslab.errors import DatasetError
from mslab.escaping import escape_control
from mslab.grade.platforms import is_system

TEXT = 2000  # characters of a text, at most
PROBLEMS = 20  # listed problems, at most
NAME_BYTES = 1 << 20  # of all file names together
FOLDERS = 100  # levels of nested folders
MAX_SKIPPED = 100_000  # files of operating systems and tools, such as those of a clone's .git


def short(text: object, most: int = TEXT) -> str:
    """Text as the facts may contain it: no control characters, at most `most` characters."""
    text = escape_control(str(text)[: 2 * most])
    return text if len(text) <= most else text[: most - 1] + "…"


class BadSubmission(Exception):
    """A problem with a file or with the entire submission; the message is for the student."""


@dataclass
class Contents:
    """The regular files of a submission."""

    root: Path
    files: dict[str, int] = field(default_factory=dict)  # name with "/" -> bytes
    paths: dict[str, Path] = field(default_factory=dict)  # name -> file
    problems: list[str] = field(default_factory=list)  # if there are any, no file is used
    notes: list[str] = field(default_factory=list)  # for the teacher: what was taken, what was not opened
    unused: list[str] = field(default_factory=list)  # folders and archives with weights that are not graded
    top: str = ""  # the folder or archive in it that names are relative to

    def add(self, name: str, path: Path, size: int) -> None:
        self.files[name], self.paths[name] = size, path

    def relative(self, text: str) -> str:
        """A text with the submission's own names instead of paths, so that equal bytes give equal facts."""
        for name, path in sorted(self.paths.items(), key=lambda pair: -len(str(pair[1]))):
            text = text.replace(str(path), name)
        return text.replace(f"{self.root}/", "")


def walk(contents: Contents, limits: Mapping[str, Any], check: "MemberCheck") -> None:
    """List a folder's files. Links are refused, not followed, as is everything else that is not a regular file."""
    total = 0
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
            contents.add(name_inside, path, status.st_size)
            if total > limits["bytes"]:
                raise BadSubmission(f"the submission contains more than {limits['bytes'] >> 20} MiB")


def raise_error(error: OSError) -> None:
    raise error  # otherwise os.walk skips the folder silently


def unpack(archive: Path, folder: Path, budget: Budget, check: "MemberCheck", prefix: str = "") -> dict[str, int]:
    """Write an archive's files to a new folder. Returns name -> bytes; {} if `check` finds problems.

    Unpacked bytes are counted; declared sizes are not trusted. `prefix`: of the names that `check` gets.
    """
    sizes: dict[str, int] = {}
    folder.mkdir(parents=True, exist_ok=True)
    with open_archive(archive, budget) as members, Folder(archive, folder) as target:
        for member in members:
            try:
                parts = safe_parts(archive, member.name)
            except DatasetError as error:
                check.problems.append(error.what.replace(str(archive), "the archive"))
                parts = ()
            if any(map(is_system, parts)) and member.kind in ("file", "folder"):
                check.skip()
                continue
            name = "/".join(parts)
            kind = member.kind if parts else "folder"
            if kind == "folder":
                check.member(prefix + name)
            elif check.file(prefix + name, kind) and not check.problems:
                with target.create(parts) as sink:
                    sizes[name] = sum(sink.write(chunk) for chunk in member.chunks())
    return {} if check.problems else sizes


class MemberCheck:
    """Check the names of members in turn; problems are appended to `problems`."""

    def __init__(self, limits: Mapping[str, Any], problems: list[str]) -> None:
        self.most, self.problems = limits["members"], problems
        self.count = self.bytes = self.skipped = 0
        self.names: dict[str, str] = {}

    def skip(self) -> None:
        """Count a member that is not used. Raises BadSubmission for too many."""
        self.skipped += 1
        if self.skipped > MAX_SKIPPED:
            raise BadSubmission(f"it contains more than {MAX_SKIPPED:,} files of operating systems and tools")

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
