"""Write files atomically and durably: a temporary file is synced and renamed. A kill leaves the earlier file intact."""

import contextlib
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mslab.check.packed import sha256 as sha256  # a file's, hexadecimal
from mslab.checkpoint.readers import CKPT_TYPES, SAFE_TYPES
from mslab.errors import MslabError

SLICE = 512 * 2**20  # bytes of a tensor per entry, as MindSpore writes them
ENTRY = "mslab"  # name of the text entry with class names, image size, normalisation, stages, profile


def save(parameters: Sequence[Any], path: Path, info: Mapping[str, Any]) -> None:
    """Write MindSpore parameters and the `mslab` entry as .ckpt, atomically. Equal arguments give equal bytes."""
    save_arrays({parameter.name: parameter.asnumpy() for parameter in parameters}, path, info)


def save_arrays(tensors: Mapping[str, np.ndarray], path: Path, info: Mapping[str, Any]) -> None:
    """Write arrays and the `mslab` entry as .ckpt, atomically, in the format that readers.read_ckpt describes.

    MindSpore's own writer deletes the earlier file first, and on a full disk reports only that something failed.
    """
    kinds = {np.dtype(kind): name for name, kind in CKPT_TYPES.items() if kind != "bf16"}
    text = json.dumps(dict(info), sort_keys=True)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            for name, value in tensors.items():
                flat = np.ascontiguousarray(value).reshape(-1)
                count = SLICE // value.itemsize
                for start in range(0, max(1, len(flat)), count):
                    payload = flat[start : start + count].view(np.uint8).data
                    _write_value(file, name, value.shape, kinds[value.dtype], payload)
            _write_value(file, ENTRY, (), "str", memoryview(text.encode("utf-32-le")))

    replace_atomically(path, write)


def _write_value(file: Any, name: str, shape: Sequence[int], kind: str, payload: memoryview) -> None:
    """Write one protobuf Value. The large payload is written without a copy."""
    tensor = b"".join(b"\x08" + varint(size) for size in shape)
    tensor += b"\x12" + varint(len(kind)) + kind.encode() + b"\x1a" + varint(len(payload))
    tag = b"\x0a" + varint(len(name.encode())) + name.encode()
    tag += b"\x12" + varint(len(tensor) + len(payload))
    file.write(b"\x0a" + varint(len(tag) + len(tensor) + len(payload)) + tag + tensor)
    file.write(payload)


def varint(number: int) -> bytes:
    """Encode an integer as protobuf does: seven bits per byte, the lowest first."""
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])


def save_safetensors(tensors: Mapping[str, np.ndarray], path: Path, info: Mapping[str, Any]) -> None:
    """Write arrays and the `mslab` entry as safetensors, atomically. Equal content gives equal bytes."""
    kinds = {np.dtype(kind): name for name, kind in SAFE_TYPES.items() if kind != "bf16"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt", ENTRY: json.dumps(dict(info), sort_keys=True)}}
    at = 0
    for name, value in tensors.items():
        end = at + value.nbytes
        header[name] = {"dtype": kinds[value.dtype], "shape": list(value.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors have to begin at a multiple of 8

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for value in tensors.values():
                file.write(np.ascontiguousarray(value).data)

    replace_atomically(path, write)


def replace_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write(temporary)` with a path beside `path`, then rename that file to `path`, durably.

    Raises MslabError, and leaves the earlier file unchanged, if the disk refuses.
    """
    temporary = path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}.tmp")  # other processes may write it too
    try:
        write(temporary)
        temporary.chmod(0o644)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        raise MslabError(
            f"{path} could not be written: {error.strerror or error}.",
            expected="free space on the disk, and a writable folder",
            fix="free some space, or write elsewhere; the earlier file is unchanged",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # some systems do not allow opening a folder
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def make_folder(path: Path) -> None:
    """Create the folder if it does not exist. Raises MslabError if that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MslabError(
            f"{path} cannot be created: {error.strerror}.",
            expected="a writable folder",
            fix="use --out with another name",
        ) from None


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    replace_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
