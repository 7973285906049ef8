"""Read PyTorch's .pth without PyTorch: a pickle reader that supports tensors and nothing else, so no code can run.

The file is a zip with data.pkl and one file per storage. The reader supports the opcodes and the few names that a saved
state_dict needs; anything else in a pickle stops it. Damaged or hostile bytes raise ValueError.
"""

import collections
import io
import math
import pickle
import pickletools
import struct
import traceback
import zipfile
from typing import Any, NamedTuple

import numpy as np

from mslab.checkpoint.readers import MAX_BYTES, MAX_DIMENSIONS, MAX_TENSORS, TensorsAndTexts, numbers
from mslab.files import open_zip

MAX_PICKLE = 8 * 2**20  # bytes of data.pkl, names and shapes only: each may cost 70 of memory
MAX_DIRECTORY = 16 * 2**20  # bytes of the zip's list of files
STORAGES = {"FloatStorage": "<f4", "HalfStorage": "<f2", "DoubleStorage": "<f8", "BFloat16Storage": "bf16"}
STORAGES |= {"LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "<i1"}
STORAGES |= {"ByteStorage": "<u1", "BoolStorage": "?"}
NAMES = {("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter")}
NAMES |= {("torch", storage) for storage in STORAGES}
OPCODES = """
PROTO FRAME STOP MARK POP NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE
EMPTY_DICT SETITEM SETITEMS EMPTY_LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
BINPUT LONG_BINPUT BINGET LONG_BINGET MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD BINPERSID
"""
ENCRYPTED = 0x61  # zip flags of files that are encrypted or patched
STATE_KEYS = ("state_dict", "model_state_dict", "model", "net", "network")  # keys under which scripts store weights


class Storage(NamedTuple):
    """The numbers in one file of the zip. Only persistent_load creates it: a pickle cannot name it."""

    kind: str  # one of STORAGES
    key: str


class Stored(NamedTuple):
    """A tensor as the pickle describes it; nothing is checked yet."""

    storage: Any
    offset: Any
    shape: Any
    strides: Any


class AllowedName(NamedTuple):
    """A name that a pickle may call: it replaces a function of PyTorch, and only records its arguments."""

    name: str

    def __call__(self, *arguments: Any) -> Any:
        if self.name == "OrderedDict" and not arguments:
            return collections.OrderedDict()
        if self.name == "_rebuild_parameter" and arguments:
            return arguments[0]
        if self.name == "_rebuild_tensor_v2" and len(arguments) >= 4:
            return Stored(*arguments[:4])
        raise ValueError(f"it calls {self.name} differently from a state_dict")


def restrict_opcodes(opcodes: str) -> dict[int, Any]:
    """Return an unpickler's dispatch table with these opcodes only."""
    codes = {getattr(pickle, name)[0] for name in opcodes.split()}
    return {code: f for code, f in pickle._Unpickler.dispatch.items() if code in codes}  # type: ignore[attr-defined]


class Reader(pickle._Unpickler):  # type: ignore[name-defined]  # the Python one: its opcodes can be removed
    dispatch = restrict_opcodes(OPCODES)
    stack: list[Any]

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in NAMES:
            raise ValueError(f"it contains {module}.{name}, and only tensors are read")
        return AllowedName(name)

    def persistent_load(self, pid: Any) -> Any:
        kind = pid[1] if type(pid) is tuple and len(pid) == 5 and pid[0] == "storage" else None
        if not isinstance(kind, AllowedName) or kind.name not in STORAGES:
            raise ValueError("one of its storages is of an unknown kind")
        if type(pid[2]) is not str:  # the text of tuples in tuples may be of any length
            raise ValueError("one of its storages has no name")
        return Storage(kind.name, pid[2])

    def load_setitem(self) -> None:
        check_keys(self.stack[-2:-1])
        super().load_setitem()  # type: ignore[misc]

    def load_setitems(self) -> None:
        check_keys(self.stack[::2])
        super().load_setitems()  # type: ignore[misc]

    dispatch |= {pickle.SETITEM[0]: load_setitem, pickle.SETITEMS[0]: load_setitems}


def check_keys(keys: list[Any]) -> None:
    """Raise ValueError unless a dict's keys are texts or small integers.

    Hashing deeply nested tuples crashes Python, and large integers can be chosen to have one hash.
    """
    if not all(type(key) is str or (type(key) is int and abs(key) < 2**32) for key in keys):
        raise ValueError("one of its names is not text")


def load_pickle(reader: type, content: bytes, does: str) -> Any:
    """Return the content of the pickle. Raises ValueError if the bytes make pickle fail, but lets our own bugs through.

    `does`: what such a pickle does, for the message about an opcode that the reader does not support.
    """
    try:
        return reader(io.BytesIO(content)).load()
    except (pickle.UnpicklingError, EOFError, struct.error, AttributeError, LookupError, TypeError) as error:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        if frame.f_globals is not vars(pickle):
            raise
        if isinstance(error, KeyError):
            names = {ord(code.code): code.name for code in pickletools.opcodes}
            name = names.get(error.args[0], error.args[0])
            raise ValueError(f"its pickle does more than {does} (opcode {name})") from None
        raise ValueError(f"its pickle is damaged: {str(error) or 'it ends too early'}") from None


def read_pth(content: bytes) -> TensorsAndTexts:
    """Read the tensors of a saved state_dict, or of a training script's dict that contains one. Raises ValueError."""
    with open_zip(io.BytesIO(content), MAX_DIRECTORY) as archive:
        members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in members if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1 or len(members) > MAX_TENSORS or len(members) < len(archive.infolist()):
            raise ValueError("it is a zip file that torch.save did not write")
        if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & ENCRYPTED for info in members.values()):
            raise ValueError("it is compressed or encrypted, which torch.save does not do")
        if sum(info.file_size for info in members.values()) > len(content):
            raise ValueError("its parts overlap")
        if members[pickles[0]].file_size > MAX_PICKLE:
            raise ValueError("its list of tensors is too long")
        root = pickles[0].removesuffix("data.pkl")
        order = archive.read(f"{root}byteorder") if f"{root}byteorder" in members else b"little"
        if order != b"little":
            raise ValueError("its numbers are big-endian, and only little-endian ones can be read")
        root_object = load_pickle(Reader, archive.read(pickles[0]), "list tensors")
        storages: dict[str, np.ndarray] = {}

        def storage(kind: str, key: str) -> np.ndarray:
            if key not in storages:
                name = f"{root}data/{key}"
                if name not in members:
                    raise ValueError(f"the storage {key} is missing")
                storages[key] = numbers(archive.read(name), STORAGES[kind])
            return storages[key]

        tensors, total = {}, 0
        for name, stored in find_state_dict(root_object).items():
            tensors[name] = tensor(name, stored, storage)
            total += tensors[name].nbytes
            if total > 4 * len(content):  # many tensors over one storage
                raise ValueError("its tensors claim many times the bytes in the file")
        return tensors, {}


def find_state_dict(root: Any) -> dict[str, Stored]:
    """Return the dict of tensors, at the top level or under one of STATE_KEYS."""
    for candidate in (root, *(root[name] for name in STATE_KEYS if isinstance(root, dict) and name in root)):
        if isinstance(candidate, dict) and candidate:
            rows = dict.items(candidate)  # dict's own method: a pickle can replace an object's
            if all(isinstance(value, Stored) for _, value in rows):
                return {str(name): value for name, value in rows}
    raise ValueError("it contains no state_dict")


def tensor(name: str, stored: Stored, storage: Any) -> np.ndarray:
    """Return the array. Raises ValueError if its shape and strides reach beyond the storage."""
    fits = type(stored.shape) is type(stored.strides) is tuple and len(stored.shape) == len(stored.strides)
    sizes = (stored.offset, *stored.shape, *stored.strides) if fits and len(stored.shape) <= MAX_DIMENSIONS else ()
    if not sizes or not all(type(n) is int and 0 <= n <= MAX_BYTES for n in sizes):
        raise ValueError(f"{name} has impossible sizes")
    if not isinstance(stored.storage, Storage):
        raise ValueError(f"{name} has no storage")
    values = storage(*stored.storage)
    last = stored.offset + sum((size - 1) * stride for size, stride in zip(stored.shape, stored.strides, strict=True))
    count = math.prod(stored.shape)
    if count > len(values) or (count and last >= len(values)):
        raise ValueError(f"{name} {tuple(stored.shape)} needs more than its storage has")
    strides = [stride * values.itemsize for stride in stored.strides]
    view = np.lib.stride_tricks.as_strided(values[stored.offset :], stored.shape, strides)
    return np.ascontiguousarray(view).reshape(stored.shape)
