"""Predict with a network of a task: the objects, classes, key points or tags of images, as tables, CSV and JSON.

A row is what `mslab predict --json` has for an image. Coordinates are pixels of the image as it is stored.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mslab import checkpoint
from mslab.check.records import printable
from mslab.checkpoint import Checkpoint
from mslab.data.labelled_feed import pixels_of
from mslab.errors import CheckpointError, ConfigError
from mslab.evaluation import engines, task_models
from mslab.evaluation.task_models import Seen, TaskModel
from mslab.inference.coco_results import Boxes
from mslab.inference.predicting import CHUNK, csv_line, problems
from mslab.runtime import devices
from mslab.runtime.tables import cell, empty_table, fold, one_line, plural, render
from mslab.tasks import rle
from mslab.tasks.labels import ImageLabels
from mslab.tasks.task import Task

KEYS = {"detect": "objects", "segment": "classes", "keypoints": "objects", "multilabel": "tags"}  # of a row
NOTHING = "(none)"
UNUSABLE = "the network's answer is not finite: its weights are unusable"


class Answered(NamedTuple):
    """One image, its row, and the task's answer; None for an image that cannot be read."""

    path: Path
    row: dict[str, Any]
    answer: Any


def open_model(
    weights: Checkpoint,
    device: str = "auto",
    batch: int | None = None,
    engine: str = "auto",
    precision: str = "fp32",
    options: Mapping[str, Any] | None = None,
    most: int = 1 << 10,
) -> TaskModel:
    """The network of a task, on MindSpore. Starts the device.

    `batch`: parts of images per step, by default by image size, and not beyond `most`, the number of images; `options`:
    replace those of training, in detect.

    Raises CheckpointError, ConfigError or DeviceError.
    """
    engines.refuse(engine, precision, device)
    refuse_engine(weights.task, engine)
    devices.start(device, "graph", seed=0)
    info = weights.info | {"options": weights.info.get("options", {}) | dict(options or {})}
    batch = batch or min(most, engines.batch_of(checkpoint.complete_info(weights)["image_size"]))
    model = task_models.open_task(replace(weights, info=info), batch)
    return replace(model, forward=finite(model.forward, model.path))


def refuse_engine(task: str, engine: str) -> None:
    """Raise ConfigError for an engine that does not run networks of this task."""
    if engine not in ("auto", "mindspore"):
        raise ConfigError(
            f"engine: {engine} cannot run a network of task {task}.",
            expected="engine: auto or mindspore: the graphs of the other engines are of networks that classify",
            fix="engine: mindspore",
        )


def finite(forward: Callable[[np.ndarray], np.ndarray], path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The same network, which raises CheckpointError instead of answering nothing where its outputs are NaN."""

    def checked(x: np.ndarray) -> np.ndarray:
        outputs = forward(x)
        if not np.isfinite(outputs).all():
            raise CheckpointError(
                f"{path}: {UNUSABLE}.",
                expected="finite outputs for an image",
                fix="use the best.ckpt of a run that ended well; a lower lr_max keeps weights finite",
            )
        return outputs

    return checked


def predict(model: TaskModel, files: Sequence[Path], boxes: Boxes | None = None) -> Iterator[Answered]:
    """Yield what was found in each file, in order. `boxes`: of the objects, for keypoints; else one fills the image.

    An image that cannot be read has an error, and prediction continues with the rest. Each is first loaded in a worker
    process, since some files crash decoders.
    """
    for start in range(0, len(files), CHUNK):
        chunk = Chunk(model, files[start : start + CHUNK], boxes)
        done = 0
        for answer in model.answers(chunk.seen()):
            index, size, labels = chunk.waiting.popleft()
            yield from map(chunk.without_answer, range(done, index))
            yield found(model.task, chunk.files[index], size, answer, labels)
            done = index + 1
        yield from map(chunk.without_answer, range(done, len(chunk.files)))


class Chunk:
    """Some files, and why each of them has no answer, or ""."""

    def __init__(self, model: TaskModel, files: Sequence[Path], boxes: Boxes | None) -> None:
        self.model, self.files, self.boxes = model, files, boxes
        self.errors = problems(files)
        self.waiting: deque[tuple[int, tuple[int, int], ImageLabels | None]] = deque()  # those in the network

    def seen(self) -> Iterator[Seen]:
        """The readable images, one at a time."""
        for index, path in enumerate(self.files):
            if self.errors[index]:
                continue
            try:
                pixels = read(path)
                size = (pixels.shape[1], pixels.shape[0])
                labels = objects_in(self.model.task, path, size, self.boxes)
            except (OSError, ValueError) as error:  # it has changed since, or a box is not in it
                self.errors[index] = f"unreadable: {error}"
                continue
            self.waiting.append((index, size, labels))
            yield self.model.seen(pixels, labels)

    def without_answer(self, index: int) -> Answered:
        return without_answer(self.model.task, self.files[index], self.errors[index])


def read(path: Path) -> np.ndarray:
    """The pixels of an image that a worker has loaded before, uint8 (H, W, 3). Raises OSError or ValueError."""
    return pixels_of(path.read_bytes())


def objects_in(task: Task, path: Path, size: tuple[int, int], boxes: Boxes | None = None) -> ImageLabels | None:
    """For keypoints the boxes of the objects in an image of (width, height) pixels. Raises ValueError for others."""
    if task.name != "keypoints":
        return None
    own = boxes.within(path, size) if boxes else np.array([[0, 0, *size]], np.float32)
    points = np.ones((len(own), len(task.names), 3), np.float32)  # each object has points to be found
    return ImageLabels(
        "", boxes=own, classes=np.zeros(len(own), np.int32), ignored=np.zeros(len(own), bool), points=points
    )


def found(task: Task, path: Path, size: tuple[int, int], answer: Any, labels: ImageLabels | None = None) -> Answered:
    """The row of an answer. `labels`: the boxes that were asked about, which the answer gets instead of their crops."""
    answer = task.shown(answer if labels is None else answer._replace(boxes=labels.boxes))
    return Answered(path, {"file": printable(str(path))} | row_of(task, size, answer) | {"error": ""}, answer)


def without_answer(task: Task, path: Path, error: str) -> Answered:
    row: dict[str, Any] = {"file": printable(str(path)), "width": None, "height": None, KEYS[task.name]: None}
    if task.name == "multilabel":
        row["probabilities"] = None
    return Answered(path, row | {"error": error}, None)


def row_of(task: Task, size: tuple[int, int], answer: Any) -> dict[str, Any]:
    """width, height and what was found; of segment also where (COCO's run lengths), of tags every probability."""
    rows = task.rows(answer)
    for row in rows if task.name == "segment" else ():
        row["segmentation"] = segmentation(answer == task.names.index(row["class"]) + 1)
    row = {"width": size[0], "height": size[1], KEYS[task.name]: rows}
    if task.name == "multilabel":
        row["probabilities"] = {name: float(p) for name, p in zip(task.names, answer, strict=True)}
    return row


def segmentation(mask: np.ndarray) -> dict[str, Any]:
    """A mask, bool (H, W), as COCO's compressed run lengths."""
    return {"size": list(mask.shape), "counts": rle.to_string(rle.encode(mask))}


# --- CSV and table ----------------------------------------------------------------------------------------------------


def columns(task: Task) -> list[str]:
    """The columns of CSV between file and error."""
    box = ["left", "top", "right", "bottom"]
    if task.name == "keypoints":
        return ["object", *box, *(f"{what}({name})" for name in task.names for what in ("x", "y", "score"))]
    return {"detect": ["class", "score", *box], "segment": ["class", "share"]}.get(
        task.name, ["tag", "probability", "given"]
    )


def values(task: Task, row: Mapping[str, Any]) -> Iterator[list[Any]]:
    """The values of these columns: one list for each object, class or tag of an image."""
    if task.name == "multilabel":
        given = {item["tag"] for item in row["tags"]}
        yield from ([name, p, int(name in given)] for name, p in row["probabilities"].items())
        return
    for number, item in enumerate(row[KEYS[task.name]], 1):
        if task.name == "detect":
            yield [item["class"], item["score"], *item["box"]]
        elif task.name == "segment":
            yield [item["class"], item["share"]]
        else:
            yield [number, *item["box"], *(value for point in item["points"].values() for value in point)]


def csv_lines(task: Task, rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """One row for each object, class or tag; an image without any, or with an error, has one with empty values."""
    yield csv_line(["file", *columns(task), "error"])
    empty = [""] * len(columns(task))
    for row in rows:
        for line in [empty] if row["error"] else list(values(task, row)) or [empty]:
            yield csv_line([row["file"], *line, row["error"]])


def table(task: Task, rows: Sequence[Mapping[str, Any]], most: int = 200) -> str:
    """A table with a line for each object, class or point, or for the tags of each image; errors and counts below."""
    heads = {
        "detect": ("class", "score", "box"),
        "segment": ("class", "share"),
        "multilabel": ("tags", "likeliest other"),
    }
    head = ("file", *heads.get(task.name, ("object", *task.names)))
    grid = empty_table(None, head, left=(*head[:2], "box", "likeliest other"), complete="--csv FILE")
    readable, unreadable = [row for row in rows if not row["error"]], [row for row in rows if row["error"]]
    lines = [[row["file"], *line] for row in readable for line in table_lines(task, row, len(head) - 1)]
    for line in lines[:most]:
        grid.add_row(*map(cell, line))
    more = f"… and {len(lines) - most} more lines; --csv FILE or --jsonl FILE writes all"
    errors = (f"cannot be read  {one_line(row['file'])}  ({one_line(row['error'], 200)})" for row in unreadable[:most])
    counts = plural(len(readable), "image") + (f", {len(unreadable)} unreadable" if unreadable else "")
    if task.name in ("detect", "keypoints"):
        count = sum(len(row["objects"]) for row in readable)
        counts += f"; {plural(count, 'object')}"
        if task.name == "detect" and readable and not count:
            least = task.info["options"]["box_score_thresh"]
            counts += f" with a score of at least {least:g}; --box-score-thresh {least / 4:.2g} shows those less sure"
    return "\n".join([render(grid)] * bool(lines) + [more] * (len(lines) > most) + [*map(fold, errors), fold(counts)])


def table_lines(task: Task, row: Mapping[str, Any], width: int) -> list[list[str]]:
    """What a person reads of one image: lists of `width` texts."""
    rows = row[KEYS[task.name]]
    if task.name == "multilabel":
        given = {item["tag"] for item in rows}
        others = [(p, name) for name, p in row["probabilities"].items() if name not in given]
        tags = ", ".join(f"{item['tag']} {item['probability']:.3f}" for item in rows)
        return [[tags or NOTHING, "{1} {0:.3f}".format(*max(others)) if others else ""]]
    if not rows:
        return [[NOTHING] + [""] * (width - 1)]
    if task.name == "detect":
        return [[item["class"], f"{item['score']:.3f}", places(item["box"])] for item in rows]
    if task.name == "segment":
        return [[item["class"], f"{100 * item['share']:.1f} %"] for item in rows]
    return [[str(n), *(places(point[:2]) for point in item["points"].values())] for n, item in enumerate(rows, 1)]


def places(values: Sequence[float]) -> str:
    # places([12.34, 5.0]) -> "12, 5"
    return ", ".join(f"{value:.0f}" for value in values)
