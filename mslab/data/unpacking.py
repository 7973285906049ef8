"""`mslab data import`: a zip or tar of images -> a data set. Nothing in the archive is trusted.

Paths outside the folder, decompression bombs and damaged archives stop the import before anything is in place. Links,
devices and junk are skipped and counted. A process with limited memory unpacks, into a folder that only it can enter.
"""

import functools
import posixpath
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mslab.check import check_dataset
from mslab.check.formats import is_image
from mslab.check.layout import plain_name
from mslab.check.levels import listed, may_have_labels, misplaced
from mslab.check.records import printable
from mslab.check.scan import is_hidden
from mslab.check.splits import says_nothing, split_name, split_names
from mslab.check.tabular import SUFFIXES
from mslab.config import paths
from mslab.data.archives import Budget, Folder, archive_error, image_head, open_archive, safe_parts
from mslab.data.placing import staging_folder
from mslab.errors import DatasetError
from mslab.escaping import command
from mslab.files import kind_of
from mslab.runtime import limited

MAX_FILES = 1_000_000
REST = 0.2  # images outside the folder of the classes, at most, as a share of those in it: thumbnails, figures


@dataclass
class Imported:
    """Result of an import."""

    root: Path
    level: str  # folder of the archive that became the root; "." for its top level
    images: int = 0
    skipped: Counter = field(default_factory=Counter)  # kind -> number of entries
    renamed: dict[str, str] = field(default_factory=dict)  # folder of a split in the archive -> its new name

    def __str__(self) -> str:
        lines = [f"{self.root}: {self.images} images from the archive's folder {self.level}/"]
        lines += [f"  {old}/ is renamed to {new}/" for old, new in self.renamed.items()]
        lines += [f"  skipped: {', '.join(f'{n} {kind}' for kind, n in self.skipped.items())}"] * bool(self.skipped)
        return "\n".join(lines)


def import_archive(archive: Path, out: Path, progress: Callable[[int, int], None] | None = None) -> Imported:
    """Unpack the archive's images to `out`, starting at the folder that contains the classes.

    Raises DatasetError, leaving nothing behind, if the file is not an archive, is damaged, encrypted or a decompression
    bomb, has a path outside its folder, or has no folders of images.
    """
    refuse_no_archive(archive)
    size = archive.stat().st_size if archive.is_file() else 0  # images hardly become smaller in an archive
    with staging_folder(out, size) as partial:
        try:
            partial.mkdir()
            unpacked = limited.call("mslab.data.unpacking:unpack", str(archive), str(partial), progress=progress)
            top = partial / unpacked["level"]
            for old, new in unpacked["renamed"].items():
                (top / old).rename(top / new)
            top.rename(out)
        except MemoryError:
            raise archive_error(archive, f"takes more than {limited.MEMORY >> 30} GiB of memory to unpack") from None
        except OSError as error:
            raise DatasetError(
                f"{archive} cannot be unpacked to {out}: {error.strerror or error}.",
                expected="a readable archive, and enough free space for its images",
                fix="check the path; free some space, or use --out on another disk",
            ) from None
    return Imported(out, unpacked["level"], unpacked["images"], Counter(unpacked["skipped"]), unpacked["renamed"])


def refuse_no_archive(archive: Path) -> None:
    """Raise DatasetError if nothing is there, or a folder."""
    kind = kind_of(archive, links=True)
    if not kind:
        wanted = paths.Wanted("archive", "a zip or tar file", paths.is_archive)
        raise paths.missing(archive, DatasetError, wanted, "correct the path")
    if kind == "a folder":
        raise no_archive(archive)


def no_archive(folder: Path) -> DatasetError:
    """The error of a folder in place of an archive."""
    report = check_dataset(folder, skip_content=True)
    problem, fix, instead = misplaced(next(iter(report.splits.values())))
    return DatasetError(
        f"{folder} is a folder, not an archive: it {problem or 'needs no import'}.",
        expected="a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz file",
        fix=fix if "--labels" in fix else "\n".join(command("check", data) for data in instead or (folder,)),
    )


@dataclass
class Unpacked:
    """What unpack_images wrote, and what it left out."""

    counts: Counter = field(default_factory=Counter)  # folder -> images directly inside
    skipped: Counter = field(default_factory=Counter)  # kind -> number of entries
    tables: list[str] = field(default_factory=list)  # files that may have the labels, by name


def unpack(archive: str, folder: str, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Write the archive's images to `folder`. Returns the values of Imported, as JSON."""
    file = Path(archive)
    done = unpack_images(file, Path(folder), progress)
    refuse_unsorted(file, done)
    counts, skipped = done.counts, done.skipped
    level, has_splits = find_level(file, counts)
    children = {name: below(name, level) for name in counts if below(name, level) is not None}
    images = sum(counts[name] for name in children)
    skipped["images outside that folder"] = counts.total() - images
    renamed = renamed_splits(split_names({child for child in children.values() if child})) if has_splits else {}
    return {"level": level or ".", "images": images, "skipped": +skipped, "renamed": renamed}


def unpack_images(file: Path, folder: Path, progress: Callable[[int, int], None], table: str = "") -> Unpacked:
    """Write the archive's images to `folder`, and the table of this name, at any level."""
    done = Unpacked()
    names: dict[str, str] = {}  # plain name -> name
    with open_archive(file, Budget(file, file.stat().st_size)) as members, Folder(file, folder) as target:
        for member in members:
            parts = safe_parts(file, member.name)
            if member.kind == "folder" or not parts:
                continue
            if kind := left_out(member.kind, parts):
                done.skipped[kind] += 1
                continue
            name = "/".join(parts)
            is_wanted = bool(table) and f"/{name}".endswith(f"/{table}")
            if may_have_labels(name) or is_wanted:
                done.tables.append(name)
            chunks = iter(member.chunks())
            head = b"" if is_image(parts[-1]) or is_wanted else image_head(chunks)
            if head is None:
                done.skipped["files that are not images"] += 1
                continue
            key = plain_name(name)
            if key in names:
                raise archive_error(file, f"contains {names[key]} and {name}, which are the same file on some systems")
            names[key] = name
            with target.create(parts) as sink:
                sink.write(head)
                for chunk in chunks:
                    sink.write(chunk)
            done.counts["/".join(parts[:-1])] += not is_wanted
            if len(names) > MAX_FILES:
                raise archive_error(file, f"contains more than {MAX_FILES:,} images")
            progress(len(names), len(names))
    done.counts = +done.counts
    return done


def refuse_unsorted(archive: Path, done: Unpacked) -> None:
    """Raise DatasetError for images in folders that are no classes, beside a table that may have their labels."""
    folders = {last_part(name) for name in done.counts}
    inner = {name for name in folders if name and not says_nothing(name) and not split_name(name)[0]}
    if not done.tables or not done.counts or len(inner) > 1 or (inner and len(folders) > 1):
        return
    count, tables = done.counts.total(), sorted(done.tables, key=likely)
    texts = [name for name in tables if name.lower().endswith(SUFFIXES)]
    fixes = [command("data", "import", archive, "--labels", name) for name in texts[:3]]
    where = f"all in {printable(next(iter(done.counts)) or 'one folder')}" if len(done.counts) == 1 else "in "
    where += "" if len(done.counts) == 1 else listed(name or "." for name in done.counts)
    raise DatasetError(
        f"{archive} has {count} images in no folders of classes: {where}.",
        details=[("beside them", listed(tables))],
        expected="a folder of images for each class, or the table that says the class of each image",
        fix="\n".join(fixes) or f"save {printable(tables[0])} as CSV and name it: --labels FILE.csv",
    )


def likely(table: str) -> tuple[bool, int, str]:
    """For sorting: tables of labels first, of which that of the training images; then those of other things."""
    name = last_part(table).lower()
    split = split_name(name.rpartition(".")[0])[0]
    return "submission" in name or split == "test", ("train", "", "val").index(split) if split != "test" else 3, name


def left_out(kind: str, parts: tuple[str, ...]) -> str:
    """What a member is that is no image by its place, or "". Images in a visible folder such as rank_0 are a class."""
    if kind != "file":
        return f"{kind}s"
    if any(is_hidden(part) or part.lower() == "__macosx" for part in parts[:-1]):
        return "files in folders that tools leave behind"
    return "hidden files" if is_hidden(parts[-1]) else ""


def find_level(archive: Path, counts: Mapping[str, int]) -> tuple[str, bool]:
    """(the folder that becomes the root, whether it contains splits).

    It is the highest folder whose classes or splits contain the most images, unless more than a small rest would be
    lost: then the one that contains all, and the check says what its folders are.

    `counts`: folder -> number of images directly inside; "" is the top.
    """
    classes: Counter = Counter()  # folder -> images directly inside its subfolders
    inside: dict[str, set[str]] = defaultdict(set)  # folder -> its subfolders that have images in them at any level
    for name, number in counts.items():
        if name:
            classes[name.rpartition("/")[0]] += number
        while name:
            name, _, child = name.rpartition("/")
            inside[name].add(child)
    spelled = functools.cache(lambda name: split_names(inside[name]))
    splits: Counter = Counter()  # folder -> images in the classes of its splits
    for name, number in classes.items():
        found = None  # the highest one, for train/train
        while name and (found is None or len(inside[name]) == 1):
            name, _, child = name.rpartition("/")
            if child in spelled(name):
                found = name
            elif len(inside[name]) > 1:
                break
        if found is not None:
            splits[found] += number
    if not classes:
        raise archive_error(archive, "contains no folders of images", "one folder of images per class, at any level")
    level = min(
        classes | splits, key=lambda name: (-max(classes[name], splits[name]), name.count("/"), name != "", name)
    )
    inner = {name for name in counts if below(name, level) is not None}
    outer = counts.keys() - inner
    kept = sum(counts[name] for name in inner)
    # folders of the same names beside it are folds, or the splits of another class: no thumbnails
    like = {last_part(name) for name in inner} & {last_part(name) for name in outer}
    if outer and (like or sum(counts[name] for name in outer) > REST * kept):
        return posixpath.commonpath(counts), False
    return level, splits[level] >= classes[level]


def last_part(folder: str) -> str:
    return folder.rpartition("/")[2]


def below(folder: str, level: str) -> str | None:
    """The name of the folder inside `level` that contains `folder`; "" for `level` itself, None outside."""
    # below("set/train/a", "set") -> "train"
    if folder == level:
        return ""
    start = f"{level}/" if level else ""
    return folder[len(start) :].partition("/")[0] if folder.startswith(start) else None


def renamed_splits(spelled: Mapping[str, str]) -> dict[str, str]:
    """{name of a folder: its new name} of the splits with other names; of two that would be one split, the first."""
    taken, renamed = {name for name, split in spelled.items() if name == split}, {}
    for name, split in sorted(spelled.items()):
        if split not in taken:
            taken.add(split)
            renamed[name] = split
    return renamed
