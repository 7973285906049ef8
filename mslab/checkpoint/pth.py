"""PyTorch's .pth without PyTorch: a pickle reader that knows tensors and nothing else, so that no code can run.

The file is a zip with data.pkl and one file a storage. Only the opcodes and the few names that a saved state_dict needs
are understood; whatever else a pickle asks for ends the reading.
"""

import collections
import io
import math
import pickle
import zipfile
from typing import Any

import numpy as np

from mslab.checkpoint.readers import MAX_BYTES, MAX_TENSORS, Found

MAX_PICKLE = 64 * 2**20  # bytes of data.pkl: names and shapes only
STORAGES = {"FloatStorage": "<f4", "HalfStorage": "<f2", "DoubleStorage": "<f8", "BFloat16Storage": "bf16"}
STORAGES |= {"LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "<i1"}
STORAGES |= {"ByteStorage": "<u1", "BoolStorage": "?"}
OPCODES = """
PROTO FRAME STOP MARK POP NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE
EMPTY_DICT SETITEM SETITEMS EMPTY_LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
BINPUT LONG_BINPUT BINGET LONG_BINGET MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD BINPERSID
"""
WHERE = ("state_dict", "model_state_dict", "model", "net", "network")  # where training scripts put the weights


class Known:
    """A name that a pickle may call: it stands for a function of PyTorch, and only notes what it was called with."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *arguments: Any) -> Any:
        if self.name == "_rebuild_parameter":
            return arguments[0]
        if self.name == "_rebuild_tensor_v2":
            return Stored(*arguments[:4])
        raise ValueError(f"it calls {self.name}")


class Stored:
    """A tensor as the pickle tells of it: storage, offset, shape, strides; nothing is checked yet."""

    __slots__ = ("offset", "shape", "storage", "strides")

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any) -> None:
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides


def only(opcodes: str) -> dict[int, Any]:
    """What an unpickler knows to do, without all but these opcodes."""
    codes = {getattr(pickle, name)[0] for name in opcodes.split()}
    return {code: f for code, f in pickle._Unpickler.dispatch.items() if code in codes}  # type: ignore[attr-defined]


class Reader(pickle._Unpickler):  # type: ignore[name-defined]  # the Python one: its opcodes can be taken away
    dispatch = only(OPCODES)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
            return Known(name)
        if module == "torch" and name in STORAGES:
            return Known(name)
        raise ValueError(f"it holds {module}.{name}, and only tensors are read")

    def persistent_load(self, pid: Any) -> Any:
        kind, storage, key, _, count = pid
        if kind != "storage" or not isinstance(storage, Known) or storage.name not in STORAGES:
            raise ValueError("a storage of an unknown kind")
        return storage.name, str(key), count


def read_pth(content: bytes) -> Found:
    """The tensors of a saved state_dict, or of a training script's dict that holds one. Raises ValueError."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in members if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1 or len(members) > MAX_TENSORS or len(members) < len(archive.infolist()):
            raise ValueError("a zip, but none that torch.save wrote")
        if any(info.compress_type != zipfile.ZIP_STORED for info in members.values()):
            raise ValueError("it is compressed, which torch.save does not do")
        if sum(info.file_size for info in members.values()) > len(content):
            raise ValueError("its parts would lie over each other")
        if members[pickles[0]].file_size > MAX_PICKLE:
            raise ValueError("its list of tensors is too long")
        root = pickles[0].removesuffix("data.pkl")
        order = archive.read(f"{root}byteorder") if f"{root}byteorder" in members else b"little"
        if order != b"little":
            raise ValueError("its numbers are stored the other way round (big endian)")
        try:
            held = Reader(io.BytesIO(archive.read(pickles[0]))).load()
        except KeyError as error:
            raise ValueError(f"its pickle does more than list tensors (opcode {error})") from None
        storages: dict[str, np.ndarray] = {}

        def storage(kind: str, key: str) -> np.ndarray:
            if key not in storages:
                name = f"{root}data/{key}"
                if name not in members:
                    raise ValueError(f"the storage {key} is not there")
                values = np.frombuffer(archive.read(name), "<u2" if STORAGES[kind] == "bf16" else STORAGES[kind])
                wide = STORAGES[kind] == "bf16"
                storages[key] = (values.astype("<u4") << 16).view("<f4") if wide else values
            return storages[key]

        tensors, total = {}, 0
        for name, stored in state_of(held).items():
            tensors[name] = tensor(name, stored, storage)
            total += tensors[name].nbytes
            if total > 4 * len(content):  # many tensors over one storage
                raise ValueError("its tensors claim many times the bytes that are there")
        return tensors, {}


def state_of(held: Any) -> dict[str, Stored]:
    """The dict of tensors, at the top or where training scripts put it."""
    for place in (held, *(held[name] for name in WHERE if isinstance(held, dict) and name in held)):
        if isinstance(place, dict) and place and all(isinstance(value, Stored) for value in place.values()):
            return {str(name): value for name, value in place.items()}
    raise ValueError("no state_dict in it")


def tensor(name: str, stored: Stored, storage: Any) -> np.ndarray:
    """The array, after shape and strides were found to stay inside the storage."""
    numbers = [stored.offset, *stored.shape, *stored.strides]
    fits = len(stored.shape) == len(stored.strides) <= 32  # NumPy's limit
    if not fits or not all(type(n) is int and 0 <= n <= MAX_BYTES for n in numbers):
        raise ValueError(f"{name} has impossible sizes")
    kind, key, _ = stored.storage
    values = storage(kind, key)
    last = stored.offset + sum((size - 1) * stride for size, stride in zip(stored.shape, stored.strides, strict=True))
    count = math.prod(stored.shape)
    if count > len(values) or (count and last >= len(values)):
        raise ValueError(f"{name} {tuple(stored.shape)} needs more than its storage has")
    strides = [stride * values.itemsize for stride in stored.strides]
    view = np.lib.stride_tricks.as_strided(values[stored.offset :], stored.shape, strides)
    return np.ascontiguousarray(view).reshape(stored.shape)
