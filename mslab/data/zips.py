"""Zip files whose bytes follow from their members alone: no times, no order of a disk."""

import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from mslab.errors import MslabError

DATE = (1980, 1, 1, 0, 0, 0)  # of every member: equal members give equal bytes
CHUNK = 1 << 20


def write_zip(
    out: Path,
    members: Mapping[str, Path | bytes],
    digests: Mapping[str, str] | None = None,
    as_is: tuple[str, ...] = (),
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write name -> file or content beside `out`, sorted by name, then put it there; an earlier `out` is replaced.

    `digests`: the sha256 of those members whose content is compared while it is packed; `as_is`: ends of names that
    are not compressed. Raises MslabError where a content is another, or the disk refuses; nothing is left then.
    """
    partial = out.with_name(f".{out.name}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(partial, "w") as archive:
            for done, (name, content) in enumerate(sorted(members.items()), 1):
                info = zipfile.ZipInfo(name, DATE)
                info.compress_type = zipfile.ZIP_STORED if name.lower().endswith(as_is) else zipfile.ZIP_DEFLATED
                info.external_attr = 0o644 << 16
                digest = hashlib.sha256()
                source = io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")
                with source, archive.open(info, "w", force_zip64=True) as sink:
                    while chunk := source.read(CHUNK):
                        digest.update(chunk)
                        sink.write(chunk)
                if digest.hexdigest() != (digests or {}).get(name, digest.hexdigest()):
                    raise MslabError(
                        f"{content if isinstance(content, Path) else name} has another content than is recorded.",
                        expected=f"the file with sha256 {(digests or {})[name][:12]}…",
                        fix="restore it; nothing was written",
                    )
                if progress:
                    progress(done, len(members))
        partial.rename(out)
    except OSError as error:
        raise MslabError(
            f"{out} could not be written: {error.strerror}.", expected="room on the disk", fix="--out elsewhere"
        ) from None
    finally:
        partial.unlink(missing_ok=True)
