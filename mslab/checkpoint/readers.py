"""Bounded readers of .ckpt, MINDIR, safetensors and ONNX. Sizes that a file claims are checked before they are used.

Every reader takes a file's bytes and returns (tensors as NumPy arrays, texts). Damaged or hostile bytes raise
ValueError with a short message; any other error is a bug of ours.
"""

import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mslab.files import parse_json

# errors from damaged bytes: our readers raise ValueError, the standard library the others too; the rest are our bugs
DAMAGE: tuple[type[Exception], ...] = (ValueError, EOFError, MemoryError, OverflowError, RecursionError, struct.error)
DAMAGE += (zipfile.BadZipFile, NotImplementedError)  # the last: a zip of a newer version
MAX_TENSORS = 100_000
MAX_BYTES = 16 * 2**30  # of a file, and of a tensor's claimed size
MAX_DIMENSIONS = 32  # NumPy's limit
MAX_INTEGERS = 1_000_000  # of a tensor that is stored as integers one by one: counters, and shapes of a graph
MAX_FIELDS = 1000  # different ones in a message that describes a tensor
MAX_HEADER = 100 * 2**20  # bytes of a safetensors header, safetensors' own limit
CKPT_TYPES = {"Float32": "<f4", "Float16": "<f2", "Float64": "<f8", "BFloat16": "bf16", "Bool": "?"}
CKPT_TYPES |= {"Int8": "<i1", "UInt8": "<u1", "Int16": "<i2", "Int32": "<i4", "Int64": "<i8"}
CKPT_TYPES |= {"UInt16": "<u2", "UInt32": "<u4", "UInt64": "<u8"}
EMPTY = memoryview(b"")
CRC = (b"crc_num", 17)  # what save_checkpoint(crc_check=True) appends: this text and ten bytes
SAFE_TYPES = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "BF16": "bf16", "BOOL": "?"}
SAFE_TYPES |= {"I8": "<i1", "U8": "<u1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}
ONNX_TYPES = {1: "<f4", 10: "<f2", 11: "<f8", 16: "bf16", 2: "<u1", 3: "<i1", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?"}
TensorsAndTexts = tuple[dict[str, np.ndarray], dict[str, str]]


def array(name: str, shape: tuple[int, ...], kind: str, pieces: list[memoryview]) -> np.ndarray:
    """Join the pieces into one array. Raises ValueError unless its shape and type need exactly as many bytes."""
    if len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"{name} has {len(shape)} dimensions")
    needed = np.dtype("<u2" if kind == "bf16" else kind).itemsize
    for size in shape:
        if not 0 <= size <= MAX_BYTES:
            raise ValueError(f"{name} has a dimension of {size}")
        needed *= size
    length = sum(len(piece) for piece in pieces)
    if length != needed:
        raise ValueError(f"{name} {shape} {kind.strip('<')} needs {needed} bytes and has {length}")
    return numbers(pieces[0] if len(pieces) == 1 else b"".join(pieces), kind).reshape(shape)


def numbers(raw: bytes | memoryview, kind: str) -> np.ndarray:
    """Convert bytes to numbers. NumPy has no bfloat16: it is the upper half of a float32."""
    values = np.frombuffer(raw, "<u2" if kind == "bf16" else kind)
    return (values.astype("<u4") << 16).view("<f4") if kind == "bf16" else values


def dtype_of(types: dict, kind: Any, name: str) -> str:
    if kind not in types:
        raise ValueError(f"{name} has the unknown type {kind!r}")
    return str(types[kind])


# --- MindSpore -------------------------------------------------------------------------------------------------------


def read_ckpt(content: memoryview) -> TensorsAndTexts:
    """Checkpoint {Value {tag = 1; TensorProto tensor = 2 {dims = 1; type = 2; content = 3}} = 1}.

    A large tensor is split into several entries with the same name; text is stored as NumPy's U, that is UTF-32.
    """
    marker, length = CRC
    if bytes(content[-length : len(marker) - length]) == marker:
        content = content[:-length]
    slices: dict[str, tuple[tuple[int, ...], str, list[memoryview]]] = {}
    texts: dict[str, str] = {}
    for count, (number, kind, entry) in enumerate(fields(content)):
        if (number, kind) != (1, 2):
            raise ValueError(f"it has an unexpected field {number}")
        if count >= MAX_TENSORS:
            raise ValueError(f"it has more than {MAX_TENSORS} tensors")
        name, dims, type_name, payload = _entry(entry)
        if type_name == "str":
            texts[name] = bytes(payload).decode("utf-32-le")
            continue
        if name in slices and slices[name][:2] != (dims, type_name):
            raise ValueError(f"it contains {name} twice")
        slices.setdefault(name, (dims, type_name, []))[2].append(payload)
    tensors = {
        name: array(name, dims, dtype_of(CKPT_TYPES, type_name, name), pieces)
        for name, (dims, type_name, pieces) in slices.items()
    }
    return tensors, texts


def _entry(data: memoryview) -> tuple[str, tuple[int, ...], str, memoryview]:
    """Return (name, dims, type, bytes) of one Value."""
    parts = by_field(data)
    name, tensor = parts.get((1, 2), b""), parts.get((2, 2))
    if not name or tensor is None:
        raise ValueError("one of its entries has no name or no tensor")
    content = by_field(tensor)
    return text(name), integers(tensor, 1, MAX_DIMENSIONS), text(content.get((2, 2), b"")), content.get((3, 2), EMPTY)


# --- safetensors -----------------------------------------------------------------------------------------------------


def read_safetensors(content: memoryview) -> TensorsAndTexts:
    """Read eight bytes of header length, the JSON header {name: {dtype, shape, data_offsets}}, tensors without gaps."""
    length = int.from_bytes(content[:8], "little")
    if not 2 <= length <= min(MAX_HEADER, len(content) - 8):
        raise ValueError(f"its header claims {length} bytes")
    header = parse_json(bytes(content[8 : 8 + length]), table=_no_repeats)
    if not isinstance(header, dict):
        raise ValueError("its header is not a table")
    texts = header.pop("__metadata__", {})
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError("its metadata is not text")
    if len(header) > MAX_TENSORS:
        raise ValueError(f"it has more than {MAX_TENSORS} tensors")
    body = content[8 + length :]
    tensors, ranges = {}, []
    for name, entry in header.items():
        shape, (start, end) = _shape_and_range(name, entry)
        if not 0 <= start <= end <= len(body):
            raise ValueError(f"{name} claims bytes outside the file")
        ranges.append((start, end, name))
        tensors[name] = array(name, shape, dtype_of(SAFE_TYPES, entry["dtype"], name), [body[start:end]])
    at = 0
    for start, end, name in sorted(ranges):
        if start != at:
            raise ValueError(f"{name} begins at byte {start} instead of {at}")
        at = end
    if at != len(body):
        raise ValueError(f"{len(body) - at} bytes belong to no tensor")
    return tensors, texts


def _shape_and_range(name: str, entry: Any) -> tuple[tuple[int, ...], tuple[int, int]]:
    """Return (shape, (start, end)) of a tensor in the header."""
    has_dtype = isinstance(entry, dict) and isinstance(entry.get("dtype"), str)
    lists = [entry.get(key) for key in ("shape", "data_offsets")] if has_dtype else []
    valid = has_dtype and all(isinstance(row, list) and all(type(n) is int for n in row) for row in lists)
    if not valid or len(lists[1]) != 2:
        raise ValueError(f"its header does not describe {name} correctly")
    shape, (start, end) = lists
    return tuple(shape), (start, end)


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, value in pairs:
        if name in table:
            raise ValueError(f"it contains {name} twice")
        table[name] = value
    return table


# --- ONNX ------------------------------------------------------------------------------------------------------------


def read_onnx(content: memoryview) -> TensorsAndTexts:
    """ModelProto {GraphProto graph = 7 {TensorProto initializer = 5}; StringStringEntryProto metadata_props = 14}."""
    return _initialisers(content, 5, _initialiser), pairs(content, 14)


def read_mindir(content: memoryview) -> TensorsAndTexts:
    """ModelProto {GraphProto graph = 7 {TensorProto parameter = 3}; UserInfoEntry user_info = 14}."""
    return _initialisers(content, 3, _parameter), pairs(content, 14)


def pairs(message: memoryview, field: int) -> dict[str, str]:
    """Return {name: text} from the entries {key = 1; value = 2} of this field."""
    texts: dict[str, str] = {}
    for entry in messages(message, field):
        parts = by_field(entry)
        texts[text(parts.get((1, 2), b""))] = text(parts.get((2, 2), b""))
        if len(texts) > MAX_TENSORS:
            raise ValueError(f"it has more than {MAX_TENSORS} texts")
    return texts


def _initialisers(content: memoryview, field: int, reader: Callable[[Any], tuple[str, np.ndarray]]) -> dict:
    tensors: dict[str, np.ndarray] = {}
    for graph in messages(content, 7):
        for message in messages(graph, field):
            name, values = reader(message)
            if name in tensors:
                raise ValueError(f"it contains {name} twice")
            tensors[name] = values
            if len(tensors) > MAX_TENSORS:
                raise ValueError(f"it has more than {MAX_TENSORS} tensors")
    return tensors


def _parameter(data: memoryview) -> tuple[str, np.ndarray]:
    """MINDIR's TensorProto {dims 1; data_type 2; name 7; raw_data 9; external_data 12}; mslab's are float32."""
    parts = by_field(data)
    name = text(parts.get((7, 2), b""))
    if any(number == 12 for number, _ in parts):
        raise ValueError(f"{name or 'a tensor'} is stored in another file")
    kind = dtype_of({1: "<f4"}, parts.get((2, 0), 0), name)
    return name, array(name, integers(data, 1, MAX_DIMENSIONS), kind, [parts.get((9, 2), EMPTY)])


def _initialiser(data: memoryview) -> tuple[str, np.ndarray]:
    """TensorProto {dims 1; data_type 2; float_data 4; int64_data 7; name 8; raw_data 9; data_location 14}."""
    parts = by_field(data)
    name, int64_data = text(parts.get((8, 2), b"")), integers(data, 7, MAX_INTEGERS)
    if parts.get((14, 0)) == 1:
        raise ValueError(f"{name or 'a tensor'} is stored in another file")
    raw = parts.get((9, 2), parts.get((4, 2), EMPTY))  # packed floats have the layout of raw bytes
    raw = memoryview(np.array(int64_data, "<u8").tobytes()) if int64_data else raw
    return name, array(name, integers(data, 1, MAX_DIMENSIONS), dtype_of(ONNX_TYPES, parts.get((2, 0), 0), name), [raw])


# --- protobuf --------------------------------------------------------------------------------------------------------


def fields(data: memoryview) -> Iterator[tuple[int, int, Any]]:
    """Yield the fields of one protobuf message: (number, wire type, value)."""
    at = 0
    value: Any
    while at < len(data):
        key, at = varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind in (1, 2, 5):
            length, at = varint(data, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
            if length > len(data) - at:
                raise ValueError("it is cut off")
            value, at = data[at : at + length], at + length
        else:
            raise ValueError(f"byte {at} is not valid in such a file")
        yield number, kind, value


def messages(data: memoryview, field: int) -> Iterator[memoryview]:
    """Return the values of this field of a message: messages, texts or bytes."""
    return (value for number, kind, value in fields(data) if (number, kind) == (field, 2))


def varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("it is cut off")
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128 and value < 2**64:
            return value, at
    raise ValueError(f"byte {at} is not valid in such a file")


def by_field(data: memoryview) -> dict[tuple[int, int], Any]:
    """Return {(number, wire type): value} of a message; of a repeated field, the last value."""
    values: dict[tuple[int, int], Any] = {}
    for count, (number, kind, value) in enumerate(fields(data)):
        values[number, kind] = value
        if count > MAX_INTEGERS or len(values) > MAX_FIELDS:
            raise ValueError("one of its entries has too many fields")
    return values


def integers(data: memoryview, field: int, most: int) -> tuple[int, ...]:
    """Read a repeated integer field of a message, packed or not. Raises ValueError beyond `most` integers."""
    numbers: list[int] = []
    for number, kind, value in fields(data):
        if number == field and kind == 0:
            numbers.append(value)
        elif number == field and kind == 2:
            at = 0
            while at < len(value):
                integer, at = varint(value, at)
                numbers.append(integer)
                if len(numbers) > most:
                    break
        elif number == field:
            raise ValueError("one of its integers has an unexpected wire type")
        if len(numbers) > most:
            raise ValueError(f"one of its tensors has more than {most:,} sizes or integers")
    return tuple(numbers)


def text(value: bytes | memoryview) -> str:
    return bytes(value).decode()
