"""Files are written beside their place, made durable, and put there at once: a kill leaves the earlier file whole."""

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

SLICE = 512 * 2**20  # bytes of a tensor that go into one entry, as MindSpore does it
ENTRY = "mslab"  # the name of the text in a file that tells class names, image size, normalisation, stages, profile


def save(parameters: Sequence[Any], path: Path, info: Mapping[str, Any]) -> None:
    """Write MindSpore parameters and the `mslab` entry as .ckpt, atomically. Equal weights and info: equal bytes."""
    save_arrays({parameter.name: parameter.asnumpy() for parameter in parameters}, path, info)


def save_arrays(tensors: Mapping[str, np.ndarray], path: Path, info: Mapping[str, Any]) -> None:
    """Write arrays and the `mslab` entry as .ckpt, atomically: the messages that readers.read_ckpt describes.

    MindSpore's own writer deletes the earlier file first, and on a full disk only says that something failed.
    """
    kinds = {np.dtype(kind): name for name, kind in CKPT_TYPES.items() if kind != "bf16"}
    text = json.dumps(dict(info), sort_keys=True)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            for name, value in tensors.items():
                whole = np.ascontiguousarray(value).reshape(-1)
                each = SLICE // value.itemsize
                for start in range(0, max(1, len(whole)), each):
                    payload = whole[start : start + each].view(np.uint8).data
                    _write_value(file, name, value.shape, kinds[value.dtype], payload)
            _write_value(file, ENTRY, (), "str", memoryview(text.encode("utf-32-le")))

    replace_atomically(path, write)


def _write_value(file: Any, name: str, shape: Sequence[int], kind: str, payload: memoryview) -> None:
    """One Value of protobuf. The large payload goes to the file as it is."""
    tensor = b"".join(b"\x08" + varint(size) for size in shape)
    tensor += b"\x12" + varint(len(kind)) + kind.encode() + b"\x1a" + varint(len(payload))
    tag = b"\x0a" + varint(len(name.encode())) + name.encode()
    tag += b"\x12" + varint(len(tensor) + len(payload))
    file.write(b"\x0a" + varint(len(tag) + len(tensor) + len(payload)) + tag + tensor)
    file.write(payload)


def varint(number: int) -> bytes:
    """A whole number as protobuf has it: seven bits a byte, the lowest first."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


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
    text += b" " * (-len(text) % 8)  # so that the tensors begin at a multiple of 8

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for value in tensors.values():
                file.write(np.ascontiguousarray(value).data)

    replace_atomically(path, write)


def replace_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write(temporary)` make the file beside its place, then put it there at once and durably.

    Raises MslabError, with the earlier file as it was, where the disk refuses.
    """
    temporary = path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}.tmp")  # others may write it, too
    try:
        write(temporary)
        temporary.chmod(0o644)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        raise MslabError(
            f"{path} could not be written: {error.strerror or error}.",
            expected="room on the disk, and a folder that may be written to",
            fix="free some space, or write elsewhere; the earlier file is as it was",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not every system lets a folder be opened
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def make_folder(path: Path) -> None:
    """Make the folder, where it is not there yet, for what is written next. Raises MslabError where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MslabError(
            f"{path} cannot be made: {error.strerror}.",
            expected="a folder that can be written to",
            fix="--out with another name",
        ) from None


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    replace_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
