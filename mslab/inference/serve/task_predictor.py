"""The same for networks of a task: images as bytes -> objects, classes, key points or tags, and a picture of them."""

import base64
import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mslab.errors import CheckpointError
from mslab.evaluation.task_models import TaskModel
from mslab.inference import drawn, task_predicting
from mslab.inference.serve.predictor import Predictor
from mslab.tasks.labels import ImageLabels
from mslab.tasks.task import Part


class Prepared(NamedTuple):
    """What is left of an image while it waits for the network."""

    size: tuple[int, int]  # width and height, in pixels
    labels: ImageLabels | None  # for keypoints: the object that fills the image
    parts: list[Part]
    inputs: list[np.ndarray]  # of each part, float32 (3, S, S)
    small: np.ndarray  # the image for the picture, uint8 (h, w, 3)


class TaskPredictor(Predictor):
    """The network of a task, which MindSpore runs on one thread."""

    picture = "draw"

    def __init__(self, model: TaskModel, folder: Path) -> None:
        self.model, self.folder, self.resize = model, folder, 0  # type: ignore[assignment]
        self.network, self.task = model, model.task
        nothing = task_predicting.without_answer(self.task, Path(), "").row
        del nothing["file"]  # no name that a client sends is used
        self.empty = nothing | {"picture": None}
        self.prepare(1)

    def about(self) -> dict[str, Any]:
        return {
            "task": self.task.name,
            "class_names": self.task.names,
            "image_size": self.network.info["image_size"],
            "heat_maps": False,
        }

    def warm_up(self) -> None:
        size = self.network.info["image_size"]
        self.network.run([np.zeros((3, size, size), np.float32)])

    def prepared(self, pixels: np.ndarray) -> Prepared:
        size = (pixels.shape[1], pixels.shape[0])
        labels = task_predicting.objects_in(self.task, Path(), size)
        own, parts = self.network.seen(pixels, labels)
        return Prepared(
            size, labels, parts, [self.network.input(own, part) for part in parts], drawn.reduced(pixels).copy()
        )

    def classify(self, x: Prepared, heat: bool) -> dict[str, Any]:
        """The answer for one image; with `heat` also its picture, a JPEG in base64."""
        try:
            outputs = [self.network.run([part])[0] for part in x.inputs]
        except CheckpointError:
            return {"error": task_predicting.UNUSABLE}
        answer = self.network.answer(outputs, x.size, x.parts)
        found = task_predicting.found(self.task, Path(), x.size, answer, x.labels)
        row = {key: value for key, value in found.row.items() if key != "file"}
        if not heat:
            return row
        picture = drawn.draw(self.task, x.small, found.answer, x.size)
        content = io.BytesIO()
        picture.save(content, "JPEG", quality=90, subsampling=0)
        return row | {"picture": base64.b64encode(content.getvalue()).decode()}
