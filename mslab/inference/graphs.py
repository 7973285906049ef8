"""Networks as graphs in MINDIR and ONNX files: their metadata, and how to run them.

Both formats are protobuf with the graph in field 7 and pairs of texts in field 14; MINDIR copied this from ONNX. After
the graph mslab appends two pairs: `mslab`, JSON as in a checkpoint, and `mslab_sha256`, of every byte before it. Only
files written by mslab are run: files with changed bytes or with operators that no network of mslab needs reach neither
MindSpore nor onnxruntime.
"""

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from mslab.checkpoint import Choice, readers, reading
from mslab.checkpoint.near import run_around
from mslab.checkpoint.reading import ENTRY
from mslab.checkpoint.writing import varint
from mslab.config import tasks
from mslab.errors import CheckpointError
from mslab.escaping import command, quoted
from mslab.evaluation import engines
from mslab.evaluation.engines import Engine
from mslab.files import kind_of, open_regular
from mslab.runtime.packages import package

Graph = Callable[[np.ndarray], np.ndarray]  # normalised float32 (N, 3, S, S) -> logits float32 (N, C)
DIGEST = "mslab_sha256"
MAX_BYTES = 2**31 - 1  # per file: protobuf's limit
GRAPH, TEXTS = 7, 14  # fields in both formats
FIELDS = {  # the fields of mslab's files; others could contain functions, training or data sets
    ".mindir": {1, 2, 3, 5, GRAPH, 10, 12, 13, TEXTS},
    ".onnx": {1, 2, 3, GRAPH, 8, TEXTS},
}
MINDIR_OPERATORS = """
    Add BatchNorm BiasAdd Conv2D MatMul MaxPool MaxPool3DWithArgmax ReLU ReduceMean ResizeNearestNeighborV2
    Constant Depend ExpandDims Load MakeTuple Squeeze TupleGetItem UpdateState
    AvgPool BatchMatMul BroadcastTo Concat GeLU GroupNorm HSigmoid HSwish InplaceAddExt LayerNorm Mul Pad ReLU6 Reshape
    SiLU Sigmoid Slice Softmax Split StridedSlice Sub SumExt Transpose Unstack
"""
ONNX_OPERATORS = """
    Add BatchNormalization Conv Flatten Gemm GlobalAveragePool MaxPool Relu Resize Shape
    AveragePool Cast Clip Concat Constant Div Erf Exp MatMul Mul Neg Pad Pow Reciprocal ReduceMean ReduceSum
    ReduceSumSquare Reshape Sigmoid Slice Softmax Split Sqrt Squeeze Sub Tanh Transpose Unsqueeze
"""
OPERATORS = {".mindir": set(MINDIR_OPERATORS.split()), ".onnx": set(ONNX_OPERATORS.split())}
REQUIRED = ("class_names", "image_size", "resize_size", "mean", "std")  # keys of the entry


def is_exported(path: Path) -> bool:
    """Whether the file name has the suffix of an exported graph."""
    return path.suffix in FIELDS


def refuse(choice: Choice, path: Path) -> None:
    """Raise CheckpointError if an option about checkpoints is given for an exported graph."""
    for name, value in vars(choice).items():
        if value:
            raise CheckpointError(
                f"--{name} {quoted(value)} does nothing for {path}.",
                expected="a checkpoint: an exported graph contains one network, as it is built",
                fix=f"leave --{name} out",
            )


def engine_of(path: Path) -> Engine:
    """The engine that runs a file of this suffix."""
    return Engine({".mindir": "mindspore", ".onnx": "onnxruntime"}[path.suffix])


def refuse_engine(engine: str, precision: str, path: Path) -> None:
    """Raise CheckpointError if another engine is asked for than the one that runs files of this suffix."""
    own = engine_of(path)
    if engine not in ("auto", own.name) or precision != own.precision:
        raise CheckpointError(
            f"engine: {engine} with precision: {precision} cannot run {path}.",
            expected=f"engine: {own.name} in {own.precision}, which runs files that end in {path.suffix}",
            fix=f"leave --engine and --precision out, or name the checkpoint that {path.name} was exported from",
        )


def refuse_task(info: Mapping[str, Any], path: Path) -> None:
    """Raise CheckpointError for an exported network of another task than classification."""
    if task := info.get("task"):
        run = run_around(path)
        raise CheckpointError(
            f"{path} is of task {task}: mslab does not make answers of what an exported network of this task returns.",
            expected="an exported network that classifies; or a checkpoint, of any task",
            fix=f"use {command('predict', run, 'IMAGE') if run else 'the run or best.ckpt that it was exported from'}",
        )


def open_exported(path: Path) -> tuple[Graph, dict[str, Any]]:
    """(normalised float32 (N, 3, S, S) -> logits float32 (N, C), the entry: class_names, image_size, mean, std …).

    Raises CheckpointError if the file is missing, damaged or not written by mslab, DeviceError without onnxruntime.
    """
    if kind_of(path, links=True) != "a file":
        near: list[str] = []
        with contextlib.suppress(OSError):  # a folder that cannot be listed
            near = sorted(str(p) for p in path.parent.glob("*") if is_exported(p))
        raise CheckpointError(
            f"{path} does not exist." if not kind_of(path, links=True) else f"{path} is {kind_of(path, links=True)}.",
            expected="a .mindir or .onnx file written by mslab export",
            fix=f"use one of {', '.join(near)}" if near else f"correct the path; or: {exporting(path)}",
        )
    if not 0 < path.stat().st_size <= MAX_BYTES:
        raise _damaged(path, f"it has {path.stat().st_size} bytes")
    try:
        with open_regular(path) as file:
            content = file.read()
        return open_content(content, path)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read: {error.strerror or error}.",
            expected="a readable file",
            fix=f"chmod u+r {quoted(path)}",
        ) from None


def open_content(content: bytes, path: Path) -> tuple[Graph, dict[str, Any]]:
    """The same for a file's content. `path`: for the format and for messages."""
    try:
        texts = readers.pairs(memoryview(content), TEXTS)
        if ENTRY not in texts:
            raise _no_entry(path)
        if content[-len(_digest(b"")) :] != _digest(memoryview(content)[: -len(_digest(b""))]):
            raise ValueError("its bytes have changed since mslab wrote them")
        info = {"resize_mode": "crop"} | reading.info_of(texts[ENTRY])
        if missing := [key for key in REQUIRED if not info.get(key)]:
            raise ValueError(f"its entry {ENTRY!r} has no {', '.join(missing)}")
        _check(memoryview(content), path.suffix)
        run = mindir(content) if path.suffix == ".mindir" else onnx(content)
    except readers.DAMAGE as error:
        raise _damaged(path, str(error) or type(error).__name__) from None

    def forward(x: np.ndarray) -> np.ndarray:
        outputs = len(info["class_names"]) + tasks.EXTRA_OUTPUTS.get(info.get("task", ""), 0)
        axes = 4 if info.get("task") in tasks.MAPS else 2
        try:  # mindcv's code writes the number of images into its graph
            logits = np.concatenate([run(image[None]) for image in x]) if info.get("network") else run(x)
        except Exception as error:  # the runtimes raise many types
            first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise _damaged(path, f"its graph does not run on images {x.shape}: {first_line[:160]}") from error
        if logits.shape[:2] != (len(x), outputs) or logits.ndim != axes:
            noun = "classes" if "task" not in info else f"outputs of task {info['task']}"
            raise _damaged(path, f"its graph returns {logits.shape} for {len(x)} images and {outputs} {noun}")
        return logits

    return forward, info


def add_entry(graph: bytes, info: Mapping[str, Any]) -> bytes:
    """A file's content: the graph's bytes, the entry, the sha256 of both."""
    content = graph + _pair(ENTRY, json.dumps(dict(info), sort_keys=True))
    return content + _digest(content)


def _pair(key: str, text: str) -> bytes:
    parts = b"".join(tag + varint(len(part)) + part for tag, part in ((b"\n", key.encode()), (b"\x12", text.encode())))
    return bytes([TEXTS << 3 | 2]) + varint(len(parts)) + parts


def _digest(content: bytes | memoryview) -> bytes:
    return _pair(DIGEST, hashlib.sha256(content).hexdigest())


def _check(content: memoryview, suffix: str) -> None:
    """Raise ValueError if the file contains more than a network, or if sizes do not match. Runs nothing of it."""
    for number, _, _ in readers.fields(content):
        if number not in FIELDS[suffix]:
            raise ValueError(f"an unexpected field {number}")
    if unknown := set(_operators(content, suffix)) - OPERATORS[suffix]:
        raise ValueError(f"it has operators that no network of mslab needs: {', '.join(sorted(unknown)[:5])}")
    (readers.read_onnx if suffix == ".onnx" else readers.read_mindir)(content)


def _operators(content: memoryview, suffix: str) -> Iterator[str]:
    """ModelProto {GraphProto graph = 7 {NodeProto node = 1 {op_type = 4}}}; MINDIR lists its primitives in field 12."""
    for graph in readers.messages(content, GRAPH):
        for node in readers.messages(graph, 1):
            names = [bytes(text).decode() for text in readers.messages(node, 4)]
            yield from (name for name in names if suffix == ".onnx" or not name.startswith("REF::"))
    for primitive in readers.messages(content, 12):  # PrimitiveProto {name = 1; op_type = 2}; nodes contain REF::NAME
        yield from (bytes(text).decode() for text in readers.messages(primitive, 2))


def mindir(content: bytes) -> Graph:
    """Load a MINDIR graph into MindSpore, on the started device; it compiles again for each number of images.

    Raises ValueError if MindSpore cannot load it.
    """
    with tempfile.TemporaryDirectory() as folder:  # load exactly the bytes that were checked
        file = Path(folder) / "graph.mindir"
        file.write_bytes(content)
        try:
            cell = nn.GraphCell(ms.load(str(file)))
        except Exception as error:  # MindSpore raises many types
            raise ValueError(str(error) or type(error).__name__) from None
    return forward_of(cell)


def forward_of(cell: nn.Cell) -> Graph:
    return lambda x: cell(ms.Tensor(x)).asnumpy()


def onnx(content: bytes) -> Graph:
    """Load an ONNX graph into onnxruntime, on the CPU. Raises DeviceError if that is not installed, else ValueError."""
    package("onnxruntime")
    try:
        run = engines.onnxruntime(content)
    except Exception as error:  # a dozen classes without a common base
        raise ValueError(str(error).strip().splitlines()[0][:160]) from None
    return lambda x: run(x)[0]


def exporting(path: Path) -> str:
    """The command that exports the network of the file's run under a name that is free, or a form to fill in."""
    run, out = run_around(path), path
    while out.exists():
        out = out.with_name(f"{out.stem}-again{out.suffix}")
    options = ("--format", path.suffix[1:], "--out", out)
    return command("export", run or "RUN", *options)


def _no_entry(path: Path) -> CheckpointError:
    fix = exporting(path)
    if path.suffix == ".onnx":
        converted = command("convert", path, "--to", path.with_suffix(".ckpt"))
        fix = f"for a ResNet's weights: {converted}    and predict with that"
    return CheckpointError(
        f"{path} has no entry {ENTRY!r}: its class names and the preprocessing of its images are unknown.",
        expected="a .mindir or .onnx file written by mslab export",
        fix=fix,
    )


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path} cannot be used: {reason}.",
        expected="a complete .mindir or .onnx file written by mslab export",
        fix=f"copy it again, or export it again: {exporting(path)}",
    )
