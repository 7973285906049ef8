"""An archive of `mslab archive` -> a run folder. Nothing in it is trusted: names, sizes and contents are compared
with its archive.json, and archive.json itself with what mslab writes.
"""

import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mslab.check.layout import plain_name
from mslab.check.scan import is_image
from mslab.data import unpacking
from mslab.data.unpacking import Budget, Member
from mslab.errors import DatasetError, RunError
from mslab.reproduce.archiving import ENVIRONMENT, FILES, LISTING, SPLITS, WEIGHTS
from mslab.runs import manifest

LISTING_BYTES = 2**28  # some 200 bytes an image
FIXED = (*FILES, *WEIGHTS, ENVIRONMENT)
NEEDED = ("config.yaml", "manifest.json")
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Listing(BaseModel):
    """archive.json."""

    model_config = ConfigDict(extra="forbid", strict=True)
    schema_: Literal[1] = Field(alias="schema")
    run: Annotated[str, Field(pattern=r"^[^/\\.\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*$", max_length=200)]
    data: bool
    members: Annotated[dict[str, Hash], Field(max_length=unpacking.MAX_FILES)]
    sizes: dict[str, Annotated[int, Field(ge=0)]]  # bytes


def unpack(archive: str | Path, progress: Callable[[int, int], None] | None = None) -> Path:
    """Write the archive's members to runs/NAME-from-archive. Returns that folder, which is there only when whole.

    Raises RunError, and leaves nothing behind, where the archive is not what `mslab archive` writes.
    """
    file = Path(archive)
    if not file.is_file():
        raise RunError(
            f"There is no archive {file}.", expected="a zip that mslab archive RUN has written", fix="correct the path"
        )
    if not zipfile.is_zipfile(file):
        raise refused(f"{file} is no zip.")
    partial: Path | None = None
    try:
        with unpacking.open_archive(file) as members:
            found = names_of(file, list(members))
            listing = listing_of(file, found)
            target = free_place(listing.run)
            partial = target.with_name(f".{target.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            write(file, partial, found, listing, progress)
        try:
            manifest.load(partial)
        except RunError as error:
            raise refused(f"{file}: {error.what.replace(f'{partial}/', '')}", error.details) from None
        (partial / "checkpoints").mkdir(exist_ok=True)
        partial.rename(target)
    except DatasetError as error:  # unpacking's: names that lead out, bombs, damage
        raise refused(error.what) from None
    except OSError as error:
        raise RunError(
            f"{file} cannot be unpacked under {Path('runs').absolute()}: {error.strerror or error}.",
            expected="room on the disk, and a folder that can be written to",
            fix="free some space, or cd elsewhere",
        ) from None
    finally:
        if partial:
            shutil.rmtree(partial, ignore_errors=True)
    return target


def names_of(archive: Path, members: list[Member]) -> dict[str, Member]:
    """{name: member}, each a plain file inside, none twice."""
    found: dict[str, Member] = {}
    plain: dict[str, str] = {}
    for member in members:
        name = "/".join(unpacking.safe_parts(archive, member.name))
        if member.kind != "file" or name != member.name:
            raise refused(f"{archive} holds {member.name[:200]!r}, a {member.kind} that mslab archive does not write.")
        if earlier := plain.get(plain_name(name)):
            raise refused(f"{archive} holds {earlier[:200]!r} and {name[:200]!r}, which are one file on some machines.")
        plain[plain_name(name)] = name
        found[name] = member
    return found


def listing_of(archive: Path, found: dict[str, Member]) -> Listing:
    """archive.json, when it lists exactly the members that are there, and none that a run has not."""
    if LISTING not in found:
        raise refused(f"{archive} has no {LISTING}.")
    with found[LISTING].open() as source:  # type: ignore[union-attr]
        text = source.read(LISTING_BYTES + 1)
    try:
        if len(text) > LISTING_BYTES:
            raise ValueError(f"it has more than {LISTING_BYTES >> 20} MiB")
        content = json.loads(text)
        newer = content.get("schema") if isinstance(content, dict) else None
        if type(newer) is int and newer > 1:
            raise RunError(
                f"{archive} has schema {newer}: a newer mslab wrote it.", expected="schema 1", fix="update mslab"
            )
        listing = Listing.model_validate(content)
    except (ValidationError, ValueError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else str(error)
        raise refused(f"{archive} has a {LISTING} that mslab archive did not write: {why[:200]}.") from None
    there = set(found) - {LISTING}
    rows = [(name, "listed, but not there") for name in sorted(set(listing.members) - there)]
    rows += [(name, "there, but not listed") for name in sorted(there - set(listing.members))]
    rows += [(name, "has no size") for name in sorted(set(listing.members) ^ set(listing.sizes))]
    rows += [(name, "is no file of a run") for name in sorted(listing.members) if not belongs(name)]
    rows += [(name, "listed by no archive without it") for name in NEEDED if name not in listing.members]
    if rows:
        raise refused(f"{archive} and its {LISTING} do not agree.", rows)
    return listing


def belongs(name: str) -> bool:
    """Whether mslab archive writes such a member."""
    parts = PurePosixPath(name).parts
    if parts[0] == "data":
        return len(parts) == 4 and parts[1] in SPLITS and is_image(parts[3])
    return name in FIXED or (parts[0] == "parent" and len(parts) == 2)


def write(
    archive: Path, folder: Path, found: dict[str, Member], listing: Listing, progress: Callable[[int, int], None] | None
) -> None:
    """Each member, up to its listed size, with its listed sha256."""
    budget = Budget(archive, archive.stat().st_size)
    for done, (name, digest) in enumerate(listing.members.items(), 1):
        target = folder.joinpath(*name.split("/"))
        target.parent.mkdir(parents=True, exist_ok=True)
        hashed, size = hashlib.sha256(), 0
        with found[name].open() as source, target.open("xb") as sink:  # type: ignore[union-attr]
            while chunk := source.read(unpacking.CHUNK):
                size += len(chunk)
                budget.spend(len(chunk))
                if size > listing.sizes[name]:
                    raise refused(f"{archive}: {name} is larger than {LISTING} says ({listing.sizes[name]} bytes).")
                hashed.update(chunk)
                sink.write(chunk)
        if hashed.hexdigest() != digest:
            row = (name, f"sha256 {hashed.hexdigest()[:12]}…, {LISTING} says {digest[:12]}…")
            raise refused(f"{archive}: {name} has another content than {LISTING} says.", [row])
        if progress:
            progress(done, len(listing.members))


def free_place(name: str) -> Path:
    stem = f"{re.sub(r'-from-archive(-[0-9]+)?$', '', name)}-from-archive"
    number = 1
    while (place := Path("runs") / (stem if number == 1 else f"{stem}-{number}")).exists():
        number += 1
    return place


def refused(what: str, rows: list[tuple[str, str]] | None = None) -> RunError:
    rows = [(name[:200], text) for name, text in rows or []]
    more = [("…", f"and {len(rows) - 8} more")] * (len(rows) > 8)
    return RunError(
        what,
        details=rows[:8] + more,
        expected="an archive as mslab archive RUN wrote it, whole",
        fix="copy it again, or have it made anew; nothing was written",
    )
