"""Network + data -> metrics."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from mslab import checkpoint, cpu_layout, model
from mslab.check import DatasetReport, check_dataset, cores
from mslab.config import IMAGENET
from mslab.data import augment, batching
from mslab.data.sources import images_of
from mslab.errors import CheckpointError, DatasetError, RunError
from mslab.evaluation import metrics
from mslab.runtime import devices
from mslab.runtime.workers import ALONE, Group


def predict_logits(
    network: nn.Cell, batches: Iterable[tuple[np.ndarray, np.ndarray]], batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Logits and labels, batch by batch: float32 (n, class_num), int32 (n,). Leaves the network in evaluation mode.

    A smaller last batch is filled up, since a new shape would compile anew, and the filling is cut off again.
    """
    network.set_train(False)
    for x, y in batches:
        yield network(ms.Tensor(pad_batch(x, batch_size))).asnumpy()[: len(x)], y


def pad_batch(x: np.ndarray, batch_size: int) -> np.ndarray:
    """(n, ...) -> (batch_size, ...): what is missing is zeros."""
    return np.concatenate([x, np.zeros((batch_size - len(x), *x.shape[1:]), x.dtype)]) if len(x) < batch_size else x


def measure(
    network: nn.Cell,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    batch_size: int,
    class_names: Sequence[str],
    group: Group = ALONE,
    on_batch: Iterable[Callable[[np.ndarray, np.ndarray], None]] = (),
) -> dict[str, Any]:
    """Figures of the network on these batches, and on those of the group's other workers: accuracy, loss, per class.

    Each of `on_batch` is called with the logits and labels of each of these batches.
    """
    total = np.zeros(len(class_names) ** 2 + 2)
    for logits, labels in predict_logits(network, batches, batch_size):
        total += metrics.counts(logits, labels)
        for call in on_batch:
            call(logits, labels)
    return metrics.figures(group.sum(total), class_names)


class Mirrored(nn.Cell):
    """The mean of what the network thinks of an image and of its mirror image (test-time augmentation).

    (N, 3, H, W) -> logarithms of the mean probabilities (N, class_num)
    """

    def __init__(self, network: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        shares = ms.ops.softmax(self.network(x)) + ms.ops.softmax(self.network(ms.ops.flip(x, (3,))))
        return ms.ops.log(shares / 2)


STANDARD: dict[str, Any] = {"image_size": 224} | IMAGENET  # where a file does not tell
PREPROCESSING = ("image_size", "mean", "std", "resize_size")  # of a checkpoint's entry


@dataclass
class Loaded:
    """A network from a file, with what is needed to use it."""

    network: nn.Cell  # normalised float32 (N, 3, H, W) -> logits (N, class_num); in evaluation mode
    class_names: list[str]  # in index order
    info: dict[str, Any]  # the checkpoint's `mslab` entry: image_size, mean, std, stages, profile
    path: Path

    def fold(self, batch: int, device: str) -> None:
        """Fold small maps on a CPU for batches of this many images."""
        if device == "cpu":
            cpu_layout.fold_small_maps(self.network.backbone, batch, self.info["image_size"], cores())

    def preprocess(self, image: Any) -> np.ndarray:
        """A file, its bytes, or a list of either -> float32 (N, 3, S, S) as the network saw it in evaluation."""
        if isinstance(image, list | tuple):
            return np.concatenate([self.preprocess(item) for item in image])
        x = np.frombuffer(image, np.uint8) if isinstance(image, bytes) else np.fromfile(image, np.uint8)
        for step in augment.eval_transforms(*(self.info[key] for key in PREPROCESSING)):
            x = step(x)
        return np.asarray(x, np.float32)[None]


def best_file(run_or_ckpt: str | Path) -> Path:
    """The file itself, or a run's best.ckpt. Raises RunError for a folder without one."""
    path = Path(run_or_ckpt)
    if not path.is_dir():
        return path
    best = path / "checkpoints" / "best.ckpt"
    if not best.is_file():
        raise RunError(
            f"{path} has no checkpoints/best.ckpt.",
            expected="a run folder in which at least one epoch was completed",
            fix=f"mslab train --resume {path}, or give another run or a .ckpt file",
        )
    return best


def load_network(run_or_ckpt: str | Path) -> Loaded:
    """The network of a run (its best.ckpt) or of a file, rebuilt from the file's own stage table.

    Raises CheckpointError or RunError where that cannot be done.
    """
    weights = checkpoint.read(best_file(run_or_ckpt))
    if f"{checkpoint.HEAD}weight" not in weights.head:
        raise CheckpointError(
            f"{weights.path} is a backbone without a head: it gives features, no classes.",
            expected="a whole network, such as best.ckpt",
            fix="best.ckpt beside it; or mslab transfer CONFIG --backbone FILE, to train a head on it",
        )
    weights.check()
    backbone = model.resnet50_backbone(weights.stages, weights.profile)
    head = model.resnet50_head(len(weights.class_names), backbone.channels, weights.hidden)
    network = model.ResNet50(backbone, head)
    checkpoint.load_exactly(network.parameters_dict(), weights.backbone | weights.head, weights.path, "network")
    network.set_train(False)
    info = STANDARD | weights.info
    info |= {"resize_size": info.get("resize_size") or info["image_size"]}  # older files have none
    info |= {"stages": weights.stages, "profile": weights.profile}
    return Loaded(network, weights.class_names, info, weights.path)


def evaluate(
    run_or_ckpt: str | Path,
    data_root: str | Path,
    report: DatasetReport | None = None,
    device: str = "auto",
    batch_size: int = 32,
    tta: bool = False,
) -> dict[str, Any]:
    """eval.json's content for a run or file on a folder of class folders (of a parent: its test, else val).

    `tta`: the mean of each image's and its mirror image's probabilities.

    Raises DatasetError where the folder's classes are not the network's.
    """
    split, report = measured_split(data_root, report)
    taken = devices.start(device, "graph", seed=0)
    loaded = load_network(run_or_ckpt)
    names = same_classes(loaded, report)
    size, mean, std, resize = (loaded.info[key] for key in PREPROCESSING)
    loaded.fold(batch_size, taken)
    batches = batching.eval_batches(images_of(report, split), size, mean, std, batch_size, resize=resize)
    result = measure(Mirrored(loaded.network) if tta else loaded.network, batches, batch_size, names)
    return {"data": str(data_root), "checkpoint": str(loaded.path)} | ({"tta": "mirror"} if tta else {}) | result


def same_classes(loaded: Loaded, report: DatasetReport) -> list[str]:
    """The classes of a checked folder. Raises DatasetError where they are not the network's."""
    known, names = loaded.info.get("class_names"), report.class_names
    if len(names) != len(loaded.class_names) or (known and names != loaded.class_names):
        raise DatasetError(
            f"{report.root} has the classes {', '.join(names)}; {loaded.path} knows {', '.join(loaded.class_names)}.",
            expected="the classes that the network was trained on, by name",
            fix="give the data set that belongs to this run, or the run that belongs to this data set",
        )
    return names


def measured_split(data_root: str | Path, report: DatasetReport | None = None) -> tuple[str, DatasetReport]:
    """Which split of the folder is measured, and its report, without errors."""
    report = report or check_dataset(data_root)
    report.raise_errors()
    return next((name for name in ("test", "val", "", "train") if name in report.splits), ""), report


def samples(report: DatasetReport, split: str, most: int | None = None) -> metrics.Samples:
    """The images as Pillow opens them and their class indices; at most `most` of them, evenly spread."""
    images = images_of(report, split)
    count = min(len(images), most or len(images))
    index = np.unique(np.linspace(0, len(images) - 1, count).astype(int))
    return images.opened(index), images.labels[index]
