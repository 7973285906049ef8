"""Write weights as .ckpt or safetensors, atomically: a kill leaves the earlier file intact."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from mslab.checkpoint.readers import CKPT_TYPES, SAFE_TYPES
from mslab.files import replace_atomically

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

    def write(file: IO[bytes]) -> None:
        for name, value in tensors.items():
            flat = np.ascontiguousarray(value).reshape(-1)
            count = SLICE // value.itemsize
            for start in range(0, max(1, len(flat)), count):
                payload = flat[start : start + count].view(np.uint8).data
                _write_value(file, name, value.shape, kinds[value.dtype], payload)
        _write_value(file, ENTRY, (), "str", memoryview(text.encode("utf-32-le")))

    replace_atomically(path, write)


def _write_value(file: IO[bytes], name: str, shape: Sequence[int], kind: str, payload: memoryview) -> None:
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

    def write(file: IO[bytes]) -> None:
        file.write(len(text).to_bytes(8, "little") + text)
        for value in tensors.values():
            file.write(np.ascontiguousarray(value).data)

    replace_atomically(path, write)
