"""Read what torch.save wrote before PyTorch 1.6, and writes on request: pickles one after another, then the numbers.

The order: a number that marks the format, its version, facts of the machine, the object with its tensors, the keys of
their storages; then of each storage eight bytes of its length and the numbers themselves.
"""

import io
from functools import partial
from typing import IO, Any

import numpy as np

from mslab.checkpoint.pth import MAX_PICKLE, STORAGES, Reader, Sets, Storage, load_pickle, sets_of
from mslab.checkpoint.readers import MAX_TENSORS, numbers

MAGIC = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the number, as pickle writes it
BEGINNING = 32  # bytes of a file that show its format
VERSION = 1001


def is_legacy(content: bytes) -> bool:
    """Whether a file that begins so is of this format."""
    return content[:1] == b"\x80" and MAGIC in content[:BEGINNING]


class LegacyReader(Reader):
    """The reader of these pickles: `kinds` receives {key: kind} of the storages that tensors use."""

    def __init__(self, file: IO[bytes], kinds: dict[str, str]) -> None:
        super().__init__(file)
        self.kinds = kinds

    def persistent_load(self, pid: Any) -> Any:
        if type(pid) is not tuple or len(pid) != 6 or pid[5] is not None:  # the last: a part of another storage
            raise ValueError("one of its storages is of an unknown kind")
        storage = super().persistent_load(pid[:5])
        if isinstance(storage, Storage):
            self.kinds[storage.key] = storage.kind
        return storage


def weight_sets(content: bytes) -> Sets:
    """Return what pth.weight_sets returns. Raises ValueError."""
    file = io.BytesIO(content[:MAX_PICKLE])
    kinds: dict[str, str] = {}
    reader = partial(LegacyReader, kinds=kinds)
    _, version, machine = (load_pickle(reader, file, "list tensors") for _ in range(3))
    if version != VERSION:
        raise ValueError(f"its format has version {str(version)[:20]}, and only {VERSION} can be read")
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise ValueError("its numbers are big-endian, and only little-endian ones can be read")
    root = load_pickle(reader, file, "list tensors")
    keys = load_pickle(reader, file, "list tensors")
    if type(keys) is not list or len(keys) > MAX_TENSORS or not all(type(key) is str for key in keys):
        raise ValueError("its list of storages is damaged")
    storages, at = {}, file.tell()
    for key in keys:
        if key not in kinds:
            raise ValueError("its list of storages is damaged")
        storages[key], at = storage_at(content, at, kinds[key])
    if at != len(content):
        raise ValueError(f"{len(content) - at} bytes belong to no storage")

    def storage(kind: str, key: str) -> np.ndarray:
        if key not in storages or kinds[key] != kind:
            raise ValueError(f"the storage {key[:40]} is missing")
        return storages[key]

    return sets_of(root, storage, len(content))


def storage_at(content: bytes, at: int, kind: str) -> tuple[np.ndarray, int]:
    """(the numbers of a storage, where it ends). Raises ValueError if it claims more bytes than the file has."""
    item = 2 if STORAGES[kind] == "bf16" else np.dtype(STORAGES[kind]).itemsize
    start = at + 8
    end = start + item * int.from_bytes(content[at:start], "little")
    if end > len(content):
        raise ValueError(f"a storage claims {end - start:,} bytes, and {max(0, len(content) - start):,} follow")
    return numbers(content[start:end], STORAGES[kind]), end
