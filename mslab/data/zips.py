"""Zip files whose bytes depend on their members only: no times, and not the order of files on a disk."""

import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from mslab.errors import MslabError
from mslab.files import Below, kind_of, make_folder, open_regular, replace_atomically

DATE = (1980, 1, 1, 0, 0, 0)  # the time of every member, so that equal members give equal bytes
CHUNK = 1 << 20
Member = Path | Below | bytes  # a file, a file of a folder that others may have filled, or content


def write_zip(
    out: Path,
    members: Mapping[str, Member],
    digests: Mapping[str, str] | None = None,
    stored: tuple[str, ...] = (),
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write name -> file or content, sorted by name, to a temporary file, then rename it to `out`, replacing any.

    `digests`: sha256 of the members whose content is verified while it is packed. `stored`: name endings that are not
    compressed. Raises MslabError, leaving no file, if a content differs or the disk refuses.
    """

    def write(file: IO[bytes]) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            for done, (name, content) in enumerate(sorted(members.items()), 1):
                info = zipfile.ZipInfo(name, DATE)
                info.compress_type = zipfile.ZIP_STORED if name.lower().endswith(stored) else zipfile.ZIP_DEFLATED
                info.external_attr = 0o644 << 16
                digest = hashlib.sha256()
                with open_member(content) as source, archive.open(info, "w", force_zip64=True) as sink:
                    while chunk := source.read(CHUNK):
                        digest.update(chunk)
                        sink.write(chunk)
                if digest.hexdigest() != (digests or {}).get(name, digest.hexdigest()):
                    raise MslabError(
                        f"{name if isinstance(content, bytes) else content} does not have the recorded content.",
                        expected=f"the file with sha256 {(digests or {})[name][:12]}…",
                        fix="restore it; nothing was written",
                    )
                if progress:
                    progress(done, len(members))

    make_folder(out.parent)
    replace_atomically(out, write)


def open_member(content: Member) -> IO[bytes]:
    """Open a member's file or content. Raises MslabError for a link and for everything that is not a regular file."""
    if isinstance(content, bytes):
        return io.BytesIO(content)
    try:
        return content.open() if isinstance(content, Below) else open_regular(content, links=False)
    except OSError as error:
        kind = kind_of(Path(str(content)))
        problem = f"it is {kind}" if kind not in ("", "a file") else error.strerror or error
        raise MslabError(
            f"{content} cannot be packed: {problem}.",
            expected="a regular file; a link could stand for any file of this machine",
            fix="put the file itself there; nothing was written",
        ) from None
