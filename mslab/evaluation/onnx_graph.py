"""A ResNet as an ONNX graph, written node by node in the order of model.py: for mslab export, and for engines.

The networks of tasks have their pyramid and head after it, in the order of mslab/tasks/neck.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mslab.checkpoint import dialects
from mslab.checkpoint.networks import Network, ResNet
from mslab.runtime.packages import package
from mslab.tasks.layout import levels, stage_shapes

OPSET, IR_VERSION = 13, 7  # ONNX 1.8 (2020): old enough for nearly every reader, new enough for the checker
LOGITS, FEATURES = "logits", "flatten.out"  # outputs: (N, class_num), and the head's input (N, C)
MAPS = "maps"  # the backbone's output (N, C, h, w)
NECK, NECK_EPS = "neck.", 1e-5  # of a task's network, and nn.BatchNorm2d's own epsilon there


class Graph:
    """The nodes so far. `tensors`: of the network, under torchvision's names."""

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        self.tensors, self.nodes, self.helper = tensors, list[Any](), package("onnx").helper

    def node(self, operator: str, name: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        """Returns the name of the output."""
        out = out or f"{name}.out"
        self.nodes.append(self.helper.make_node(operator, list(inputs), [out], name=name, **attributes))
        return out

    def unit(self, x: str, conv: str, norm: str, size: int, eps: float, stride: int = 1, same: bool = False) -> str:
        """Convolution and BatchNorm of maps of this side."""
        window = _window(self.tensors[f"{conv}.weight"].shape[2], stride, size, same)
        x = self.node("Conv", conv, x, f"{conv}.weight", **window)
        parts = [f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        return self.node("BatchNormalization", norm, x, *parts, epsilon=eps)


def write_onnx(
    tensors: Mapping[str, np.ndarray],
    network: Network,
    side: int,
    outputs: Sequence[str] = (LOGITS,),
) -> bytes:
    """The bytes of an ONNX file: images (N, 3, side, side) -> these outputs.

    `tensors`: of the network, under mslab's names; without a head if LOGITS is no output. With a neck, LOGITS are maps
    (N, outputs, side/stride, side/stride), rounded up.

    ms.export refuses a variable number of images, and a padded pool (2.8.0). BatchNorm remains separate: runtimes fuse
    it when they load the file, and the weights, under torchvision's names, can be trained further.
    """
    assert isinstance(network, ResNet)  # engines.choose and export have seen to that
    graph = Graph(dialects.to_torch(tensors))
    stages = _backbone(graph, network, side)
    x, _ = stages[-1]
    if MAPS in outputs:
        graph.node("Identity", MAPS, x, out=MAPS)
    if f"{NECK}lateral.0.0.weight" in graph.tensors:
        used = levels(stage_shapes(network.stages, network.profile))
        return _model(graph, side, outputs, _map_head(graph, stages[-len(used) :]))
    x = graph.node("Flatten", "flatten", graph.node("GlobalAveragePool", "mean", x))
    if LOGITS in outputs:
        if "hidden.weight" in graph.tensors:
            x = graph.node("Gemm", "hidden", x, "hidden.weight", "hidden.bias", transB=1)
            x = graph.node("Relu", "hidden.relu", x)
        graph.node("Gemm", "fc", x, "fc.weight", "fc.bias", out=LOGITS, transB=1)
    return _model(graph, side, outputs)


def _backbone(graph: Graph, network: ResNet, side: int) -> list[tuple[str, int]]:
    """(name, side) of the map after each stage."""
    node, unit, profile, size = graph.node, graph.unit, network.profile, side
    maps, eps, outer = [], profile["eps"], profile["outer_eps"]
    small, same = profile["stem"] == "small", profile["padding"] == "same"
    x = unit("images", "conv1", "bn1", size, outer, 1 if small else 2, same and not small)
    x = node("Relu", "relu", x)
    if not small:
        size = -(-size // 2)
        x = node("MaxPool", "pool", x, **_window(3, 2, size, profile["pool"] == "same"))
        size = -(-size // 2)
    convolutions, strided = (2, 1) if profile["block"] == "basic" else (3, 2)  # per block; which one has the stride
    for number, (blocks, _, first_stride) in enumerate(network.stages, start=1):
        for index in range(blocks):
            block, stride, short = f"layer{number}.{index}", first_stride if index == 0 else 1, x
            if f"{block}.downsample.0.weight" in graph.tensors:
                short = unit(x, f"{block}.downsample.0", f"{block}.downsample.1", size, outer, stride)
            for i in range(1, convolutions + 1):
                has_stride = i == strided
                own = stride if has_stride else 1
                x = unit(x, f"{block}.conv{i}", f"{block}.bn{i}", size, eps, own, has_stride and same)
                size = -(-size // own)
                if i < convolutions:
                    x = node("Relu", f"{block}.relu{i}", x)
            x = node("Relu", f"{block}.relu", node("Add", f"{block}.add", x, short))
        maps.append((x, size))
    return maps


def _map_head(graph: Graph, maps: Sequence[tuple[str, int]]) -> int:
    """The pyramid of these maps and the head on it, as in mslab/tasks/neck.py. Returns the side of the result."""

    def added(name: str, x: str, above: str, larger: bool) -> str:
        """The sum of a map and a coarser one, whose cells are repeated."""
        if larger:  # cell i of the result is cell floor(i * in / out), as MindSpore has it
            rule = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            sizes = graph.node("Shape", f"{name}.shape", x)
            above = graph.node("Resize", f"{name}.enlarged", above, "", "", sizes, **rule)
        return graph.node("Add", f"{name}.add", x, above)

    above = merged = ""
    size = coarser = maps[-1][1]
    for i, (x, size) in reversed(list(enumerate(maps))):
        lateral, smooth = f"{NECK}lateral.{i}", f"{NECK}smooth.{i}"
        x = graph.unit(x, f"{lateral}.0", f"{lateral}.1", size, NECK_EPS)
        above = added(lateral, x, above, size != coarser) if above else x
        x = graph.node("Relu", f"{smooth}.relu", graph.unit(above, f"{smooth}.0", f"{smooth}.1", size, NECK_EPS))
        merged = added(smooth, x, merged, size != coarser) if merged else x
        coarser = size
    x = graph.node("Relu", "head.relu", graph.unit(merged, "head.hidden.0", "head.hidden.1", size, NECK_EPS))
    graph.node("Conv", "head.output", x, "head.output.weight", "head.output.bias", out=LOGITS, kernel_shape=[1, 1])
    return size


def _model(graph: Graph, side: int, outputs: Sequence[str], cells: int = 0) -> bytes:
    """The bytes of an ONNX file with these nodes and their weights, inputs and outputs.

    `cells`: on a side of the maps that LOGITS are; 0 for vectors.
    """
    onnx, tensors = package("onnx"), graph.tensors
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    images = helper.make_tensor_value_info("images", kind, ["N", 3, side, side])
    shapes: dict[str, list[Any]] = {FEATURES: ["N", "C"], MAPS: ["N", "C", "h", "w"]}
    if LOGITS in outputs:
        bias = tensors["head.output.bias" if cells else "fc.bias"]
        shapes[LOGITS] = ["N", len(bias), *[cells] * (2 if cells else 0)]
    results = [helper.make_tensor_value_info(name, kind, shapes[name]) for name in outputs]
    exported = {name: value for name, value in tensors.items() if not name.endswith(dialects.DROPPED)}
    weights = [onnx.numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in exported.items()]
    content = helper.make_graph(graph.nodes, "mslab", [images], results, weights)
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(content, producer_name="mslab", ir_version=IR_VERSION, opset_imports=opset)
    written: bytes = model.SerializeToString(deterministic=True)
    return written


def _window(kernel: int, stride: int, size: int, same: bool) -> dict[str, Any]:
    """Attributes of a convolution or pool on maps of this side; "same" pads as needed, more at right and bottom."""
    padding = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    pads = [padding // 2] * 2 + [padding - padding // 2] * 2 if same else [kernel // 2] * 4  # top, left, bottom, right
    return {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": pads}
