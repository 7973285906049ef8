"""Zip files whose bytes depend on their members only: no times, and not the order of files on a disk."""

import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from mslab.errors import MslabError

DATE = (1980, 1, 1, 0, 0, 0)  # the time of every member, so that equal members give equal bytes
CHUNK = 1 << 20


def write_zip(
    out: Path,
    members: Mapping[str, Path | bytes],
    digests: Mapping[str, str] | None = None,
    stored: tuple[str, ...] = (),
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write name -> file or content, sorted by name, to a temporary file, then rename it to `out`, replacing any.

    `digests`: sha256 of the members whose content is verified while it is packed. `stored`: name endings that are not
    compressed. Raises MslabError, leaving no file, if a content differs or the disk refuses.
    """
    partial = out.with_name(f".{out.name}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(partial, "w") as archive:
            for done, (name, content) in enumerate(sorted(members.items()), 1):
                info = zipfile.ZipInfo(name, DATE)
                info.compress_type = zipfile.ZIP_STORED if name.lower().endswith(stored) else zipfile.ZIP_DEFLATED
                info.external_attr = 0o644 << 16
                digest = hashlib.sha256()
                source = io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")
                with source, archive.open(info, "w", force_zip64=True) as sink:
                    while chunk := source.read(CHUNK):
                        digest.update(chunk)
                        sink.write(chunk)
                if digest.hexdigest() != (digests or {}).get(name, digest.hexdigest()):
                    raise MslabError(
                        f"{content if isinstance(content, Path) else name} does not have the recorded content.",
                        expected=f"the file with sha256 {(digests or {})[name][:12]}…",
                        fix="restore it; nothing was written",
                    )
                if progress:
                    progress(done, len(members))
        partial.rename(out)
    except OSError as error:
        raise MslabError(
            f"{out} could not be written: {error.strerror}.",
            expected="enough free disk space",
            fix="use --out with another path",
        ) from None
    finally:
        partial.unlink(missing_ok=True)
