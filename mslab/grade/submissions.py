"""Which submissions there are: one zip, tar or folder a student. Bytes are hashed; nothing is opened here."""

import hashlib
import os
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mslab.check.layout import plain_name
from mslab.check.report import printable
from mslab.errors import MslabError

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MOST = 8 * 2**30  # bytes of a submission that are hashed
CHUNK = 1 << 20
LOOK_ALIKES = str.maketrans(  # letters of other scripts that look like Latin ones (of Unicode's confusables)
    "аеорсухіјѕһԁԛԝвнкмтАВЕКМНОРСТХІЈЅαβεικνορτυχΑΒΕΖΗΙΚΜΝΟΡΤΥΧıℓ0",
    "aeopcyxijshdqwbhkmtABEKMHOPCTXIJSaveikvoptuxABEZHIKMNOPTYXilo",
)


@dataclass
class Submission:
    """One student's. `problem`: why it cannot be graded, before it is opened."""

    id: str
    path: Path
    sha256: str
    problem: str = ""
    flags: list[str] = field(default_factory=list)


def find(folder: str | Path) -> list[Submission]:
    """The submissions of a folder, by id. Raises MslabError where there is none."""
    folder = Path(folder)
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX")))
    except OSError as error:
        raise MslabError(
            f"{folder} cannot be read: {error.strerror}.",
            expected="a folder with one zip, tar or folder a student",
            fix="correct the path",
        ) from None
    if not paths:
        raise MslabError(
            f"{folder} has no submission.",
            expected="one zip, tar or folder a student, named as the student is",
            fix="put them there; mslab pack RUN makes one",
        )
    found = [Submission(name_of(path), path, *hashed(path)) for path in paths]
    by_id: dict[str, list[Submission]] = {}
    for each in found:
        by_id.setdefault(each.id, []).append(each)
    for same in by_id.values():
        if len(same) > 1:
            names = ", ".join(printable(each.path.name) for each in same)
            for each in same:
                each.problem = f"two submissions have the id {each.id}: {names}; hand in one"
                each.id = printable(each.path.name)  # so that each has a page of its own that says so
    alike(found)
    return sorted(found, key=lambda each: (each.id, each.path.name))


def name_of(path: Path) -> str:
    """The id: the file's name without what says that it is an archive."""
    lower = path.name.lower()
    end = next((end for end in ARCHIVES if lower.endswith(end) and len(lower) > len(end)), "")
    return printable(path.name[: len(path.name) - len(end)])


def alike(found: list[Submission]) -> None:
    """Flag ids that are one on some machines, or that look like one."""
    seen: dict[str, list[Submission]] = {}
    for each in found:
        looks = unicodedata.normalize("NFKC", each.id).translate(LOOK_ALIKES)
        bare = "".join(c for c in unicodedata.normalize("NFKD", looks) if unicodedata.category(c)[0] not in "CM")
        seen.setdefault(plain_name(bare).replace(" ", ""), []).append(each)
    for same in seen.values():
        for each in same:
            for other in same:
                if other is not each:
                    each.flags.append(f"the id looks like that of {other.id!a}")


def hashed(path: Path) -> tuple[str, str]:
    """(sha256 of its bytes, or of a folder's names and contents; why it cannot be used or "")."""
    digest, total = hashlib.sha256(), 0
    try:
        for name, file in contents(path):
            digest.update(name)
            if file is None:
                continue
            with file.open("rb") as source:
                while chunk := source.read(CHUNK):
                    digest.update(chunk)
                    total += len(chunk)
                    if total > MOST:
                        return digest.hexdigest(), f"it has more than {MOST >> 30} GiB"
    except OSError as error:
        return digest.hexdigest(), f"it cannot be read: {error.strerror}"
    return digest.hexdigest(), ""


def contents(path: Path) -> Iterator[tuple[bytes, Path | None]]:
    """(kind, name and size, the file or None for what is none), in order. Links are not followed, pipes not opened."""
    info = path.lstat()
    if not stat.S_ISDIR(info.st_mode):
        yield b"file\0", path if stat.S_ISREG(info.st_mode) else None
        return
    for folder, names, files in os.walk(path):
        names.sort()
        for name in sorted([*files, *(n for n in names if (Path(folder) / n).is_symlink())]):
            file = Path(folder) / name
            status = file.lstat()
            kind = "file" if stat.S_ISREG(status.st_mode) else "link" if stat.S_ISLNK(status.st_mode) else "other"
            row = os.fsencode(f"{kind}\0{file.relative_to(path)}\0{status.st_size}\0")
            yield row, file if kind == "file" else None
