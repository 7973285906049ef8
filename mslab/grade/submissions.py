"""Which submissions there are: one zip, tar or folder a student. Bytes are hashed; nothing is opened here."""

import hashlib
import logging
import os
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path

from mslab.check.layout import plain_name
from mslab.check.records import printable
from mslab.errors import MslabError
from mslab.grade.contents import unreadable

log = logging.getLogger("mslab")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MOST = 8 * 2**30  # bytes of a submission that are hashed
NAMES = 100_000  # files and folders of a submission that are hashed
DEPTH = 100  # folders in folders
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
        every = sorted(folder.iterdir())
    except OSError as error:
        raise MslabError(
            f"{folder} cannot be read: {error.strerror}.",
            expected="a folder with one zip, tar or folder a student",
            fix="correct the path",
        ) from None
    paths = [path for path in every if not path.name.startswith((".", "__MACOSX"))]
    for path in sorted(set(every) - set(paths)):
        log.info(f"note: {printable(path.name)} is hidden, and no submission")
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
                # so that each has a page of its own that says so
                each.id = own_name(each, paths, set(by_id) - {each.id})
    alike(found)
    return sorted(found, key=lambda each: (each.id, each.path.name))


def name_of(path: Path) -> str:
    """The id: the file's name without what says that it is an archive."""
    lower = path.name.lower()
    end = next((end for end in ARCHIVES if lower.endswith(end) and len(lower) > len(end)), "")
    return printable(path.name[: len(path.name) - len(end)])


def own_name(each: Submission, paths: list[Path], ids: set[str]) -> str:
    """What a submission is called whose id another one has, too: its file's name, or one that nobody else has."""
    name = printable(each.path.name)
    # "anna.zip" is also the id of anna.zip.zip; a name that is no UTF-8 is written as another one may be
    if name in ids or sum(printable(path.name) == name for path in paths) > 1:
        return f"{name} ({hashlib.sha256(os.fsencode(each.path.name)).hexdigest()[:12]})"
    return name


def alike(found: list[Submission]) -> None:
    """Flag ids that are one on some machines, or that look like one."""
    seen: dict[str, list[Submission]] = {}
    for each in found:
        looks = unicodedata.normalize("NFKC", each.id).translate(LOOK_ALIKES)
        bare = "".join(c for c in unicodedata.normalize("NFKD", looks) if unicodedata.category(c)[0] not in "CM")
        seen.setdefault(plain_name(bare).replace(" ", ""), []).append(each)
    for same in seen.values():
        for each, other in permutations(same, 2):
            each.flags.append(f"the id looks like that of {other.id!a}")


def hashed(path: Path) -> tuple[str, str]:
    """(sha256 of its bytes, or of a folder's names and contents; why it cannot be used or "")."""
    digest, total, count = hashlib.sha256(), 0, 0
    try:
        kind = kind_of(path.lstat().st_mode)
        if kind not in ("file", "folder"):
            texts = {"link": "it is a link: put what it leads to in its place", "other": "it is no file and no folder"}
            return digest.hexdigest(), texts[kind]
        for name, file in contents(path):
            digest.update(name)
            count += 1
            if count > NAMES:
                return digest.hexdigest(), f"it holds more than {NAMES:,} files and folders"
            if file is None:
                continue
            if total + file.lstat().st_size > MOST:  # a file with holes is as large as it likes
                return digest.hexdigest(), f"it has more than {MOST >> 30} GiB"
            with file.open("rb") as source:
                while chunk := source.read(CHUNK):
                    digest.update(chunk)
                    total += len(chunk)
                    if total > MOST:
                        return digest.hexdigest(), f"it has more than {MOST >> 30} GiB"
    except OSError as error:
        return digest.hexdigest(), f"it cannot be read: {error.strerror}"
    except RecursionError:
        return digest.hexdigest(), f"its folders are nested deeper than {DEPTH} levels"
    return digest.hexdigest(), ""


def kind_of(mode: int) -> str:
    """file, folder, link or other."""
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
    return kinds.get(stat.S_IFMT(mode), "other")


def contents(path: Path) -> Iterator[tuple[bytes, Path | None]]:
    """(kind, name and size, the file or None for what is none), in order. Links are not followed, pipes not opened."""
    if not path.is_dir():
        yield b"file\0", path
        return
    for folder, names, files in os.walk(path, onerror=unreadable):
        names.sort()
        if len(Path(folder).relative_to(path).parts) > DEPTH:  # os.walk calls itself for each
            raise RecursionError
        for name in sorted([*files, *names]):
            file = Path(folder) / name
            status = file.lstat()
            kind = kind_of(status.st_mode)
            size = 0 if kind == "folder" else status.st_size  # a folder's is the disk's affair
            yield os.fsencode(f"{kind}\0{file.relative_to(path)}\0{size}\0"), file if kind == "file" else None
