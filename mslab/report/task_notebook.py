"""What a network of a task found in an image, as a notebook shows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mslab import checkpoint
from mslab.escaping import escape_control
from mslab.inference import drawn, task_predicting
from mslab.runs import weights
from mslab.runtime.tables import one_line

ONE = {"objects": "object", "classes": "class", "tags": "tag"}
SIDE = 320  # pixels of a picture in a notebook


@dataclass(frozen=True, repr=False)
class TaskPrediction:
    """What was found in one image."""

    file: str  # "image 0" for bytes and Pillow images
    row: dict[str, Any]  # as `mslab predict --json` has it
    picture: Any  # a Pillow image: the image with what was found drawn in

    def __repr__(self) -> str:
        key, items = next((key, value) for key, value in self.row.items() if isinstance(value, list))
        names = ", ".join(one_line(name, 24) for item in items if (name := item.get("class") or item.get("tag")))
        noun = key if len(items) != 1 else ONE[key]
        return f"{one_line(self.file, 40)}: {len(items)} {noun}" + f" ({one_line(names, 100)})" * bool(names)

    def _repr_html_(self) -> str:
        from mslab.evaluation.gradcam import data_uri

        card = Markup('<div><img alt="" style="max-width:{}px" src="{}"><div><small>{}</small></div></div>')
        return escape_control(card.format(SIDE, data_uri(self.picture), repr(self)))


class TaskPredictions(list[TaskPrediction]):
    """Those of several images."""

    def __repr__(self) -> str:
        return "\n".join(f"  {item!r}" for item in self)

    def _repr_html_(self) -> str:
        cards = Markup("").join(Markup(item._repr_html_()) for item in self)
        return escape_control(Markup('<div style="display:flex;flex-wrap:wrap;gap:1em">{}</div>').format(cards))


def open_model(run: Path, device: str, engine: str, precision: str) -> task_predicting.TaskModel:
    """The network of a run of a task."""
    return task_predicting.open_model(checkpoint.read(weights.best_file(run)), device, 1, engine, precision)


def answers(
    model: task_predicting.TaskModel, files: Sequence[Path], names: Sequence[str]
) -> tuple[TaskPredictions, list[str]]:
    """The answers for files, which may be temporary, under these names; and the reason for each without one, or ""."""
    result, errors = TaskPredictions(), []
    for one, name in zip(task_predicting.predict(model, files), names, strict=True):
        errors.append(one.row["error"])
        if not one.row["error"]:
            pixels = task_predicting.read(one.path)
            size = (pixels.shape[1], pixels.shape[0])
            picture = drawn.draw(model.task, drawn.reduced(pixels), one.answer, size)
            result.append(TaskPrediction(name, one.row | {"file": name}, picture))
    return result, errors
