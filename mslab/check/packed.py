"""A packed split: a folder with pack.json and shards, written by `mslab data pack`, which checked the images.

Sizes are always compared, contents (sha256) on request, both before MindSpore opens a shard. No MindSpore here.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mslab import files
from mslab.errors import DatasetError
from mslab.escaping import command

NAME = "pack.json"
SCHEMA = 1
INDEX = ".db"  # suffix of MindRecord's index, which is beside its shard under the same name


@dataclass(frozen=True)
class PackPart:
    """One file of a pack: a shard or its index."""

    name: str
    size: int  # bytes
    sha256: str  # of the file, hexadecimal


@dataclass(frozen=True)
class Pack:
    """Content of pack.json. The shards contain the images one after the other, sorted by class, then by name."""

    class_names: list[str]  # in index order
    counts: list[int]  # images of each class, which gives every image's label
    pixels: int  # width times height, summed over all images
    fingerprint: str  # of the images; the same for any number of shards
    parts: list[PackPart]  # shard, its index, the next shard …

    @property
    def shards(self) -> list[str]:
        return [part.name for part in self.parts if not part.name.endswith(INDEX)]

    def to_json(self) -> str:
        return json.dumps({"schema": SCHEMA} | asdict(self), indent=1) + "\n"


def is_pack(folder: Path) -> bool:
    return files.kind_of(folder / NAME, links=True) == "a file"  # also where it may not be asked


def read(folder: Path) -> Pack:
    """Read pack.json. Raises DatasetError if it cannot be used."""
    try:
        content = files.read_json(folder / NAME)
        schema = content["schema"]
        if schema == SCHEMA:
            return _pack(content)
        problem = f"has schema {schema!r}"
        if type(schema) is int and schema > SCHEMA:
            raise DatasetError(
                f"{folder / NAME} has schema {schema}: a newer mslab wrote it.",
                expected=f"schema {SCHEMA}",
                fix=f"update mslab, or pack the images with this one: {_pack_again(folder)}",
            )
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except ValueError as error:  # not JSON, not UTF-8, or wrong content
        problem = f"is not a file that mslab data pack wrote: {error}"
    except (KeyError, TypeError, RecursionError) as error:
        problem = f"is not a file that mslab data pack wrote: {type(error).__name__} {error}"
    raise DatasetError(
        f"{folder / NAME} {problem}.",
        expected="the unchanged file from mslab data pack",
        fix=f"restore it, or pack again: {_pack_again(folder)}",
    )


def _pack(content: dict[str, Any]) -> Pack:
    """Validate the content. Raises ValueError, KeyError or TypeError if an entry is missing or wrong."""
    names, counts = content["class_names"], content["counts"]
    parts = [PackPart(**part) for part in content["parts"]]
    pack = Pack(names, counts, content["pixels"], content["fingerprint"], parts)
    plain = all(type(name) is str and name == Path(name).name for name in [*names, *(p.name for p in pack.parts)])
    if not plain or names != sorted(set(names)) or len(counts) != len(names):
        raise ValueError("its names are not plain file names, or not sorted")
    numbers = [*counts, pack.pixels, *(part.size for part in pack.parts)]
    if any(type(number) is not int or number < 1 for number in numbers):
        raise ValueError("one of its numbers is not an integer of at least 1")
    if sum(counts) > sum(part.size for part in pack.parts):
        raise ValueError("it counts more images than its shards have bytes")
    if type(pack.fingerprint) is not str or [p.name for p in pack.parts[1::2]] != [s + INDEX for s in pack.shards]:
        raise ValueError("its parts are not shards, each with its index")
    return pack


def verify(folder: Path, pack: Pack, deep: bool, progress: Callable[[int, int], None] | None = None) -> None:
    """Raise DatasetError that names every part that is missing, has another size or, if `deep`, another content."""
    wrong: list[tuple[str, str]] = []
    for done, part in enumerate(pack.parts, 1):
        path = folder / part.name
        try:
            size = path.stat().st_size
            if size != part.size:
                wrong.append((part.name, f"has {size} bytes, not {part.size}: {'cut off' * (size < part.size)}"))
            elif deep and files.sha256(path) != part.sha256:
                wrong.append((part.name, "has other content than when it was written"))
        except FileNotFoundError:
            wrong.append((part.name, "is missing" + " (the index of a shard)" * part.name.endswith(INDEX)))
        except OSError as error:
            wrong.append((part.name, f"cannot be read: {error.strerror}"))
        if deep and progress:
            progress(done, len(pack.parts))
    if wrong:
        count = "1 file" if len(wrong) == 1 else f"{len(wrong)} files"
        raise DatasetError(
            f"The pack {folder} is damaged: {count} of {len(pack.parts)}.",
            details=[(name, text.removesuffix(": ")) for name, text in wrong[:8]]
            + [("…", f"and {len(wrong) - 8} more")] * (len(wrong) > 8),
            expected=f"the files with the sizes and sha256 in {folder / NAME}",
            fix=f"copy it again, or pack again: {_pack_again(folder)}",
        )


def _pack_again(folder: Path) -> str:
    """The command for a pack that replaces this folder, or its parent if this is a split of a pack."""
    top = folder.parent if folder.name in ("train", "val", "test") else folder
    return command("data", "pack", "ROOT", "--out", top.with_name(f"{top.name}-again"))
