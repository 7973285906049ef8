"""Read PyTorch's .pth without PyTorch: a pickle reader that supports tensors and nothing else, so no code can run.

The file is a zip with data.pkl and one file per storage. The reader supports the opcodes and the few names that a saved
state_dict needs. What a training script saves beside it (an optimizer, argparse's options, NumPy's numbers, dates)
becomes a Foreign: nothing of it is called or built. Damaged or hostile bytes raise ValueError.
"""

import collections
import io
import itertools
import math
import pickle
import pickletools
import re
import struct
import traceback
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, Any, NamedTuple

import numpy as np

from mslab.checkpoint.dialects import is_average
from mslab.checkpoint.readers import MAX_BYTES, MAX_DIMENSIONS, MAX_TENSORS, numbers
from mslab.files import open_zip

Sets = dict[str, Callable[[], dict[str, np.ndarray]]]  # of weights in a file: {key, "" for the file itself: reader}
MAX_PICKLE = 8 * 2**20  # bytes of data.pkl, names and shapes only: each may cost 70 of memory
MAX_DIRECTORY = 16 * 2**20  # bytes of the zip's list of files
STORAGES = {"FloatStorage": "<f4", "HalfStorage": "<f2", "DoubleStorage": "<f8", "BFloat16Storage": "bf16"}
STORAGES |= {"LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "<i1"}
STORAGES |= {"ByteStorage": "<u1", "BoolStorage": "?"}
NAMES = {("collections", "OrderedDict"), ("torch._tensor", "_rebuild_from_type_v2")}
NAMES |= {("torch._utils", f"_rebuild_{kind}") for kind in ("tensor", "tensor_v2", "parameter")}
NAMES |= {("torch._utils", "_rebuild_parameter_with_state")}
NAMES |= {(module, storage) for storage in STORAGES for module in ("torch", "torch.storage")}
OPCODES = """
PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT
BINUNICODE SHORT_BINUNICODE BINUNICODE8 SHORT_BINBYTES BINBYTES EMPTY_DICT SETITEM SETITEMS EMPTY_LIST APPEND APPENDS
EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_SET ADDITEMS FROZENSET BYTEARRAY8
BINPUT LONG_BINPUT BINGET LONG_BINGET MEMOIZE GLOBAL STACK_GLOBAL REDUCE NEWOBJ NEWOBJ_EX BUILD BINPERSID
"""
ENCRYPTED = 0x61  # zip flags of files that are encrypted or patched
STATE_KEYS = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
)  # where scripts store weights; others come later
MAX_DEPTH, MAX_TABLES = 6, 10_000  # of the search for tables of weights
SECOND_KEYS = ("ema", "model_ema", "module")  # where a network may be as an object, if it is at none of these
MAX_KEY = 500  # characters
BLOCK = re.compile(r"(layer1\.0|stages\.0\.layers\.0|\b4\.0)\.")  # in names of a ResNet's first block
WEIGHT = ".weight"  # the end of a name that tells a table of weights from an optimizer's


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


class Foreign(dict):
    """Stands for a class that only its program knows, and for its objects. It keeps what is set in it, as a dict does.

    A table of weights may be of such a class (defaultdict, EasyDict). Arguments and attributes are dropped.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def append(self, value: Any) -> None:
        """Drop the items of a list's subclass."""

    extend = append


class AllowedName(NamedTuple):
    """A name that a pickle may call: it replaces a function of PyTorch, and only records its arguments."""

    name: str

    def __call__(self, *arguments: Any) -> Any:
        if self.name == "OrderedDict" and not arguments:
            return collections.OrderedDict()
        if self.name.startswith("_rebuild_parameter") and arguments:
            return arguments[0]
        if self.name.startswith("_rebuild_tensor") and len(arguments) >= 4:
            return Stored(*arguments[:4])
        if self.name == "_rebuild_from_type_v2" and len(arguments) >= 3:  # a tensor of a class with attributes
            return called(arguments[0], arguments[2])
        raise ValueError(f"it calls {self.name} differently from a state_dict")


def called(function: Any, arguments: Any) -> Any:
    """What a call in a pickle gives. Raises ValueError if it calls what cannot be called."""
    if isinstance(function, Foreign):
        return Foreign(function.name)
    if isinstance(function, AllowedName) and type(arguments) is tuple and len(arguments) <= MAX_DIMENSIONS:
        return function(*arguments)
    raise ValueError("it calls something else than a function")


def restrict_opcodes(opcodes: str) -> dict[int, Any]:
    """Return an unpickler's dispatch table with these opcodes only."""
    codes = {getattr(pickle, name)[0] for name in opcodes.split()}
    return {code: f for code, f in pickle._Unpickler.dispatch.items() if code in codes}  # type: ignore[attr-defined]


class Reader(pickle._Unpickler):  # type: ignore[name-defined]  # the Python one: its opcodes can be removed
    dispatch = restrict_opcodes(OPCODES)
    stack: list[Any]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]

    def find_class(self, module: str, name: str) -> Any:
        return AllowedName(name) if (module, name) in NAMES else Foreign(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        kind = pid[1] if type(pid) is tuple and len(pid) == 5 and pid[0] == "storage" else None
        if isinstance(kind, Foreign):  # of complex or quantized numbers, which no ResNet has
            return kind
        if not isinstance(kind, AllowedName) or kind.name not in STORAGES:
            raise ValueError("one of its storages is of an unknown kind")
        if type(pid[2]) is not str:  # the text of tuples in tuples may be of any length
            raise ValueError("one of its storages has no name")
        return Storage(kind.name, pid[2])

    def take(self) -> Any:
        if not self.stack:
            raise ValueError("its pickle is damaged: it takes what it has not made")
        return self.stack.pop()

    def load_setitem(self) -> None:
        value, key = self.take(), self.take()
        self.set_items([key, value])

    def load_setitems(self) -> None:
        self.set_items(self.pop_mark())

    def set_items(self, items: list[Any]) -> None:
        table = self.take()
        if not isinstance(table, dict):
            raise ValueError("its pickle is damaged: it puts names into something else than a table")
        dict.update(table, ((key, value) for key, value in zip(items[::2], items[1::2], strict=False) if is_name(key)))
        self.stack.append(table)

    def load_call(self) -> None:
        arguments = self.take()
        self.stack.append(called(self.take(), arguments))

    def load_call_with_names(self) -> None:
        self.take()
        self.load_call()

    def load_state(self) -> None:
        self.take()  # an object's attributes: no weights are there, and setting them could call its code

    def load_set(self) -> None:
        self.stack.append(Foreign("builtins.set"))  # hashing deeply nested tuples crashes Python

    def load_items_of_set(self) -> None:
        self.pop_mark()

    def load_frozen_set(self) -> None:
        self.pop_mark()
        self.load_set()

    def load_byte_array(self) -> None:
        self.read(int.from_bytes(self.read(8), "little"))  # Python's makes one of the claimed size before it reads
        self.stack.append(Foreign("builtins.bytearray"))

    dispatch |= {pickle.REDUCE[0]: load_call, pickle.NEWOBJ[0]: load_call, pickle.NEWOBJ_EX[0]: load_call_with_names}
    dispatch |= {pickle.BUILD[0]: load_state, pickle.EMPTY_SET[0]: load_set, pickle.ADDITEMS[0]: load_items_of_set}
    dispatch |= {pickle.FROZENSET[0]: load_frozen_set, pickle.BYTEARRAY8[0]: load_byte_array}
    dispatch |= {pickle.SETITEM[0]: load_setitem, pickle.SETITEMS[0]: load_setitems}


def is_name(key: Any) -> bool:
    """Whether a key of a table is text or a small integer; others are left out with their values.

    Hashing deeply nested tuples crashes Python, and large integers can be chosen to have one hash.
    """
    return type(key) is str or (type(key) is int and abs(key) < 2**32)


def load_pickle(reader: Callable[[IO[bytes]], Any], content: IO[bytes], does: str) -> Any:
    """Return the content of the pickle, and leave the file at its end.

    Raises ValueError if the bytes make pickle fail, but lets our own bugs through.
    `does`: what such a pickle does, for the message about an opcode that the reader does not support.
    """
    try:
        return reader(content).load()
    except (pickle.UnpicklingError, EOFError, struct.error, AttributeError, LookupError, TypeError) as error:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        if frame.f_globals is not vars(pickle):
            raise
        if isinstance(error, KeyError):
            names = {ord(code.code): code.name for code in pickletools.opcodes}
            name = names.get(error.args[0], error.args[0])
            raise ValueError(f"its pickle does more than {does} (opcode {name})") from None
        raise ValueError(f"its pickle is damaged: {str(error) or 'it ends too early'}") from None


class PickledObject(ValueError):
    """A file of PyTorch with objects in place of tensors. `key`: where they are, "" for the whole file.

    `table`: whether this is a table of arrays; otherwise it is a network.
    """

    def __init__(self, key: str, name: str, table: bool = False) -> None:
        where = f"its {key!r}" if key else "it"
        contains = "contains objects" if table else "is an object"
        super().__init__(f"{where} {contains} of the class {name[:200]}, not tensors")
        self.key, self.table = key, table


def weight_sets(content: bytes) -> Sets:
    """Return {key: function that reads the tensors} of each table of weights in a file of torch.save.

    The key is "" for the file itself, else `state_dict`, `model.trunk` … The first one is the one to take: averages
    come last. Raises ValueError.
    """
    archive = open_zip(io.BytesIO(content), MAX_DIRECTORY)
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
    root_object = load_pickle(Reader, io.BytesIO(archive.read(pickles[0])), "list tensors")
    storages: dict[str, np.ndarray] = {}

    def storage(kind: str, key: str) -> np.ndarray:
        if key not in storages:
            name = f"{root}data/{key}"
            if name not in members:
                raise ValueError(f"the storage {key} is missing")
            storages[key] = numbers(archive.read(name), STORAGES[kind])
        return storages[key]

    return sets_of(root_object, storage, len(content))


def sets_of(root: Any, storage: Callable[[str, str], np.ndarray], size: int) -> Sets:
    """{key: function that reads the tensors} of each table of weights in a pickle, from a file of this size."""

    def read(table: dict[str, Stored]) -> dict[str, np.ndarray]:
        tensors, total = {}, 0
        for name, stored in table.items():
            tensors[name] = tensor(name, stored, storage)
            total += tensors[name].nbytes
            if total > 4 * size:  # many tensors over one storage
                raise ValueError("its tensors claim many times the bytes in the file")
        return tensors

    return {key: partial(read, table) for key, table in sorted_tables(root).items()}


def sorted_tables(root: Any) -> dict[str, dict[str, Stored]]:
    """Return {key: tensors by name} of every table of weights in a pickle, the one to take first. Raises ValueError."""
    found: dict[str, dict[str, Stored]] = {}
    for key, table in walk(root):
        tensors = {str(name): value for name, value in dict.items(table) if isinstance(value, Stored)}
        complete = key in ("", *STATE_KEYS) and len(tensors) == len(table)
        if tensors and (complete or any(name.endswith(WEIGHT) for name in tensors)):
            found[key] = tensors
    if not found:
        objects = {key: root.get(key) for key in (*STATE_KEYS, *SECOND_KEYS)} if isinstance(root, dict) else {}
        for key, value in ({"": root} | objects).items():
            if isinstance(value, Foreign):
                raise PickledObject(key, value.name)
        for key, table in walk(root):
            for name, value in dict.items(table):
                if isinstance(value, Foreign) and str(name).endswith(WEIGHT):
                    raise PickledObject(key, value.name, table=True)
        raise ValueError("it contains no state_dict")
    order = {key: position for position, key in enumerate(("", *STATE_KEYS))}

    def rank(key: str) -> tuple[bool, bool, int]:
        return not any(map(BLOCK.search, found[key])), is_average(key), order.get(key, len(order))

    return {key: found[key] for key in sorted(found, key=rank)}


def walk(root: Any) -> Iterator[tuple[str, dict[Any, Any]]]:
    """Yield (key, table) of the tables in a pickle, also those in lists; the outer ones first, each once."""
    level = [("", root)] if isinstance(root, dict) or type(root) in (list, tuple) else []
    seen: set[int] = set()
    for _ in range(MAX_DEPTH):
        below: list[tuple[str, Any]] = []
        for key, value in level:
            if id(value) in seen or len(seen) >= MAX_TABLES:
                continue
            seen.add(id(value))
            if isinstance(value, dict):
                yield key, value
            rows = dict.items(value) if isinstance(value, dict) else enumerate(value)
            inner = ((name, v) for name, v in rows if isinstance(v, dict) or type(v) in (list, tuple))
            few = itertools.islice(inner, MAX_TABLES - len(below))
            below += [(f"{key}.{name}"[:MAX_KEY].lstrip("."), v) for name, v in few]
        level = below


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
