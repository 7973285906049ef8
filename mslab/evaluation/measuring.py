"""Network + data -> metrics."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import mindspore as ms
import numpy as np
from mindspore import nn
from mindspore.nn.utils import no_init_parameters

from mslab import checkpoint, cpu_layout, model
from mslab.check import DatasetReport, check_dataset, cores
from mslab.check.label_report import LabelReport
from mslab.check.layout import alike, renaming
from mslab.checkpoint import NO_CHOICE, Checkpoint, Choice
from mslab.config.tasks import CLASSIFY
from mslab.data import augment, batching
from mslab.data.sources import ImageSource, images_of
from mslab.errors import CheckpointError, DatasetError
from mslab.escaping import command, quoted, typed_with
from mslab.evaluation import metrics, task_models, temperature, thresholds
from mslab.evaluation.engines import pad_batch
from mslab.files import kind_of
from mslab.runs import finding
from mslab.runs import weights as weight_files
from mslab.runtime import compiled_layers, devices, turns
from mslab.runtime.console import Meter
from mslab.runtime.tables import one_line
from mslab.runtime.workers import ALONE, Group

log = logging.getLogger("mslab")


def predict_logits(
    network: nn.Cell, batches: Iterable[tuple[np.ndarray, np.ndarray]], batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Logits and labels, batch by batch: float32 (n, class_num), int32 (n,). Leaves the network in evaluation mode.

    A smaller last batch is padded, since a new shape would compile again; the padding is removed from the result.
    """
    network.set_train(False)
    for x, y in batches:
        yield network(ms.Tensor(pad_batch(x, batch_size))).asnumpy()[: len(x)], y


def measure(
    network: nn.Cell,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    batch_size: int,
    class_names: Sequence[str],
    group: Group = ALONE,
    on_batch: Iterable[Callable[[np.ndarray, np.ndarray], None]] = (),
) -> dict[str, Any]:
    """Metrics over these batches and those of the group's other workers: accuracy, loss, per-class figures.

    Each function of `on_batch` is called with the logits and labels of each batch of this worker.
    """
    total = np.zeros(len(class_names) ** 2 + 2)
    for logits, labels in predict_logits(network, batches, batch_size):
        total += metrics.counts(logits, labels)
        for call in on_batch:
            call(logits, labels)
    return metrics.figures(group.sum(total), class_names)


LOG_2 = float(np.log(2))


class Mirrored(nn.Cell):
    """Test-time augmentation: the mean of the probabilities for an image and for its mirror image.

    (N, 3, H, W) -> logarithms of the mean probabilities (N, class_num)
    """

    def __init__(self, network: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        first = ms.ops.log_softmax(self.network(x))
        second = ms.ops.log_softmax(self.network(ms.ops.flip(x, (3,))))
        # log((e^a + e^b) / 2): finite where probabilities are too small for float32
        larger, difference = ms.ops.maximum(first, second), ms.ops.abs(first - second)
        return larger + ms.ops.log1p(ms.ops.exp(-difference)) - LOG_2


PREPROCESSING = ("image_size", "mean", "std", "resize_size", "resize_mode")  # keys of a checkpoint's entry


@dataclass
class Loaded:
    """A network from a file, with everything needed to use it."""

    network: nn.Cell  # normalised float32 (N, 3, H, W) -> logits (N, class_num); in evaluation mode
    class_names: list[str]  # in index order
    info: dict[str, Any]  # the checkpoint's `mslab` entry: image_size, mean, std, stages, profile
    path: Path

    def speed_up(self, batch: int, device: str) -> None:
        """Change layers on a CPU, for batches of this many images, and compile them if there is a compiler."""
        self.fold(batch, device)
        compiled_layers.replace_layers(self.network)

    def fold(self, batch: int, device: str) -> None:
        """Change the pool and the layout of small maps on a CPU, for batches of this many images."""
        if device == "cpu" and isinstance(self.network.backbone, model.Backbone):
            cpu_layout.replace_pool(self.network.backbone)
            cpu_layout.stack_small_maps(self.network.backbone, batch, {self.info["image_size"]}, cores())

    def preprocess(self, image: Any) -> np.ndarray:
        """A file, its bytes, or a list of these -> float32 (N, 3, S, S), preprocessed as in evaluation."""
        if isinstance(image, list | tuple):
            return np.concatenate([self.preprocess(item) for item in image])
        x = np.frombuffer(image, np.uint8) if isinstance(image, bytes) else np.fromfile(image, np.uint8)
        for step in augment.eval_transforms(*(self.info[key] for key in PREPROCESSING)):
            x = step(x)
        return np.asarray(x, np.float32)[None]


def load_network(run_or_ckpt: str | os.PathLike[str], dialect: str = "", weights: str = "") -> Loaded:
    """The network of a run (its best.ckpt) or of a file, rebuilt from the stage table in the file.

    `dialect`: the project whose names the file has, if they do not show it; `weights`: of several sets in the file, the
    one to take. Raises CheckpointError or RunError if that fails.
    """
    return network_of(checkpoint.read(weight_files.best_file(run_or_ckpt), Choice(dialect, weights)))


def network_of(weights: Checkpoint) -> Loaded:
    """The network of a file that was read. Logs what was taken where the file leaves a choice."""
    refuse_incomplete(weights)
    return build_network(weights)


def refuse_incomplete(weights: Checkpoint) -> None:
    """Raise CheckpointError unless the file has a complete network of classes. Logs what was taken where it leaves a
    choice.
    """
    if weights.task != CLASSIFY:
        raise CheckpointError(
            f"{weights.path} is of task {weights.task}, and this takes networks of classes.",
            expected="a network that classifies",
            fix=f"{command('eval', weights.path, '--data', 'FOLDER')}    measures it on labelled images\n"
            f"{command('transfer', 'CONFIG', '--backbone', weights.path)}    puts a head of classes on its backbone",
        )
    if f"{checkpoint.HEAD}weight" not in weights.head:
        weights.check()  # names the tensors that nothing explains: one may be a head
        best = weights.path.with_name("best.ckpt")
        beside = f"use the best.ckpt beside it: {typed_with(weights.path, best) or quoted(best)}\nor "
        beside *= kind_of(best, links=True) == "a file"
        raise CheckpointError(
            f"{weights.path} is a backbone without a head: it computes features, not classes.",
            details=[("note", note) for note in weights.notes],
            expected="a complete network, such as best.ckpt",
            fix=f"{beside}train a head on it: {command('transfer', 'CONFIG', '--backbone', weights.path)}",
        )
    weights.check()
    for text in weights.choices:
        log.info(f"note: {weights.path}: {text}")


def build_network(weights: Checkpoint) -> Loaded:
    """MindSpore's network with these weights, which refuse_incomplete has accepted."""
    with no_init_parameters():  # drawing 23 million numbers that the file replaces takes most of the loading
        backbone = weights.network.backbone()
        head = model.resnet50_head(len(weights.class_names), backbone.channels, weights.hidden)
        network = model.ResNet50(backbone, head)
    checkpoint.load_exactly(network.parameters_dict(), weights.backbone | weights.head, weights.path, "network")
    network.set_train(False)
    return Loaded(network, weights.class_names, checkpoint.complete_info(weights), weights.path)


@turns.alone("mslab.evaluate")
def evaluate(
    run_or_ckpt: str | os.PathLike[str],
    data_root: str | Path,
    report: DatasetReport | None = None,
    device: str = "auto",
    batch_size: int = 32,
    tta: bool = False,
    choice: Choice = NO_CHOICE,
    threshold: Sequence[str] = (),
) -> dict[str, Any]:
    """Evaluate a run or file on a folder of class folders (of a data set with splits: test, else val).

    Returns the content of eval.json. `tta`: average the probabilities of each image and its mirror image.
    `choice`: as load_network's dialect and weights. `threshold`: CLASS=NUMBER texts, as thresholds.parse takes them.
    A class of the network of which the folder has no images gets no figures. Raises DatasetError for a class that the
    network does not have.
    """
    run_or_ckpt = finding.find_network(run_or_ckpt)  # before the images, which may take minutes
    weights = checkpoint.read(weight_files.best_file(run_or_ckpt), choice)
    if weights.task != CLASSIFY:
        labels = report if isinstance(report, LabelReport) else None
        return task_models.evaluate(weights, data_root, labels, device, batch_size)
    measured = "" if report else "data_root="  # whoever has checked the folder has said it
    report = report or check_dataset(data_root, **weight_files.reading_of(run_or_ckpt, choice))
    split, report = measured_split(data_root, report)
    if measured and (text := report.measured(measured)):
        log.info(f"measuring {text}")
    chosen_device = devices.start(device, "graph", seed=0)
    loaded = network_of(weights)
    names = known_classes(loaded, report)
    size, mean, std, resize, mode = (loaded.info[key] for key in PREPROCESSING)
    loaded.speed_up(batch_size, chosen_device)
    images = relabelled(images_of(report, split), names)
    batches = batching.eval_batches(images, size, mean, std, batch_size, resize=resize, mode=mode)
    network = Mirrored(loaded.network) if tta else loaded.network
    calibration, own = temperature.Calibration(), temperature.of(loaded.info)
    decisions = thresholds.Thresholds(thresholds.parse(threshold, loaded.class_names), loaded.class_names, own)
    with Meter(len(images)) as meter:
        progress = [
            lambda logits, labels: meter.update(
                f"evaluating {meter.done + len(labels)}/{len(images)} images", len(labels)
            ),
            *[calibration.add] * (own != 1),
            *[decisions.add] * bool(threshold),
        ]
        result = measure(network, batches, batch_size, names, on_batch=progress)
    if own != 1:
        result["calibration"] = calibration.figures(own)
    if threshold:
        result["thresholds"] = decisions.figures()
    origin = {"data": str(data_root), "checkpoint": str(loaded.path)} | ({"split": split} if split else {})
    return origin | ({"tta": "mirror"} if tta else {}) | result


class Described(Protocol):
    """What same_classes has to know of a network: a Loaded, or a models.Model."""

    path: Path
    class_names: list[str]
    info: dict[str, Any]


def known_classes(loaded: Described, report: DatasetReport) -> list[str]:
    """The network's classes, of which the folder may lack some. Raises DatasetError if it has another one."""
    names, trained = report.class_names, loaded.info.get("class_names") or []
    absent = [name for name in trained if name not in names]
    if not absent or not set(names) <= set(trained):
        return same_classes(loaded, report)
    count = f"{len(absent)} of {len(trained)} classes"
    log.info(f"note: {report.root} has no images of {count}, which get no figures: {one_line(', '.join(absent), 300)}")
    return list(trained)


def relabelled(images: ImageSource, class_names: list[str]) -> ImageSource:
    """The same images, with the labels that their classes have among `class_names`."""
    if images.class_names == class_names:
        return images
    index = np.array([class_names.index(name) for name in images.class_names], np.int32)
    return replace(images, labels=index[images.labels], class_names=class_names)


def same_classes(loaded: Described, report: DatasetReport) -> list[str]:
    """The classes of a checked folder. Raises DatasetError if they are not the network's."""
    trained, names = loaded.info.get("class_names"), report.class_names
    if len(names) != len(loaded.class_names) or (trained and names != loaded.class_names):
        fix = "use the data set of this run, or the run of this data set"
        extra = sorted(set(names) - set(loaded.class_names))
        meant = alike(extra, sorted(set(loaded.class_names) - set(names)))
        if extra and meant.keys() == set(extra) and len(names) == len(loaded.class_names):
            splits = report.splits.values()
            fix = "\n".join(renaming(s, name, meant[name]) for s in splits for name in meant if name in s.classes)
        elif extra and trained and len(extra) < len(names):
            absent = [name for name in trained if name not in names]
            options = " ".join(f"--ignore {quoted(name)}" for name in extra)
            fix = f"leave out the images of what it has not learned: {options}"
            fix += f"\nor rename the folder, if it is {' or '.join(absent)}" * bool(absent)
        raise DatasetError(
            f"{report.root} has the classes {', '.join(names)}; {loaded.path} has {', '.join(loaded.class_names)}.",
            expected="the same class names, in the same order, as in training",
            fix=fix,
        )
    return names


def measured_split(data_root: str | Path, report: DatasetReport | None = None) -> tuple[str, DatasetReport]:
    """(split to evaluate, report of the folder). Raises DatasetError if the check finds errors."""
    report = report or check_dataset(data_root)
    report.raise_errors()
    return report.measured_split, report


def samples(report: DatasetReport, split: str, most: int | None = None) -> metrics.Samples:
    """Images for Pillow to open and their class indices; at most `most`, evenly distributed."""
    images = images_of(report, split)
    count = min(len(images), most or len(images))
    index = np.unique(np.linspace(0, len(images) - 1, count).astype(int))
    return images.open_images(index), images.labels[index]
