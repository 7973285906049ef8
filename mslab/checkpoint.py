"""Weights in files: a bounded reader, exact loading, atomic writing. Reading needs no MindSpore and trusts no size.

A file is MindSpore's protobuf: one entry a tensor (name, dims, type, bytes), plus one text entry named `mslab`: JSON
with class names, image size, normalisation, stage table and profile, so that a lone file can be evaluated.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mslab.errors import CheckpointError

ENTRY = "mslab"
MAX_BYTES = 16 * 2**30
MAX_TENSORS = 100_000
DTYPES = {"Float32": "<f4", "Float16": "<f2", "Float64": "<f8", "Int8": "<i1", "UInt8": "<u1", "Int16": "<i2"}
DTYPES |= {"Int32": "<i4", "Int64": "<i8", "Bool": "?", "BFloat16": "<u2"}
HEAD = "classifier."
PREFIX = "backbone."  # the original lab's files: MindSpore put it before every name
SLOTS = ("moments.", "adam_", "accum.", "ema.", "moment1.", "moment2.", "stat.", "state.")  # optimizers' tensors
COUNTERS = {
    "beta1_power",
    "beta2_power",
    "global_step",
    "learning_rate",
    "momentum",
    "epoch_num",
    "step_num",
    "loss_scale",
}


@dataclass
class Weights:
    """What a file holds. `info` is its `mslab` entry, {} where another program wrote it."""

    path: Path
    tensors: dict[str, np.ndarray]
    info: dict[str, Any] = field(default_factory=dict)

    def split(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
        """(backbone, head, optimizer) tensors, by name; the lab's `backbone.` prefix is taken off."""
        backbone, head, optimizer = {}, {}, {}
        for name, value in self.tensors.items():
            if name in COUNTERS or name.startswith(SLOTS):
                optimizer[name] = value
            elif name.removeprefix("head.").startswith(HEAD):
                head[name.removeprefix("head.")] = value
            else:
                backbone[name.removeprefix(PREFIX)] = value
        return backbone, head, optimizer

    @property
    def class_names(self) -> list[str]:
        """Of the head, in index order; "0", "1", … where the file does not tell; [] for a backbone alone."""
        rows = next((len(value) for name, value in self.split()[1].items() if name.endswith("weight")), 0)
        names = self.info.get("class_names")
        return list(names) if names and len(names) == rows else [str(index) for index in range(rows)]


# --- reading ---------------------------------------------------------------------------------------------------------


def read(path: str | Path) -> Weights:
    """Every tensor of a MindSpore checkpoint, each checked for type, shape and byte count before it is used.

    Raises CheckpointError where the file is missing, not a checkpoint, cut off, or tells sizes that do not agree.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(
            f"{path} is a folder.", expected="a .ckpt file", fix=f"{path / 'checkpoints' / 'best_backbone.ckpt'}?"
        )
    if not path.is_file():
        near = sorted(str(p) for p in path.parent.glob("*.ckpt")) if path.parent.is_dir() else []
        raise CheckpointError(
            f"There is no file {path}.",
            expected="a .ckpt file, such as runs/…/checkpoints/best_backbone.ckpt",
            fix=f"one of {', '.join(near)}" if near else "correct the path; mslab train writes such files",
        )
    size = path.stat().st_size
    if not 0 < size <= MAX_BYTES:
        raise _broken(path, f"it has {size} bytes")
    try:
        content = memoryview(path.read_bytes())
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read: {error.strerror}.", expected="a readable file", fix="chmod u+r"
        ) from None
    slices: dict[str, tuple[tuple[int, ...], str, list[memoryview]]] = {}
    info: dict[str, Any] = {}
    try:
        for number, kind, entry in _fields(content):
            if number != 1 or kind != 2:
                raise ValueError(f"an unexpected field {number}")
            name, dims, type_name, payload = _entry(entry)
            if type_name == "str":
                if name == ENTRY:
                    info = json.loads(bytes(payload).decode("utf-32-le"))  # MindSpore writes text as NumPy's U
                continue
            if type_name not in DTYPES:
                raise ValueError(f"{name} has the unknown type {type_name!r}")
            if name in slices and slices[name][:2] != (dims, type_name):
                raise ValueError(f"{name} is there twice")
            slices.setdefault(name, (dims, type_name, []))[2].append(payload)  # large tensors come in several pieces
            if len(slices) > MAX_TENSORS:
                raise ValueError(f"more than {MAX_TENSORS} tensors")
        tensors = {name: _tensor(name, *parts) for name, parts in slices.items()}
        if not isinstance(info, dict) or not tensors:
            raise ValueError("no tensors in it")
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise _broken(path, str(error)) from None
    return Weights(path, tensors, info)


def _broken(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is not a whole MindSpore checkpoint: {why}.",
        expected="a file written by mslab or by mindspore.save_checkpoint",
        fix="copy it again, or take another file; mslab writes them under runs/…/checkpoints/",
    )


def _tensor(name: str, dims: tuple[int, ...], type_name: str, pieces: list[memoryview]) -> np.ndarray:
    dtype = np.dtype(DTYPES[type_name])
    expected = dtype.itemsize
    for dim in dims:
        if not 0 <= dim <= MAX_BYTES:
            raise ValueError(f"{name} has a dimension of {dim}")
        expected *= dim
    found = sum(len(piece) for piece in pieces)
    if found != expected:
        raise ValueError(f"{name} {dims} {type_name} needs {expected} bytes and has {found}")
    content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    values = np.frombuffer(content, dtype).reshape(dims)
    if type_name == "BFloat16":  # NumPy has no such type: the upper half of a float32
        values = (values.astype("<u4") << 16).view("<f4")
    return values


def _fields(data: memoryview) -> Iterator[tuple[int, int, Any]]:
    """The fields of one protobuf message: (number, wire type, value)."""
    at = 0
    value: Any
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(data, at)
        elif kind == 2:
            length, at = _varint(data, at)
            if length > len(data) - at:
                raise ValueError("it is cut off")
            value, at = data[at : at + length], at + length
        else:
            raise ValueError(f"byte {at} belongs to no checkpoint")
        yield number, kind, value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
    raise ValueError(f"byte {at} belongs to no checkpoint")


def _entry(data: memoryview) -> tuple[str, tuple[int, ...], str, memoryview]:
    """(name, dims, type, bytes) of one Value {tag = 1; TensorProto tensor = 2 {dims = 1; type = 2; content = 3}}."""
    name, tensor = "", None
    for number, kind, value in _fields(data):
        if (number, kind) == (1, 2):
            name = bytes(value).decode()
        elif (number, kind) == (2, 2):
            tensor = value
    if not name or tensor is None:
        raise ValueError("an entry without name or tensor")
    dims: list[int] = []
    type_name, payload = "", memoryview(b"")
    for number, kind, value in _fields(tensor):
        if (number, kind) == (1, 0):
            dims.append(value)
        elif (number, kind) == (1, 2):  # the packed way to write the same
            at = 0
            while at < len(value):
                dim, at = _varint(value, at)
                dims.append(dim)
        elif (number, kind) == (2, 2):
            type_name = bytes(value).decode()
        elif (number, kind) == (3, 2):
            payload = value
    return name, tuple(dims), type_name, payload


# --- loading ---------------------------------------------------------------------------------------------------------


def load_exactly(wanted: Mapping[str, Any], tensors: Mapping[str, np.ndarray], path: Path, what: str) -> str:
    """Put the tensors into the parameters of the same names (`cell.parameters_dict()`).

    Names and shapes are compared both ways first: strict_load alone does not notice a missing one. Returns "backbone:
    265 of 265 tensors from FILE". Raises CheckpointError, with nothing assigned, where they differ.
    """
    from mindspore import Tensor

    rows = [("missing", f"{name} {tuple(p.shape)}") for name, p in wanted.items() if name not in tensors]
    rows += [("unknown", f"{name} {value.shape}") for name, value in tensors.items() if name not in wanted]
    for name in wanted.keys() & tensors.keys():
        if tuple(wanted[name].shape) != tensors[name].shape:
            rows.append(
                ("shape", f"{name} is {tensors[name].shape} in the file, {tuple(wanted[name].shape)} in the network")
            )
    if rows:
        hidden = len(rows) - 8
        raise CheckpointError(
            f"{path} does not fit the {what}: {len(wanted.keys() & tensors.keys())} of {len(wanted)} names agree.",
            details=sorted(rows)[:8] + ([("…", f"and {hidden} more")] if hidden > 0 else []),
            expected=f"exactly the {len(wanted)} tensors of this {what}, each with its shape",
            fix=_guess(wanted, tensors),
        )
    for name, parameter in wanted.items():
        parameter.set_data(Tensor(np.array(tensors[name]), parameter.dtype))
    return f"{what}: {len(wanted)} of {len(wanted)} tensors from {path}"


def _guess(wanted: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> str:
    names = tensors.keys()
    if any(name.endswith(("running_mean", "running_var")) for name in names):
        return "the names are PyTorch's; mslab reads MindSpore files whose names are mindcv's"
    if any(".norm1." in name or ".down_sample_layer." in name for name in names):
        return "the names are another MindSpore project's; mslab reads files whose names are mindcv's"
    if any(name.startswith("layer") for name in names):
        return "it comes from another stage table: set `stages` to the one it was trained with"
    return "it is another network's file; take best_backbone.ckpt of a mslab run"


# --- writing ---------------------------------------------------------------------------------------------------------


def save(parameters: Sequence[Any], path: Path, info: Mapping[str, Any]) -> None:
    """Write the parameters and the `mslab` entry, atomically. Equal weights and info give equal bytes."""
    import mindspore as ms

    entries = [{"name": parameter.name, "data": parameter} for parameter in parameters]

    def write(temporary: Path) -> None:
        ms.save_checkpoint(entries, str(temporary), append_dict={ENTRY: json.dumps(dict(info), sort_keys=True)})

    replace_atomically(path, write, suffix=".ckpt")


def replace_atomically(path: Path, write: Callable[[Path], object], suffix: str = "") -> None:
    """Have `write(temporary)` make the file beside its place, then put it there at once and durably."""
    temporary = path.with_name(f".{path.name}.tmp{suffix}")
    try:
        write(temporary)
        temporary.chmod(0o644)  # MindSpore writes 0400
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not every system lets a folder be opened
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    replace_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def _sha256(file: Any) -> str:  # Python 3.10
    digest = hashlib.sha256()
    while block := file.read(2**20):
        digest.update(block)
    return digest.hexdigest()
