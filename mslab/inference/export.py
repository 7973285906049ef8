"""`mslab export`: a network as a MINDIR or ONNX graph, compared with its checkpoint before the file gets its name."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import mindspore as ms
import numpy as np

from mslab import checkpoint, files
from mslab.check import check_dataset
from mslab.check.label_check import check_labels
from mslab.checkpoint import HEAD, NO_CHOICE, Choice, networks
from mslab.config import load_settings
from mslab.config.tasks import CLASSIFY
from mslab.data import labelled_feed, sources
from mslab.errors import CheckpointError, ConfigError, DatasetError, MslabError
from mslab.escaping import quoted
from mslab.evaluation import gradcam, measuring, task_models, temperature
from mslab.evaluation.onnx_graph import write_onnx
from mslab.inference import graphs
from mslab.runs import lock
from mslab.runs import weights as weight_files
from mslab.runtime import devices, targets
from mslab.runtime.packages import package
from mslab.tasks.registry import task_of
from mslab.tasks.sample import fitted

IMAGES = 8  # for the comparison
OF_TASK = ("task", "options", "skeleton", "thresholds")  # keys of a checkpoint's entry
TOLERANCE = 1e-3  # largest difference of logits, relative to the largest logit
MAX_WEIGHTS = 2**30  # bytes; above, MindSpore writes a MINDIR as a folder; ONNX files are limited to twice that


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
        package(name)
    devices.start("cpu", "graph", seed=0)
    loaded = load(source, choice)
    weights = sum(parameter.nbytes for parameter in loaded.network.get_parameters())
    if weights > MAX_WEIGHTS:
        raise CheckpointError(
            f"{loaded.path} has {weights / 2**30:.1f} GiB of weights.",
            expected=f"at most {MAX_WEIGHTS / 2**30:g} GiB: more does not fit into one MINDIR or ONNX file",
            fix="export a network with fewer or narrower stages",
        )
    own = calibrate_head(loaded)
    x, description = sample(loaded, data)
    known = loaded.info | {"class_names": loaded.class_names}
    keys = ("class_names", *measuring.PREPROCESSING, *(key for key in OF_TASK if key in known))
    info = {key: known[key] for key in keys}
    info |= networks.of_record(loaded.info).record()
    if info["resize_mode"] == "crop":  # as in checkpoints: what lacks it is cropped
        del info["resize_mode"]
    info["checkpoint"] = files.sha256(loaded.path)
    content = graphs.add_entry(WRITERS[kind](loaded), info)
    result: dict[str, Any] = {"checkpoint": str(loaded.path), "file": str(target), "format": kind}
    result |= {"bytes": len(content), "images": len(x), "of": description}
    result |= {"temperature": own} if own != 1 else {}

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


def load(source: str | Path, choice: Choice) -> measuring.Loaded:
    """The network of a run or a file, of any task. Raises CheckpointError or RunError."""
    weights = checkpoint.read(weight_files.best_file(source), choice)
    if weights.task == CLASSIFY:
        return measuring.network_of(weights)
    _, info, network = task_models.load(weights)
    return measuring.Loaded(network, weights.class_names, info, weights.path)


def summary(result: Mapping[str, Any]) -> str:
    """The result of export_run as a message."""
    lines = [f"{result['file']}: {result['bytes'] / 2**20:.1f} MiB, the network of {result['checkpoint']}"]
    if "temperature" in result:
        lines.append(f"its logits are divided by the temperature {result['temperature']:.4g}, as predict does")
    return "\n".join([*lines, f"compared {_comparison(result)}"])


def calibrate_head(loaded: measuring.Loaded) -> float:
    """Divide the last layer by the checkpoint's temperature: softmax(logits) is what predict gives. Returns it."""
    own = temperature.of(loaded.info)
    for name in ("weight", "bias") if own != 1 else ():
        parameter = loaded.network.parameters_dict()[HEAD + name]
        parameter.set_data(ms.Tensor((parameter.asnumpy().astype(np.float64) / own).astype(np.float32)))
    return own


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


def _parts(loaded: measuring.Loaded, root: str | Path) -> np.ndarray:
    """What a task's network sees first of some images with labels."""
    task, size = task_of(loaded.info), loaded.info["image_size"]
    report = check_labels(root, task.name)
    report.raise_errors()
    images = labelled_feed.images_of(report, report.measured_split)
    parts = labelled_feed.parts_of(task, images)
    if not parts:
        what = f"{root} has no labels for {task.name}."
        raise DatasetError(what, expected="images with labels", fix="use another --data")
    chosen = np.unique(np.linspace(0, len(parts) - 1, IMAGES).astype(int))
    seen = (fitted(task.cut(images.sample(index), part), size).image for index, part in (parts[i] for i in chosen))
    return np.stack([labelled_feed.normalised(image, loaded.info["mean"], loaded.info["std"]) for image in seen])


def _images(loaded: measuring.Loaded, root: str | Path, **links: Any) -> np.ndarray:
    if "task" in loaded.info:
        return _parts(loaded, root)
    links["trained"] = loaded.info.get("folders")  # the pictures that are compared are those of its classes
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
    """MindSpore's export, traced with one image; model.py's graph accepts any number of images of any size."""
    return mindspore_graph(loaded, "MINDIR")


def mindspore_graph(loaded: measuring.Loaded, kind: str) -> bytes:
    """What ms.export writes. `kind`: MINDIR or ONNX."""
    size = loaded.info["image_size"]
    with tempfile.TemporaryDirectory() as folder:  # ms.export refuses paths with a space or an umlaut
        file = Path(folder) / f"graph.{kind.lower()}"
        image = ms.Tensor(np.zeros((1, 3, size, size), np.float32))
        more = {"custom_func": _renumber} if kind == "MINDIR" else {}
        ms.export(loaded.network, image, file_name=str(file), file_format=kind, **more)
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
    """Images (N, 3, S, S) -> logits (N, class_num). Of a mindcv network N is 1, and MindSpore writes the graph."""
    if loaded.info.get("network"):
        try:
            return mindspore_graph(loaded, "ONNX")
        except RuntimeError as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise CheckpointError(
                f"MindSpore cannot write {loaded.info['network']} as an ONNX graph: {reason[:200]}",
                expected="a network whose operators MindSpore can write as ONNX's",
                fix="--format mindir",
            ) from None
    tensors = {parameter.name: parameter.asnumpy() for parameter in loaded.network.get_parameters()}
    return write_onnx(tensors, networks.of_record(loaded.info), loaded.info["image_size"])


WRITERS = {"mindir": mindir_graph, "onnx": onnx_graph}
