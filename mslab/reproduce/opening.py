"""Unpack an archive of `mslab archive` into a run folder. Nothing in it is trusted: names, sizes and contents are
compared with its archive.json, and archive.json itself with the format that mslab writes.
"""

import hashlib
import re
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mslab.check.formats import is_image
from mslab.check.layout import plain_name
from mslab.config import paths
from mslab.data.archives import Budget, Folder, Member, image_head, open_archive, safe_parts
from mslab.data.placing import temporary_folder
from mslab.data.unpacking import MAX_FILES
from mslab.errors import DatasetError, RunError
from mslab.files import kind_of, parse_json
from mslab.reproduce.archiving import ENVIRONMENT, FILES, LISTING, SPLITS, WEIGHTS
from mslab.runs import manifest
from mslab.runtime import limited
from mslab.tasks.folders import is_label_file

LISTING_BYTES, LISTING_VALUES = 2**28, 5_000_000  # about 200 bytes and 4 values per image
ALLOWED = (*FILES, *WEIGHTS, ENVIRONMENT)
REQUIRED = ("config.yaml", "manifest.json")
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Listing(BaseModel):
    """The content of archive.json."""

    model_config = ConfigDict(extra="forbid", strict=True)
    schema_: Literal[1] = Field(alias="schema")
    run: Annotated[str, Field(pattern=r"^[^/\\.\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*$", max_length=200)]
    data: bool
    members: Annotated[dict[str, Hash], Field(max_length=MAX_FILES)]
    sizes: dict[str, Annotated[int, Field(ge=0)]]  # bytes


def unpack(archive: str | Path, progress: Callable[[int, int], None] | None = None) -> Path:
    """Write the archive's members to runs/NAME-from-archive. Returns that folder; it exists only when it is complete.

    Raises RunError, and leaves nothing behind, if `mslab archive` did not write the archive.
    """
    file = Path(archive)
    if not kind_of(file, links=True):
        wanted = paths.Wanted("archive", "a zip file of mslab archive RUN", paths.is_archive)
        raise paths.missing(file, RunError, wanted, "correct the path")
    if kind_of(file, links=True) != "a file" or not zipfile.is_zipfile(file):
        raise archive_error(f"{file} is not a zip file.")
    try:
        with temporary_folder(Path("runs")) as temporary:
            partial = temporary / "run"
            partial.mkdir()
            name = limited.call("mslab.reproduce.opening:write_run", str(file), str(partial), progress=progress)
            try:
                manifest.load(partial)
            except RunError as error:
                raise archive_error(f"{file}: {error.what.replace(f'{partial}/', '')}", error.details) from None
            (partial / "checkpoints").mkdir(exist_ok=True)
            target = free_folder(name)
            partial.rename(target)
    except DatasetError as error:  # from reading archives: names outside the folder, zip bombs, damage
        raise archive_error(error.what) from None
    except MemoryError:
        raise archive_error(f"{file} takes more than {limited.MEMORY >> 30} GiB of memory to unpack.") from None
    except OSError as error:
        raise RunError(
            f"{file} cannot be unpacked under {Path('runs').absolute()}: {error.strerror or error}.",
            expected="free disk space, and a folder that can be written to",
            fix="free some space, or cd elsewhere",
        ) from None
    return target


def write_run(archive: str, folder: str, progress: Callable[[int, int], None]) -> str:
    """Write the archive's members to `folder`. Returns the run's name. Raises RunError, and DatasetError for damage."""
    file = Path(archive)
    with open_archive(file, Budget(file, file.stat().st_size)) as entries, Folder(file, Path(folder)) as target:
        members = read_names(file, entries)
        listing = read_listing(file, members)
        write(file, target, members, listing, progress)
    return listing.run


def read_names(archive: Path, entries: Iterable[Member]) -> dict[str, Member]:
    """Return {name: member}. Raises RunError unless each is a plain file inside the folder and no name is repeated."""
    members: dict[str, Member] = {}
    plain: dict[str, str] = {}
    for entry in entries:
        name = "/".join(safe_parts(archive, entry.name))
        if entry.kind != "file" or name != entry.name:
            raise archive_error(
                f"{archive} contains {entry.name[:200]!r}, a {entry.kind} that mslab archive does not write."
            )
        if earlier := plain.get(plain_name(name)):
            raise archive_error(
                f"{archive} contains {earlier[:200]!r} and {name[:200]!r}, which are one file on some machines."
            )
        plain[plain_name(name)] = name
        members[name] = entry
    return members


def read_listing(archive: Path, members: dict[str, Member]) -> Listing:
    """Read archive.json. Raises RunError unless it lists exactly the members, all of them files of a run."""
    if LISTING not in members:
        raise archive_error(f"{archive} has no {LISTING}.")
    chunks, text = members[LISTING].chunks(), bytearray()
    while len(text) <= LISTING_BYTES and (chunk := next(chunks, b"")):
        text += chunk
    try:
        if len(text) > LISTING_BYTES:
            raise ValueError(f"it has more than {LISTING_BYTES >> 20} MiB")
        content = parse_json(bytes(text), LISTING_VALUES)
        newer = content.get("schema") if isinstance(content, dict) else None
        if type(newer) is int and newer > 1:
            raise RunError(
                f"{archive} has schema {newer}: a newer mslab wrote it.", expected="schema 1", fix="update mslab"
            )
        listing = Listing.model_validate(content)
    except (ValidationError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else str(error)
        raise archive_error(f"{archive} has a {LISTING} that mslab archive did not write: {reason[:200]}.") from None
    present = set(members) - {LISTING}
    rows = [(name, "is listed, but missing") for name in sorted(set(listing.members) - present)]
    rows += [(name, "is not listed") for name in sorted(present - set(listing.members))]
    rows += [(name, "has no size") for name in sorted(set(listing.members) ^ set(listing.sizes))]
    rows += [(name, "is not a file of a run") for name in sorted(listing.members) if not is_run_file(name, members)]
    rows += [(name, "is not listed, but every archive contains it") for name in REQUIRED if name not in listing.members]
    if rows:
        raise archive_error(f"{archive} does not match its {LISTING}.", rows)
    return listing


def is_run_file(name: str, members: dict[str, Member]) -> bool:
    """Whether mslab archive writes a member of this name; an image may have any, so its content decides."""
    parts = PurePosixPath(name).parts
    if parts[0] == "data":
        if not 3 <= len(parts) <= 6 or parts[1] not in SPLITS or parts[-1].startswith("."):
            return False
        known = is_image(parts[-1]) or is_label_file(parts[-1])
        return known or name not in members or image_head(members[name].chunks()) is not None
    return name in ALLOWED or (parts[0] == "parent" and len(parts) == 2)


def write(
    archive: Path,
    folder: Folder,
    members: dict[str, Member],
    listing: Listing,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Write each member. Raises RunError if one exceeds its listed size or does not have its listed sha256."""
    for done, (name, digest) in enumerate(listing.members.items(), 1):
        hashed, size = hashlib.sha256(), 0
        with folder.create(tuple(name.split("/"))) as sink:
            for chunk in members[name].chunks():
                size += len(chunk)
                if size > listing.sizes[name]:
                    raise archive_error(
                        f"{archive}: {name} is larger than the {listing.sizes[name]} bytes listed in {LISTING}."
                    )
                hashed.update(chunk)
                sink.write(chunk)
        if hashed.hexdigest() != digest:
            row = (name, f"sha256 {hashed.hexdigest()[:12]}…, but {digest[:12]}… in {LISTING}")
            raise archive_error(f"{archive}: {name} does not have the sha256 that {LISTING} lists.", [row])
        if progress:
            progress(done, len(listing.members))


def free_folder(name: str) -> Path:
    """The first of runs/NAME-from-archive, -2, -3, … that does not exist."""
    stem = f"{re.sub(r'-from-archive(-[0-9]+)?$', '', name)}-from-archive"
    number = 1
    while (folder := Path("runs") / (stem if number == 1 else f"{stem}-{number}")).exists():
        number += 1
    return folder


def archive_error(what: str, rows: list[tuple[str, str]] | None = None) -> RunError:
    rows = [(name[:200], text) for name, text in rows or []]
    more = [("…", f"and {len(rows) - 8} more")] * (len(rows) > 8)
    return RunError(
        what,
        details=rows[:8] + more,
        expected="a complete, unchanged archive of mslab archive RUN",
        fix="copy it again, or have it packed again; nothing was written",
    )
