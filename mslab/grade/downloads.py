"""A platform's download of a whole class, one zip or tar: unpacked for the time of grading, under limits of its own.

A file in it that cannot be written costs nobody else anything: it is left out and listed.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mslab.data.archives import Budget, Folder, open_archive, safe_parts
from mslab.errors import DatasetError, MslabError
from mslab.files import kind_of
from mslab.grade import platforms
from mslab.grade.private import disk_error
from mslab.grade.submissions import Found, find_class
from mslab.runtime import limited

MAX_BYTES = 64 << 30  # of a class
MAX_FILES = 200_000
LEFT_OUT = 20  # files that are listed, at most


@contextmanager
def find_submissions(place: Path, expected: Iterable[str]) -> Iterator[Found]:
    """Find the submissions in a folder, or in an archive that is unpacked until the block ends.

    Raises MslabError if there are none, or if the archive is damaged or is one student's submission.
    """
    if kind_of(place, links=True) != "a file":
        yield find_class(place, expected)
        return
    from mslab.grade.progress import temporary_folder  # imports MindSpore, which the process that unpacks does not need

    with temporary_folder() as temporary:
        folder = temporary / "class"
        folder.mkdir()
        try:
            left_out = limited.call("mslab.grade.downloads:unpack", str(place), str(folder))
        except DatasetError as error:
            raise MslabError(
                error.what,
                expected="a folder with one zip, tar or folder per student, or a platform's download: one zip or tar",
                fix="unpack it and give the folder",
            ) from None
        except MemoryError:
            raise MslabError(
                f"{place} takes more than {limited.MEMORY >> 30} GiB of memory to unpack.",
                expected="a platform's download",
                fix="unpack it and give the folder",
            ) from None
        except OSError as error:
            raise disk_error(temporary, error) from None
        expected = list(expected)
        if own := next((name for name in expected if (folder / name).is_file()), ""):
            raise MslabError(
                f"{place} is one student's submission: it contains {own}.",
                expected="a folder with one zip, tar or folder per student, or a platform's download of all",
                fix="move it to a new folder, and give that folder",
            )
        found = find_class(folder, expected, 2)  # downloads often have a folder around everything
        found.left_out += [(name, reason) for name, reason in left_out]
        yield found


def unpack(archive: str, folder: str, progress: Callable[[int, int], None]) -> list[list[Any]]:
    """Write the archive's files to `folder`. Returns [name, reason] of those that were left out."""
    file, count = Path(archive), 0
    left_out: list[list[Any]] = []
    budget = Budget(file, file.stat().st_size, MAX_BYTES)
    with open_archive(file, budget) as members, Folder(file, Path(folder)) as target:
        for member in members:
            try:
                parts = safe_parts(file, member.name)
                if not parts or any(map(platforms.is_system, parts)):
                    continue
                if member.kind == "folder":  # also an empty one is a student's
                    target.make(parts)
                    continue
                count += 1
                if count > MAX_FILES:
                    left_out.append(["", f"it contains more than {MAX_FILES:,} files; the rest was not unpacked"])
                    break
                if member.kind != "file":
                    left_out.append(["/".join(parts), f"it is a {member.kind}"])
                    continue
                sink = target.create(parts)
            except DatasetError as error:
                left_out.append([member.name[:200], error.what.replace(f"{archive} ", "its archive ")])
                continue
            with sink:
                for chunk in member.chunks():
                    sink.write(chunk)
            progress(count, count)
    return left_out[:LEFT_OUT]
