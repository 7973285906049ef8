"""The file of published weights: the one in the folder if its hash is right, else fetched into it."""

import contextlib
import logging
import os
from pathlib import Path
from urllib.parse import urlsplit

from mslab import files
from mslab.errors import CheckpointError, ConfigError
from mslab.escaping import command, quoted, typed_with
from mslab.runtime import cuda
from mslab.weights import fetching, registry
from mslab.weights.registry import Published, published

log = logging.getLogger("mslab")
FOLDER, MIRROR = "MSLAB_WEIGHTS", "MSLAB_WEIGHTS_MIRROR"  # environment variables


def folder() -> Path:
    """Where published weights lie: MSLAB_WEIGHTS, else ~/.cache/mslab/weights."""
    return Path(os.environ.get(FOLDER) or cuda.cache_folder() / "weights").expanduser()


def here() -> tuple[int, int]:
    """(how many published files are in the folder, their bytes). Hashes are not looked at."""
    sizes = []
    for entry in registry.table().values():
        with contextlib.suppress(OSError):
            sizes.append((folder() / entry.file).stat().st_size)
    return len(sizes), sum(sizes)


def address_of(entry: Published) -> str:
    """Where the file is fetched from: its project's address, or the same file at MSLAB_WEIGHTS_MIRROR."""
    mirror = os.environ.get(MIRROR, "").rstrip("/")
    if not mirror:
        return entry.address
    if urlsplit(mirror).scheme not in ("http", "https") or not urlsplit(mirror).hostname:
        raise ConfigError(
            f"{MIRROR} is {mirror!r}, which is no address.",
            expected="http://… or https://… of a folder with the files under their published names",
            fix=f"{MIRROR}=https://mirror.example.org/weights; files on a disk: {FOLDER}=FOLDER",
        )
    return f"{mirror}/{entry.file}"


def obtain(name: str, any_hash: bool = False) -> Path:
    """The file with this name's weights, fetched if it is not here.

    `any_hash`: take a file in the folder that has another hash than the published one. Raises CheckpointError for an
    unknown name, a wrong hash, or if the file is neither here nor can be fetched; MslabError if the disk refuses.
    """
    entry = published(name)
    path = folder() / entry.file
    if not files.kind_of(path):
        address = address_of(entry)
        try:
            fetching.fetch(address, entry.digits, path, entry.name)
        except fetching.NotFetched as error:
            raise not_fetched(entry, address, str(error)) from None
    check(entry, path, name, any_hash)
    return path


def check(entry: Published, path: Path, name: str, any_hash: bool) -> None:
    """Raise CheckpointError unless the file has the published hash."""
    try:
        found = files.sha256(path)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read: {error.strerror}.",
            expected=f"the file of {entry.name}",
            fix=f"chmod u+r {quoted(path)}, or move it away; then mslab fetches the file",
        ) from None
    if found.startswith(entry.digits):
        return
    if any_hash:
        log.info(f"note: {path} has the sha256 {found[:16]}…, not that of {entry.name}: taken as a file of others")
        return
    again = typed_with(Path(name), path)
    raise CheckpointError(
        f"{path} is not the published file of {entry.name}: it has another hash.",
        details=[("sha256", f"{found[:16]}…, and the published one begins with {entry.digits}")],
        expected=f"the file of {entry.address}",
        fix=f"rm {quoted(path)}    and the next call fetches it\n"
        f"or, to use this file as it is, give its path: {again or quoted(path)}",
    )


def not_fetched(entry: Published, address: str, reason: str) -> CheckpointError:
    """The message for a file that is not here and did not arrive."""
    place = folder()
    return CheckpointError(
        f"The weights {entry.name} are not here, and could not be fetched: {reason}.",
        details=[
            ("address", address),
            *([("published", entry.address)] if address != entry.address else []),
            ("sha256", f"begins with {entry.digits}"),
            ("folder", str(place)),
        ],
        expected=f"a network that reaches this address, or the file {entry.file} in that folder",
        fix=f"{command('weights', 'get', entry.name)}    tries again, and goes on where it stopped\n"
        f"or fetch the file on another machine, and put it into {quoted(place)} under its own name\n"
        f"behind a wall: HTTPS_PROXY=http://PROXY:PORT, or MSLAB_WEIGHTS_MIRROR=ADDRESS of a folder that has the file",
    )
