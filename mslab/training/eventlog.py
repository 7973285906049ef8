"""TensorBoard's event files (`log_to: tensorboard`): a callback that records every epoch.

RUN/tensorboard/ contains one numbered file per call, and at the end one with the settings and final figures. A step is
an epoch, and an epoch is one record, written at its end: after a kill it is complete or it is ignored.
"""

import math
import re
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c

from mslab.config import tasks
from mslab.config.networks import part_of
from mslab.errors import RunError
from mslab.escaping import quoted
from mslab.evaluation import gradcam, metrics
from mslab.files import open_regular
from mslab.runs import ranking
from mslab.runs.folder import RunFolder
from mslab.runtime.console import log
from mslab.runtime.workers import Group
from mslab.training.callbacks import Callback, Step, Totals

STEM = "events.out.tfevents."  # TensorBoard reads files with tfevents in their names, in the order of the names
SCALARS = {  # column of history.csv -> tag; the part before a / is a group of charts
    "train_loss": "loss/train",
    "val_loss": "loss/val",
    "train_acc": "accuracy/train",
    "val_acc": "accuracy/val",
    "lr": "lr",
    "images_per_s": "images_per_s",
}
CHARTS = {  # train and val in one chart, under TensorBoard's "custom scalars"
    "mslab": {name: ["Multiline", [f"{name}/train", f"{name}/val"]] for name in ("loss", "accuracy")}
}
IMAGES = 32  # of an epoch's first batch, at most
CLASSES = 100  # that get a precision-recall curve, at most: one is 3 KB an epoch
THRESHOLDS = 127  # of such a curve, 0, 1/126 … 1; the maximum of TensorBoard's plugin


class EventLog(Callback):
    """Writes the event files. Every worker counts the evaluation of its own images; the first worker writes."""

    def __init__(self, run: RunFolder, group: Group) -> None:
        self.run, self.group, self.class_names = run, group, run.manifest["class_names"]
        self.pixels: np.ndarray | None = None  # uint8 (n, S, S, 3): this epoch's first batch
        self.of_classes = run.settings.task == tasks.CLASSIFY  # others have no curve of each class
        count = min(CLASSES, len(self.class_names)) if self.of_classes else 0
        self.counts = np.zeros((2, count, THRESHOLDS))  # images of a class, and of others, by predicted probability
        self.file = begin(run.path / "tensorboard", run.epochs_done) if run.writes else None
        if self.file:
            log.info(f"log_to: {self.file} (view with tensorboard --logdir {quoted(run.path.parent)})")
            if run.manifest.get("features"):
                log.info("log_to: no images: the batches are features of the frozen backbone")
            if self.of_classes and count < len(self.class_names):
                log.info(f"log_to: precision-recall curves of the first {count} of {len(self.class_names)} classes")

    def step_end(self, step: Step) -> None:
        if len(step.totals.losses) == 1:  # an epoch begins, or begins again
            self.counts[:], self.pixels = 0, None
            if self.file and not self.run.manifest.get("features"):
                self.pixels = gradcam.as_pixels(self.run.info, step.images[:IMAGES])

    def batch_evaluated(self, logits: np.ndarray, labels: np.ndarray) -> None:
        if not self.of_classes or not np.isfinite(logits).all():  # the loop reports it
            return
        count = self.counts.shape[1]
        probabilities = metrics.probabilities(logits)[:, :count]
        reached = np.floor(probabilities * (THRESHOLDS - 1)).astype(int)  # (n, count): the highest threshold
        others = (labels[:, None] != np.arange(count)).astype(int)
        np.add.at(self.counts, (others, np.arange(count), reached), 1)

    def epoch_end(
        self, history: Sequence[Mapping[str, Any]], figures: Mapping[str, Any] | None, network: Any, totals: Totals
    ) -> None:
        curved = figures and self.of_classes
        counts = self.group.sum(self.counts.ravel()).reshape(self.counts.shape) if curved else None
        if self.file:
            summaries = [
                *scalars(history[-1], ranking.shown(self.run.settings)),
                *histograms(network, self.run.settings.network),
            ]
            if self.pixels is not None:
                summaries.append(summary.image("first_batch", self.pixels, dataformats="NHWC"))  # eight in a row
            if counts is not None:
                summaries += curves(counts, self.class_names)
            if not put_or_note(self.file, [event(history[-1]["epoch"], summaries)], "ab"):
                self.file = None


def scalars(row: Mapping[str, Any], called: str = "val_acc") -> list[Any]:
    """The summaries of a row of history.csv, without what was not measured. `called`: val_acc for people."""
    more = {key: f"{key.removeprefix('val_')}/val" for key in row if key.startswith("val_") and key not in SCALARS}
    of_task = {} if called == "val_acc" else {"val_acc": f"{called.removeprefix('val_')}/val"}
    return [
        summary.scalar(tag, row[key]) for key, tag in (SCALARS | more | of_task).items() if not math.isnan(row[key])
    ]


def histograms(network: Any, name: str | None = None) -> list[Any]:
    """The finite weights of each trainable layer. `name`: of mindcv's network."""
    summaries = []
    for parameter in network.trainable_params():
        values = parameter.asnumpy()
        values = values[np.isfinite(values)]
        if values.size:
            summaries.append(summary.histogram(f"{part_of(parameter.name, name)}/{parameter.name}", values, bins=64))
    return summaries


def curves(counts: np.ndarray, class_names: Sequence[str]) -> list[Any]:
    """Precision and recall of each class at each threshold; counts (2, C, THRESHOLDS), as EventLog adds them up.

    If nothing reaches a threshold, precision is 0, as in TensorBoard's own.
    """
    summaries = []
    for number, (own, others) in enumerate(counts.transpose(1, 0, 2)):
        tp, fp = own[::-1].cumsum()[::-1], others[::-1].cumsum()[::-1]  # probability at or above the threshold
        precision, recall = tp / np.maximum(tp + fp, 1), tp / np.maximum(tp[0], 1)
        tag = f"precision_recall/{number:03} {safe_tag(class_names[number])}"
        summaries.append(summary.pr_curve_raw(tag, tp, fp, fp[0] - fp, tp[0] - tp, precision, recall, THRESHOLDS))
    return summaries


def safe_tag(name: str) -> str:
    """A class name as part of a tag: letters, digits, - and ., at most 60; the rest becomes _."""
    return re.sub(r"[^-\w.]", "_", name)[:60]


def finish(run: RunFolder) -> None:
    """Write a finished run's settings and final figures, for TensorBoard's page that compares runs."""
    best = run.best
    if best is None:
        return
    names = {"val_acc": ranking.shown(run.settings)}
    columns = ("val_acc", "val_loss", *ranking.extra(run.best_by))
    figures = {f"final/{names.get(key, key)}": best[key] for key in columns}
    figures["final/best_epoch"] = best["epoch"]
    if (linear := run.manifest["metrics"].get("linear_acc")) is not None:
        figures["final/linear_acc"] = linear
    settings = {
        key: value if isinstance(value, bool | int | float) else str(value).encode(errors="replace").decode()
        for key, value in run.settings
        if value is not None
    }
    summaries = [*summary.hparams(settings, figures), *(summary.scalar(tag, value) for tag, value in figures.items())]
    put_or_note(run.path / "tensorboard" / f"{STEM}end", [version(), event(run.epochs_done, summaries)], "wb")


# --- the files -------------------------------------------------------------------------------------------------------


def begin(folder: Path, epoch: int) -> Path:
    """Begin a new file for the epochs after `epoch`; cut later or incomplete records off the earlier files."""
    earlier = sorted(folder.glob(f"{STEM}[0-9][0-9][0-9][0-9]"))
    for path in earlier:
        with opened(path, "r+b") as file:
            file.truncate(length_until(file.read(), epoch))
    path = folder / f"{STEM}{int(earlier[-1].name[-4:]) + 1 if earlier else 1:04}"
    # a running TensorBoard has read the removed records: a session start makes it forget these steps
    start = Event(wall_time=time.time(), step=epoch + 1, session_log=SessionLog(status=SessionLog.START))
    put(path, [version(), start, event(0, [summary.custom_scalars(CHARTS)])], "wb")
    return path


def length_until(content: bytes, epoch: int) -> int:
    """Bytes of an event file before the first record that is of a later epoch or incomplete."""
    at = 0
    while len(content) >= at + 12:
        length, check = struct.unpack_from("<QI", content, at)
        end = at + 16 + length  # after length and its checksum, the record and its own
        if check != masked_crc32c(content[at : at + 8]) or end > len(content):
            break
        if Event.FromString(content[at + 12 : end - 4]).step > epoch:
            break
        at = end
    return at


def event(step: int, summaries: Iterable[Any]) -> Any:
    """One event of this step with all these summaries."""
    values = [value for part in summaries for value in part.value]
    return Event(wall_time=time.time(), step=step, summary=summary.Summary(value=values))


def version() -> Any:
    """The first event of every file."""
    return Event(wall_time=time.time(), file_version="brain.Event:2")


def put(path: Path, events: Iterable[Any], mode: str) -> None:
    """Write events, each as length, checksum, record, checksum. tensorboardX's own writer hangs if the disk is full.

    Raises RunError if the file cannot be written.
    """
    content = b""
    for record in events:
        data = record.SerializeToString()
        length = struct.pack("<Q", len(data))
        content += length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))
    with opened(path, mode) as file:
        file.write(content)


def put_or_note(path: Path, events: Iterable[Any], mode: str) -> bool:
    """Write events; a note and False if that fails: event files must not cost a run that has begun."""
    try:
        put(path, events, mode)
    except RunError as error:
        log.info(f"note: log_to: {error.what} The event files end here; the run goes on")
        return False
    return True


@contextmanager
def opened(path: Path, mode: str) -> Iterator[IO[bytes]]:
    """Open an event file to change it. Raises RunError, also for what fails while it is open."""
    try:
        path.parent.mkdir(exist_ok=True)
        with open_regular(path, mode) as file:
            yield file
    except OSError as error:
        raise RunError(
            f"{path} could not be written: {error.strerror or error}.",
            expected="free space on the disk, and a folder and file that can be written to and are not links",
            fix="free some space; mslab train --resume RUN continues after the last completed epoch",
        ) from error
