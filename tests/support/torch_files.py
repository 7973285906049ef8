"""Files as torch.save writes them, made without PyTorch: the same names in the pickle, the same members of the zip."""

import collections
import io
import pickle
import sys
import types
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np

KINDS = {"float32": "FloatStorage", "float16": "HalfStorage", "float64": "DoubleStorage", "int64": "LongStorage"}


class Saved:
    """A tensor, to be pickled as PyTorch pickles one."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = np.asarray(values)

    def __reduce_ex__(self, protocol):
        shape, strides = self.values.shape, tuple(s // self.values.itemsize for s in self.values.strides)
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (Numbers(self.values), 0, shape, strides, False, collections.OrderedDict())


class Numbers:
    """A tensor's storage: it is no part of the pickle."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = np.ascontiguousarray(values)


@contextmanager
def stand_ins() -> Iterator[dict[str, types.ModuleType]]:
    """Modules with PyTorch's names, so that pickle writes them, and a module of a script that nobody has."""
    modules = {name: types.ModuleType(name) for name in ("torch", "torch._utils", "script")}

    def _rebuild_tensor_v2(*_):
        raise AssertionError

    for name in [*KINDS.values(), "device", "Size"]:
        setattr(modules["torch"], name, type(name, (), {"__module__": "torch"}))
    for name, bases in (("Config", (dict,)), ("Steps", (list,)), ("Trainer", ()), ("Net", ())):
        setattr(modules["script"], name, type(name, bases, {"__module__": "script"}))
    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    modules["torch._utils"]._rebuild_tensor_v2 = _rebuild_tensor_v2
    with mock.patch.dict(sys.modules, modules):
        yield modules


def torch_file(content, protocol: int = 2) -> bytes:
    """The bytes of torch.save(content); arrays in dicts are tensors. Call it inside stand_ins()."""
    storages: list[np.ndarray] = []

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if not isinstance(value, Numbers):
                return None
            storages.append(value.values)
            kind = getattr(sys.modules["torch"], KINDS[value.values.dtype.name])
            return ("storage", kind, str(len(storages) - 1), "cpu", value.values.size)

    pickled, file = io.BytesIO(), io.BytesIO()
    Pickler(pickled, protocol).dump(content)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled.getvalue())
        archive.writestr("archive/byteorder", "little")
        for number, values in enumerate(storages):
            archive.writestr(f"archive/data/{number}", values.tobytes())
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


def legacy_file(content, big_endian: bool = False) -> bytes:
    """The bytes of torch.save(content, _use_new_zipfile_serialization=False). Call it inside stand_ins()."""
    storages: dict[str, np.ndarray] = {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if not isinstance(value, Numbers):
                return None
            key = str(94_000_000 + len(storages))
            storages[key] = value.values
            kind = getattr(sys.modules["torch"], KINDS[value.values.dtype.name])
            return ("storage", kind, key, "cpu", value.values.size, None)

    file = io.BytesIO()
    sizes = {"short": 2, "int": 4, "long": 4}
    machine = {"protocol_version": 1001, "little_endian": not big_endian, "type_sizes": sizes}
    for value in (0x1950A86A20F9469CFC6C, 1001, machine):
        pickle.dump(value, file, 2)
    Pickler(file, 2).dump(content)
    keys = sorted(storages, reverse=True)
    pickle.dump(keys, file, 2)
    for key in keys:
        file.write(storages[key].size.to_bytes(8, "little") + storages[key].tobytes())
    return file.getvalue()


def saved(tensors) -> dict[str, Saved]:
    return {name: Saved(value) for name, value in tensors.items()}
