"""Files of weights in a pack: float16 where nothing is lost, and a backbone that two networks share stored once.

A file with a shared backbone has an entry {"shared": {"file", "bytes", "sha256"}}: the file of the same pack that has
the other tensors. Only exactly that file is accepted, so that an entry from outside cannot make a reader use another.
"""

import hashlib
import posixpath
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mslab.checkpoint import dialects
from mslab.errors import CheckpointError
from mslab.files import FormatError, read_bytes
from mslab.tasks import layout

SHARED = "shared"  # key of the `mslab` entry
HEADS = (*dialects.HEADS, *layout.HEADS)
LARGEST = float(np.finfo(np.float16).max)  # 65504


def halved(tensors: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(tensors with float16 instead of float32, reason for each that has to stay float32).

    Vectors stay as they are, a thousandth of the weights: a variance must not become 0, and gammas near 1 would become
    equal, which hides what a short training changed.
    """
    halves: dict[str, np.ndarray] = {}
    reasons: dict[str, str] = {}
    for name, value in tensors.items():
        halves[name] = value
        if value.dtype != np.float32 or value.ndim < 2:
            continue
        with np.errstate(over="ignore"):
            half = value.astype(np.float16)
        if not np.isfinite(value).all():
            reasons[name] = "it has values that are not finite"
        elif not np.isfinite(half).all():
            reasons[name] = f"it has values beyond {LARGEST:.0f}: up to {np.abs(value).max():.3g}"
        else:
            halves[name] = half
    return halves, reasons


def own_tensors(tensors: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors without the backbone if another network's is equal to the last bit; else all of them."""
    backbone = {name for name in tensors if not name.startswith(HEADS)}
    equal = all(
        name in other and tensors[name].dtype == other[name].dtype and tensors[name].tobytes() == other[name].tobytes()
        for name in backbone
    )
    return {name: value for name, value in tensors.items() if not (equal and name in backbone)}


def entry_of(name: str, content: bytes) -> dict[str, Any]:
    """The entry that names the file with the other tensors, relative to the folder of the file with the entry."""
    return {SHARED: {"file": name, "bytes": len(content), "sha256": digest(content)}}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def complete(
    path: Path,
    tensors: dict[str, np.ndarray],
    info: dict[str, Any],
    read: Callable[[Path], Any],
    files: Mapping[str, Path],
) -> dict[str, np.ndarray]:
    """Add the tensors that another file of the pack has, and remove the entry that names it.

    `files`: the pack's files by name, if they are not on the disk by their names. Raises CheckpointError if it is
    missing or another one.
    """
    shared = info.pop(SHARED, None)
    if not isinstance(shared, Mapping):
        return tensors
    name, size, recorded = (shared.get(key) for key in ("file", "bytes", "sha256"))
    parts = str(name).split("/")
    if not all(parts) or len(parts) > 4 or ".." in parts[1:] or type(size) is not int or "\0" in str(name):
        raise ValueError("its entry about a shared backbone is damaged")
    file = path.parent / str(name)
    try:
        if own := next((own for own, place in files.items() if place == path), ""):
            file = Path(posixpath.normpath(posixpath.join(posixpath.dirname(own), str(name))))  # until it is found
            if file.as_posix() not in files:
                raise FormatError("it is not in the pack")
            file = files[file.as_posix()]
        if file.stat().st_size != size or digest(read_bytes(file, size)) != recorded:
            raise FormatError("it is another file than the one that was packed with it")
    except (OSError, FormatError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(
            f"{path} has no backbone of its own, and {file} cannot be used: {reason}.",
            expected=f"{name} beside it, as mslab pack --half stored them",
            fix="unpack the whole pack, and leave its folders as they are",
        ) from None
    others = read(file).tensors  # hashes allow no circle
    return {name: value for name, value in others.items() if not name.startswith(HEADS)} | tensors
