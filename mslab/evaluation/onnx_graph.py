"""A ResNet as an ONNX graph, written node by node in the order of model.py: for mslab export, and for engines."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mslab.checkpoint import dialects
from mslab.checkpoint.networks import Network, ResNet
from mslab.runtime.packages import package

OPSET, IR_VERSION = 13, 7  # ONNX 1.8 (2020): old enough for nearly every reader, new enough for the checker
LOGITS, FEATURES = "logits", "flatten.out"  # outputs: (N, class_num), and the head's input (N, C)
MAPS = "maps"  # the backbone's output (N, C, h, w)


def write_onnx(
    tensors: Mapping[str, np.ndarray],
    network: Network,
    side: int,
    outputs: Sequence[str] = (LOGITS,),
) -> bytes:
    """The bytes of an ONNX file: images (N, 3, side, side) -> these outputs.

    `tensors`: of the network, under mslab's names; without a head if LOGITS is no output.

    ms.export refuses a variable number of images, and a padded pool (2.8.0). BatchNorm remains separate: runtimes fuse
    it when they load the file, and the weights, under torchvision's names, can be trained further.
    """
    assert isinstance(network, ResNet)  # engines.choose and export have seen to that
    helper, stages, profile = package("onnx").helper, network.stages, network.profile
    tensors, size = dialects.to_torch(tensors), side
    nodes: list[Any] = []

    def node(operator: str, name: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, list(inputs), [f"{name}.out"], name=name, **attributes))
        return f"{name}.out"

    def unit(x: str, conv: str, norm: str, stride: int = 1, same: bool = False, eps: str = "eps") -> str:
        """Convolution and BatchNorm."""
        kernel = tensors[f"{conv}.weight"].shape[2]
        window = _window(kernel, stride, size, same)
        x = node("Conv", conv, x, f"{conv}.weight", **window)
        parts = [f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        return node("BatchNormalization", norm, x, *parts, epsilon=profile[eps])

    small, same = profile["stem"] == "small", profile["padding"] == "same"
    x = unit("images", "conv1", "bn1", 1 if small else 2, same and not small, "outer_eps")
    x = node("Relu", "relu", x)
    if not small:
        size = -(-size // 2)
        x = node("MaxPool", "pool", x, **_window(3, 2, size, profile["pool"] == "same"))
        size = -(-size // 2)
    convolutions, strided = (2, 1) if profile["block"] == "basic" else (3, 2)  # per block; which one has the stride
    for number, (blocks, _, first_stride) in enumerate(stages, start=1):
        for index in range(blocks):
            block, stride, short = f"layer{number}.{index}", first_stride if index == 0 else 1, x
            if f"{block}.downsample.0.weight" in tensors:
                short = unit(x, f"{block}.downsample.0", f"{block}.downsample.1", stride, eps="outer_eps")
            for i in range(1, convolutions + 1):
                has_stride = i == strided
                x = unit(x, f"{block}.conv{i}", f"{block}.bn{i}", stride if has_stride else 1, has_stride and same)
                size = -(-size // stride) if has_stride else size
                if i < convolutions:
                    x = node("Relu", f"{block}.relu{i}", x)
            x = node("Relu", f"{block}.relu", node("Add", f"{block}.add", x, short))
    if MAPS in outputs:
        nodes.append(helper.make_node("Identity", [x], [MAPS], name=MAPS))
    x = node("Flatten", "flatten", node("GlobalAveragePool", "mean", x))
    if LOGITS in outputs:
        if "hidden.weight" in tensors:
            x = node("Gemm", "hidden", x, "hidden.weight", "hidden.bias", transB=1)
            x = node("Relu", "hidden.relu", x)
        nodes.append(helper.make_node("Gemm", [x, "fc.weight", "fc.bias"], [LOGITS], name="fc", transB=1))
    return _model(nodes, tensors, side, outputs)


def _model(nodes: list[Any], tensors: Mapping[str, np.ndarray], side: int, outputs: Sequence[str]) -> bytes:
    """The bytes of an ONNX file with these nodes and their weights, inputs and outputs."""
    onnx = package("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    images = helper.make_tensor_value_info("images", kind, ["N", 3, side, side])
    shapes: dict[str, list[Any]] = {FEATURES: ["N", "C"], MAPS: ["N", "C", "h", "w"]}
    if LOGITS in outputs:
        shapes[LOGITS] = ["N", len(tensors["fc.bias"])]
    results = [helper.make_tensor_value_info(name, kind, shapes[name]) for name in outputs]
    exported = {name: value for name, value in tensors.items() if not name.endswith(dialects.DROPPED)}
    weights = [onnx.numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in exported.items()]
    graph = helper.make_graph(nodes, "mslab", [images], results, weights)
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, producer_name="mslab", ir_version=IR_VERSION, opset_imports=opset)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _window(kernel: int, stride: int, size: int, same: bool) -> dict[str, list[int]]:
    """Attributes of a convolution or pool on maps of this side; "same" pads as needed, more at right and bottom."""
    padding = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    pads = [padding // 2] * 2 + [padding - padding // 2] * 2 if same else [kernel // 2] * 4  # top, left, bottom, right
    return {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": pads}
