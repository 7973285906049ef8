"""`mslab export`: a network as a MINDIR or ONNX graph, compared with its checkpoint before the file gets its name."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import mindspore as ms
import numpy as np

from mslab import files
from mslab.check import check_dataset
from mslab.checkpoint import NO_CHOICE, Choice, dialects
from mslab.config import load_settings
from mslab.data import sources
from mslab.errors import CheckpointError, ConfigError, DatasetError, MslabError
from mslab.escaping import quoted
from mslab.evaluation import gradcam, measuring
from mslab.inference import graphs
from mslab.runs import lock
from mslab.runs import weights as weight_files
from mslab.runtime import devices, targets

IMAGES = 8  # for the comparison
TOLERANCE = 1e-3  # largest difference of logits, relative to the largest logit
MAX_WEIGHTS = 2**30  # bytes; above, MindSpore writes a MINDIR as a folder; ONNX files are limited to twice that
OPSET, IR_VERSION = 13, 7  # ONNX 1.8 (2020): old enough for nearly every reader, new enough for the checker


def export_run(
    source: str | Path,
    kind: str,
    out: str | Path | None = None,
    data: str | Path | None = None,
    choice: Choice = NO_CHOICE,
) -> dict[str, Any]:
    """Write the network of a run or a checkpoint as a graph. `kind`: mindir or onnx; `out`: by default beside `source`.
    `choice`: about a checkpoint of others.

    Both are compared on images of `data`, else of the run's val_data, else on random numbers, singly and as a batch.
    Returns file, format, bytes, sha256, checkpoint, images, of, difference (of logits), relative (to the largest one).
    Raises CheckpointError, leaving no file, if they differ or if the target exists.
    """
    target = _target(weight_files.best_file(source), kind, out)
    for name in ("onnx", "onnxruntime") if kind == "onnx" else ():  # fail early if one is missing
        graphs.package(name)
    devices.start("cpu", "graph", seed=0)
    loaded = measuring.load_network(source, choice.dialect, choice.weights)
    weights = sum(parameter.nbytes for parameter in loaded.network.get_parameters())
    if weights > MAX_WEIGHTS:
        raise CheckpointError(
            f"{loaded.path} has {weights / 2**30:.1f} GiB of weights.",
            expected=f"at most {MAX_WEIGHTS / 2**30:g} GiB: more does not fit into one MINDIR or ONNX file",
            fix="export a network with fewer or narrower stages",
        )
    x, description = sample(loaded, data)
    keys = ("class_names", *measuring.PREPROCESSING, "stages", "profile")
    info = {key: (loaded.info | {"class_names": loaded.class_names})[key] for key in keys}
    info["checkpoint"] = files.sha256(loaded.path)
    content = graphs.add_entry(WRITERS[kind](loaded), info)
    result: dict[str, Any] = {"checkpoint": str(loaded.path), "file": str(target), "format": kind}
    result |= {"bytes": len(content), "images": len(x), "of": description}

    def write(file: IO[bytes]) -> None:
        file.write(content)
        file.seek(0)
        forward, _ = graphs.open_content(file.read(), target)
        difference = compare(graphs.forward_of(loaded.network), forward, x)
        if not difference["relative"] <= TOLERANCE:  # NaN, too
            raise CheckpointError(
                f"The graph for {target} does not reproduce {loaded.path}: {_comparison(result | difference)}.",
                expected=f"logits that differ by at most {TOLERANCE:g} of the largest one",
                fix="no file was written; please report this with the checkpoint and the output of mslab doctor",
            )
        result.update(difference)

    with lock.held_around({"--out": target}):
        files.replace_atomically(target, write)
    return result | {"sha256": files.sha256(target)}


def summary(result: Mapping[str, Any]) -> str:
    """The result of export_run as a message."""
    return (
        f"{result['file']}: {result['bytes'] / 2**20:.1f} MiB, the network of {result['checkpoint']}\n"
        f"compared {_comparison(result)}"
    )


def _comparison(result: Mapping[str, Any]) -> str:
    return (
        f"on {result['images']} {result['of']}, one by one and as a batch: logits differ by at most "
        f"{result['difference']:.1e}, {result['relative']:.1e} of the largest"
    )


def _target(source: Path, kind: str, out: str | Path | None) -> Path:
    """The path to write, whose folder is made. Raises MslabError if it is not possible."""
    target = Path(out) if out else source.with_suffix(f".{kind}")
    if kind not in WRITERS or target.suffix != f".{kind}":
        raise CheckpointError(
            f"{target}: the suffix is {target.suffix or 'missing'}, but the format is {kind}.",
            expected=f"one of the formats {', '.join(WRITERS)}, and a file name that ends in it",
            fix=f"--out {quoted(target.with_suffix(f'.{kind}'))}" if kind in WRITERS else "--format onnx",
        )
    targets.refuse_file(target, new=True, option="--out")
    files.make_folder(target.parent)
    return target


# --- comparison ------------------------------------------------------------------------------------------------------


def sample(loaded: measuring.Loaded, data: str | Path | None) -> tuple[np.ndarray, str]:
    """(preprocessed images, float32 (n, 3, S, S), a text that describes them).

    Raises DatasetError if `data` has no usable image.
    """
    if data is not None:
        return _images(loaded, data), f"images of {data}"
    config = loaded.path.absolute().parent.parent / "config.yaml"
    try:
        settings = load_settings(config, notes=False)
        links = {"follow_links": settings.follow_links, "ignore": settings.ignore}
        return _images(loaded, settings.val_data, **links), f"images of {settings.val_data}"
    except MslabError as error:  # the file is not in a run folder, or the run's images are missing
        reason = f": {error.what}" if isinstance(error, ConfigError) and files.kind_of(config) else ""  # it is ruined
        size = loaded.info["image_size"]
        x = np.random.default_rng(0).normal(size=(IMAGES, 3, size, size)).astype(np.float32)
        return x, f"arrays of random numbers, as no validation images could be read{reason}"


def _images(loaded: measuring.Loaded, root: str | Path, **links: Any) -> np.ndarray:
    split, report = measuring.measured_split(root, check_dataset(root, skip_content=True, **links))
    images = sources.images_of(report, split)
    if not len(images):
        raise DatasetError(f"{root} has no images.", expected="class folders of images", fix="use another --data")
    selected = images.take(np.unique(np.linspace(0, len(images) - 1, IMAGES).astype(int)))
    return next(iter(gradcam.batches(loaded.info, selected, len(selected))))[0]


def compare(network: graphs.Graph, graph: graphs.Graph, x: np.ndarray) -> dict[str, float]:
    """Largest difference of the logits, absolute and relative to the largest logit: as a batch, and one by one."""
    expected = network(x)
    single = np.concatenate([graph(image[None]) for image in x])
    difference = float(np.abs(np.stack([graph(x), single]) - expected).max())  # NaN if any logit is NaN
    return {"difference": difference, "relative": difference / max(float(np.abs(expected).max()), 1e-12)}


# --- MINDIR ----------------------------------------------------------------------------------------------------------


def mindir_graph(loaded: measuring.Loaded) -> bytes:
    """MindSpore's export, traced with one image; the graph accepts any number of images of any size."""
    size = loaded.info["image_size"]
    with tempfile.TemporaryDirectory() as folder:  # ms.export refuses paths with a space or an umlaut
        file = Path(folder) / "graph.mindir"
        image = ms.Tensor(np.zeros((1, 3, size, size), np.float32))
        ms.export(loaded.network, image, file_name=str(file), file_format="MINDIR", custom_func=_renumber)
        return file.read_bytes()


def _renumber(model: Any) -> None:
    """Make equal networks give equal bytes: MindSpore numbers names across graphs, and records the time."""
    graph, names = model.graph, {}
    for item in (*graph.parameter, *graph.input):
        names[item.name] = item.name.partition(":")[2]  # 230_1_mslab_model_ResNet50_construct_21:conv1.weight
    for number, node in enumerate(graph.node):
        names.update({name: f"node{number}.{index}" for index, name in enumerate(node.output)})
    kinds: dict[str, str] = {}  # primitives by settings; nodes refer to them as REF::Conv2D:24
    for node in graph.node:
        if node.op_type.startswith("REF::"):
            old = node.op_type.removeprefix("REF::")
            node.op_type = "REF::" + kinds.setdefault(old, f"{old.partition(':')[0]}:{len(kinds)}")
        node.name = names.get(node.name, node.name)
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    for item in (*graph.parameter, *graph.input, *graph.output):
        item.name = names.get(item.name, item.name)
    for primitive in model.primitives:
        primitive.name = kinds.get(primitive.name, primitive.name)
    _set_items(model.primitives, sorted(model.primitives, key=lambda primitive: primitive.name))
    _set_items(graph.attribute, [item for item in graph.attribute if item.name != "compile_phase"])
    graph.name = "mslab"


def _set_items(field: Any, items: list[Any]) -> None:
    """Replace the items of a repeated field."""
    copies = [type(item).FromString(item.SerializeToString()) for item in items]
    del field[:]
    field.extend(copies)


# --- ONNX ------------------------------------------------------------------------------------------------------------


def onnx_graph(loaded: measuring.Loaded) -> bytes:
    """The graph written node by node, in the order of model.py: images (N, 3, S, S) -> logits (N, class_num).

    ms.export refuses a variable number of images, and a padded pool (2.8.0). BatchNorm remains separate: runtimes fuse
    it when they load the file, and the weights, under torchvision's names, can be trained further.
    """
    helper = graphs.package("onnx").helper
    profile, size = loaded.info["profile"], loaded.info["image_size"]
    tensors = dialects.to_torch({p.name: p.asnumpy() for p in loaded.network.get_parameters()})
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
    for number, (blocks, _, first_stride) in enumerate(loaded.info["stages"], start=1):
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
    x = node("Flatten", "flatten", node("GlobalAveragePool", "mean", x))
    if "hidden.weight" in tensors:
        x = node("Gemm", "hidden", x, "hidden.weight", "hidden.bias", transB=1)
        x = node("Relu", "hidden.relu", x)
    nodes.append(helper.make_node("Gemm", [x, "fc.weight", "fc.bias"], ["logits"], name="fc", transB=1))
    return onnx_model(nodes, tensors, loaded.info["image_size"], len(loaded.class_names))


def onnx_model(nodes: list[Any], tensors: Mapping[str, np.ndarray], side: int, classes: int) -> bytes:
    """The bytes of an ONNX file with these nodes and their weights, inputs and outputs."""
    onnx = graphs.package("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    images = helper.make_tensor_value_info("images", kind, ["N", 3, side, side])
    logits = helper.make_tensor_value_info("logits", kind, ["N", classes])
    exported = {name: value for name, value in tensors.items() if not name.endswith(dialects.DROPPED)}
    weights = [onnx.numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in exported.items()]
    graph = helper.make_graph(nodes, "mslab", [images], [logits], weights)
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, producer_name="mslab", ir_version=IR_VERSION, opset_imports=opset)
    return model.SerializeToString(deterministic=True)


def _window(kernel: int, stride: int, size: int, same: bool) -> dict[str, list[int]]:
    """Attributes of a convolution or pool on maps of this side; "same" pads as needed, more at right and bottom."""
    padding = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    pads = [padding // 2] * 2 + [padding - padding // 2] * 2 if same else [kernel // 2] * 4  # top, left, bottom, right
    return {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": pads}


WRITERS = {"mindir": mindir_graph, "onnx": onnx_graph}
