"""What a network of a task answers on a run's validation images: figures, and pictures of labels and answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mslab import checkpoint
from mslab.config import tasks
from mslab.data import labelled_feed
from mslab.data.labelled_feed import LabelledImages
from mslab.evaluation import gradcam, task_models
from mslab.files import finite
from mslab.report.validation import images_of
from mslab.runs.folder import RunFolder
from mslab.runs.manifest import file_of
from mslab.runs.results import BEST
from mslab.runtime import devices
from mslab.tasks import fonts
from mslab.tasks.drawing import colour
from mslab.tasks.registry import task_of
from mslab.tasks.sample import Sample, cropped
from mslab.tasks.task import Compared, Task

WORST, BEST_ONES = 12, 6  # images with pictures
SIDE = 360  # pixels of a picture's longer side


@dataclass
class Answers:
    """A network's answers on labelled images, and each beside the labels."""

    task: Task
    images: LabelledImages
    names: list[str]  # of the image files
    answers: list[Any]
    truths: list[Any]
    compared: list[Compared]
    findings: list[Any]  # of the data check
    tensors: list[str]

    @property
    def order(self) -> list[int]:
        """The images of which something is labelled, the worst first."""
        rows = [i for i, row in enumerate(self.compared) if not np.isnan(row.score)]
        wrong = [len(row.missed) + len(row.invented) for row in self.compared]
        return sorted(rows, key=lambda i: (self.compared[i].score, -wrong[i], i))

    def pictures(self, index: int) -> tuple[Image.Image, Image.Image]:
        """The image with its labels, and with the answer, drawn at a size at which lines and words can be seen."""
        own = self.images.sample(index)
        factor = SIDE / max(own.size)
        size = (max(1, round(own.size[0] * factor)), max(1, round(own.size[1] * factor)))
        larger: Sample = cropped(own, (0, 0, *own.size), size)
        answer = self.task.scaled(self.task.shown(self.answers[index]), factor, size)
        drawn = task_of({**self.task.info, "class_names": drawn_names(self.task)})
        return drawn.draw(larger.image, drawn.truth(larger)), drawn.draw(larger.image, answer)


def drawn_names(task: Task) -> list[str]:
    """The names as pictures have them: without an installed font for a name, "class 2", or "tag 2"."""
    return fonts.drawn_names(task.names, tasks.NOUNS[task.name])[0]


def legend(task: Task) -> list[tuple[str, str]]:
    """(colour as CSS has it, name) of what the pictures show."""
    return [("#{:02x}{:02x}{:02x}".format(*colour(i)), name) for i, name in enumerate(task.names)]


def of_run(run: RunFolder, device: str = "auto") -> Answers:
    """Those of best.ckpt on the validation images. Raises MslabError if they are missing or changed."""
    report = images_of(run)
    devices.start(device, "graph", seed=0)
    weights = checkpoint.read(file_of(run.path, BEST))
    model = task_models.open_task(weights)
    images = labelled_feed.images_of(report, "val")  # type: ignore[arg-type]
    pairs = list(model.beside_truths(images))
    answers, truths = ([pair[i] for pair in pairs] for i in (0, 1))
    compared = [model.task.compare(*pair) for pair in pairs]
    names = ["/".join(Path(path).parts[-2:]) for path in images.paths]
    tensors = [*weights.backbone, *weights.head]
    return Answers(model.task, images, names, answers, truths, compared, report.findings, tensors)


def inspect_run(run: RunFolder, device: str) -> dict[str, Any]:
    """All sections of a report that need the validation images and best.ckpt."""
    found = of_run(run, device)
    order = found.order
    worst = order[:WORST]
    best = [index for index in reversed(order) if index not in worst][:BEST_ONES]
    return {
        "measured": measured(run, found),
        "findings": found.findings,
        "tensors": found.tensors,
        "shown_images": [
            {"anchor": "worst", "title": "The worst answers", "images": [card(found, index) for index in worst]},
            {"anchor": "best", "title": "The best answers", "images": [card(found, index) for index in best]},
        ],
        "colours": legend(found.task) if found.task.is_map else [],
        "numbered": [
            pair for pair in zip(drawn_names(found.task), found.task.names, strict=True) if pair[0] != pair[1]
        ],
        "predictions": [
            {"file": name, **finite(row._asdict())} for name, row in zip(found.names, found.compared, strict=True)
        ],
    }


def measured(run: RunFolder, found: Answers) -> dict[str, Any]:
    """What the run has measured for its eval.json; the loss is the one that history.csv has."""
    return {
        "task": found.task.name,
        "measure": found.task.measure,
        "images": len(found.images),
        "loss": run.best["val_loss"] if run.best else None,
        "class_names": found.task.names,
        **found.task.figures(found.answers, found.truths),
    }


def card(found: Answers, index: int) -> dict[str, Any]:
    """An image for the page: pictures, and what the answer has missed and invented."""
    truth, answer = (gradcam.data_uri(picture) for picture in found.pictures(index))
    row = found.compared[index]
    return {
        "truth": truth,
        "answer": answer,
        "name": found.names[index],
        "score": abs(row.score),  # keypoints: the error
        "missed": counted(row.missed),
        "invented": counted(row.invented),
        "parts": sorted(row.parts.items(), key=lambda part: part[1], reverse=found.task.name == "keypoints"),
    }


def counted(names: Sequence[str]) -> list[tuple[str, int]]:
    """counted(["a", "b", "a"]) -> [("a", 2), ("b", 1)]"""
    return [(name, list(names).count(name)) for name in dict.fromkeys(names)]
