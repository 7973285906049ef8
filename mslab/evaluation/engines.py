"""Networks on engines made for inference: images in, logits and features out. Imports no MindSpore.

The graph is written from the weights in memory (onnx_graph), and onnxruntime or OpenVINO compiles it for this CPU, with
a thread per core. MindSpore is the reference, and runs what these cannot (models.py).
"""

import hashlib
import logging
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np

from mslab.check import cores
from mslab.checkpoint import HEAD
from mslab.checkpoint.networks import MindcvNetwork, Network
from mslab.errors import MODEL, ConfigError, DeviceError
from mslab.evaluation import metrics
from mslab.evaluation.onnx_graph import FEATURES, LOGITS, MAPS, write_onnx
from mslab.files import read_text
from mslab.runtime.packages import package
from mslab.runtime.versions import version

log = logging.getLogger("mslab")
Outputs = dict[
    str, np.ndarray
]  # float32: logits (n, class_num), if there is a head; features (n, C); maps (n, C, h, w)
Forward = Callable[[np.ndarray], Outputs]  # normalised float32 (n, 3, S, S) -> outputs
NAMES = ("auto", "mindspore", "onnxruntime", "openvino")
PRECISIONS = ("fp32", "bf16")
# sha256 of model.py below its tables: the network that onnx_graph writes
NETWORK_CODE = "27c11ec5ef7241650ae774628756b6e76d377114be5d6463a587c39fa4961b24"


@dataclass(frozen=True)
class Engine:
    """What runs a network: mindspore, onnxruntime or openvino; fp32 or bf16."""

    name: str
    precision: str = "fp32"

    def __str__(self) -> str:
        return f"{self.name} {version(self.name)}" + f" in {self.precision}" * (self.precision != "fp32")

    def record(self) -> dict[str, str]:
        """The engine as manifests and results have it."""
        return {"engine": self.name, "version": version(self.name), "precision": self.precision}


def refuse(name: str, precision: str, device: str = "auto") -> None:
    """Raise ConfigError for an engine or a precision that does not exist or contradicts the others; imports nothing."""
    if name not in NAMES or precision not in PRECISIONS:
        key, value, known = ("engine", name, NAMES) if name not in NAMES else ("precision", precision, PRECISIONS)
        raise ConfigError(
            f"{key}: {value} does not exist.", expected=f"one of {', '.join(known)}", fix=f"{key}: {known[0]}"
        )
    if precision == "bf16" and name != "openvino":
        raise ConfigError(
            f"precision: bf16 cannot be used with engine: {name}.",
            expected="engine: openvino, the only one that computes in bfloat16",
            fix="engine: openvino, or precision: fp32",
        )
    if name in ("onnxruntime", "openvino") and device in ("gpu", "ascend"):
        raise ConfigError(
            f"engine: {name} cannot be used with device: {device}.",
            expected="device: cpu or auto: this engine runs on the CPU",
            fix=f"device: cpu, or engine: mindspore to use the {device}",
        )


def device_for(name: str, device: str) -> str:
    """The device to start: the CPU for an engine that runs on nothing else."""
    return "cpu" if name in ("onnxruntime", "openvino") else device


def choose(name: str, precision: str = "fp32", device: str = "cpu", network: Network | None = None) -> Engine:
    """The engine for a network, by default model.py's. `device`: the one that devices.start chose.

    auto: onnxruntime on a CPU, if that can be; MindSpore elsewhere. Raises ConfigError as `refuse` does, DeviceError if
    a named engine is not installed or cannot run the network.
    """
    refuse(name, precision, device)
    if isinstance(network, MindcvNetwork):
        if name not in ("auto", "mindspore"):
            raise DeviceError(
                f"engine: {name} cannot run {network.title}: mslab writes ONNX graphs of model.py's networks only.",
                expected="engine: auto or mindspore for a network of mindcv",
                fix="engine: mindspore",
            )
        return Engine("mindspore")
    missing = not all(map(version, ("onnx", "onnxruntime")))
    if name == "mindspore" or (name == "auto" and (device != "cpu" or missing or edited())):
        return Engine("mindspore")
    engine = Engine("onnxruntime" if name == "auto" else name, precision)
    if edited():
        raise DeviceError(
            f"engine: {name} cannot run this network: the code in {MODEL} was edited.",
            expected="mslab's own code below its tables; STAGES, STEM and PROFILE may be edited",
            fix="engine: mindspore, which runs any code; or restore the file",
        )
    try:
        module = package(engine.name)
        package("onnx")
    except DeviceError as error:
        if name != "auto":
            raise
        log.warning(f"note: MindSpore computes, slower than onnxruntime: {error.what} {error.fix}")
        return Engine("mindspore")
    if precision == "bf16" and "BF16" not in module.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise DeviceError(
            "precision: bf16 cannot be used: this CPU has no arithmetic in bfloat16.",
            expected="a CPU with AVX512_BF16 or AMX, such as Intel's since 2021 and AMD's since 2022",
            fix="precision: fp32",
        )
    return engine


def edited() -> bool:
    """Whether model.py's code, below its tables, is not mslab's own: another network than the graph's."""
    return code_digest(read_text(MODEL)) != NETWORK_CODE or bool(replaced(sys.modules.get("mslab.model")))


def replaced(model: ModuleType | None) -> list[str]:
    """The blocks, functions and methods of model.py that are defined elsewhere, as in a notebook."""
    if model is None:
        return []
    parts = {name: getattr(model, name, None) for name in re.findall(r"(?m)^(?:def|class) (\w+)", read_text(MODEL))}
    parts |= {f"BLOCKS[{name!r}]": block for name, block in model.BLOCKS.items()}
    for owner in [name for name, part in parts.items() if isinstance(part, type) and part.__module__ == model.__name__]:
        methods = vars(parts.pop(owner))
        parts |= {f"{owner}.{name}": methods[name] for name in ("__init__", "construct") if name in methods}
    codes = {name: getattr(part, "__code__", None) for name, part in parts.items()}
    return [name for name, code in codes.items() if code is None or Path(code.co_filename).name != MODEL.name]


def code_digest(text: str) -> str:
    """sha256 of model.py below its tables, from its first function on."""
    return hashlib.sha256(text[text.find("\ndef ") :].encode()).hexdigest()


def compiled(
    engine: Engine,
    tensors: Mapping[str, np.ndarray],
    network: Network,
    maps: bool = False,
    batch: int | None = None,
) -> Forward:
    """The network on onnxruntime or OpenVINO, compiled at the first images of each size.

    `tensors`: exactly those of the network, under mslab's names. Outputs: logits, if they include a head, and features;
    with `maps` only the backbone's maps. `batch`: images at a time; None: any number. The same images give the same
    bits.
    """
    tensors = {name: np.asarray(value, np.float32) for name, value in tensors.items()}
    if "head.output.weight" in tensors:  # of a task, on maps
        names = {LOGITS: "logits"}
    else:
        names = {LOGITS: "logits"} if f"{HEAD}weight" in tensors else {}
        names = {MAPS: "maps"} if maps else names | {FEATURES: "features"}
    start = partial(openvino, precision=engine.precision, batch=batch) if engine.name == "openvino" else onnxruntime
    by_side: dict[int, Callable[[np.ndarray], list[np.ndarray]]] = {}

    def forward(x: np.ndarray) -> Outputs:
        side = x.shape[-1]
        if side not in by_side:
            by_side[side] = start(write_onnx(tensors, network, side, list(names)))
        return dict(zip(names.values(), by_side[side](x), strict=True))

    return forward


def onnxruntime(content: bytes) -> Callable[[np.ndarray], list[np.ndarray]]:
    """An ONNX graph with one input on onnxruntime: its input -> its outputs. Raises what onnxruntime raises."""
    runtime = package("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # errors are raised anyway
    options.intra_op_num_threads = cores()  # its threads spin between operators: without, 15 % slower at 64 pixels
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})  # type: ignore[no-any-return]


def openvino(content: bytes, precision: str, batch: int | None) -> Callable[[np.ndarray], list[np.ndarray]]:
    """The same on OpenVINO, in this precision; 4 % faster with a fixed number of images at a time."""
    core = package("openvino").Core()
    graph = core.read_model(content)
    if batch:
        graph.reshape([batch, *list(graph.input().partial_shape)[1:]])
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": cores()}
    hints["INFERENCE_PRECISION_HINT"] = {"fp32": "f32", "bf16": "bf16"}[precision]  # bf16 is its default with AMX
    request = core.compile_model(graph, "CPU", hints).create_infer_request()
    return lambda x: [np.array(rows) for rows in request.infer({0: x}).values()]  # copied: it reuses their memory


def runner(
    engine: Engine,
    batch: int,
    tensors: Mapping[str, np.ndarray],
    network: Network,
) -> "Runner":
    """The network on onnxruntime or OpenVINO, for up to `batch` images at a time; the rest is as in `compiled`."""
    forward, precise = (
        compiled(Engine(engine.name, precision), tensors, network, batch=batch)
        for precision in (engine.precision, "fp32")
    )
    return Runner(engine, batch, forward, precise if engine.precision != "fp32" else None)


@dataclass
class Runner:
    """A network on an engine, in batches of one size, since a batch's size may change how sums are rounded."""

    engine: Engine
    batch: int
    forward: Forward
    precise: Forward | None = None  # the same network in float32, to compare the first images with

    def __call__(self, x: np.ndarray) -> Outputs:
        """Normalised float32 (n, 3, S, S), n up to `batch` -> logits (n, class_num) and features (n, C) by name."""
        outputs = self.padded(self.forward, x)
        if self.precise:
            log.info(difference(self.engine.precision, self.padded(self.precise, x), outputs))
            self.precise = None
        return outputs

    def warm_up(self, x: np.ndarray) -> None:
        """Compile for images of this size."""
        for forward in filter(None, (self.forward, self.precise)):
            self.padded(forward, x)

    def padded(self, forward: Forward, x: np.ndarray) -> Outputs:
        """The outputs of images in a full batch."""
        return {name: rows[: len(x)] for name, rows in forward(pad_batch(x, self.batch)).items()}


def pad_batch(x: np.ndarray, batch_size: int) -> np.ndarray:
    """(n, ...) -> (batch_size, ...), padded with zeros."""
    return np.concatenate([x, np.zeros((batch_size - len(x), *x.shape[1:]), x.dtype)]) if len(x) < batch_size else x


def batch_of(size: int) -> int:
    """Images per inference step for images of this side: 32 of 64 pixels, 8 of 224.

    About the fastest size of each engine in `./run.sh bench predict`; it also fits into an accelerator's memory.
    """
    return int(min(64, max(4, 2 ** round(np.log2(32 * 64 / size)))))


def is_close_call(logits: np.ndarray) -> bool:
    """Whether an image's two largest logits are so close that engines, which round differently, may swap them."""
    if logits.shape[1] < 2:
        return False
    if not np.isfinite(logits).all():
        return True
    first, second = -np.partition(-logits, 1, axis=1)[:, :2].T
    return bool((first - second <= 1e-5 * np.abs(logits).max()).any())


def difference(precision: str, precise: Outputs, outputs: Outputs) -> str:
    """What a lower precision changes, in one line. `precise`, `outputs`: of the same images."""
    if "logits" not in outputs:
        largest = np.abs(precise["features"]).max()
        relative = np.abs(precise["features"] - outputs["features"]).max() / max(largest, 1e-12)
        count = len(outputs["features"])
        return f"{precision}: features differ by at most {relative:.1e} of the largest on the first {count} images"
    first, second = (metrics.probabilities(rows["logits"]) for rows in (precise, outputs))
    changes = int((first.argmax(axis=1) != second.argmax(axis=1)).sum())
    return (
        f"{precision}: probabilities differ by at most {np.abs(first - second).max():.3f} on the first {len(first)} "
        f"images, {changes} {'class changes' if changes == 1 else 'classes change'}"
    )
