"""eval.json of a run: its network measured on the validation images. Others may have written it, so it is checked, and
compared with what the manifest says of it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mslab import files
from mslab.config.tasks import CLASSIFY
from mslab.errors import RunError
from mslab.escaping import command, quoted
from mslab.runs import manifest, verifying

BEST = "checkpoints/best.ckpt"

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Unbounded = Annotated[float, Field(ge=0, allow_inf_nan=False)]
SHARES = ("ap", "iou", "share", "pck", "f1", "threshold")  # of each class, point or tag
COUNTED = ("nme", "objects", "missed", "invented", "points", "images")  # the same, which may be above 1


class Scores(BaseModel):
    """The figures of one class."""

    precision: Fraction
    recall: Fraction
    f1: Fraction
    support: Count


class Evaluation(BaseModel):
    """What is read of eval.json; it has more."""

    images: Annotated[int, Field(ge=1)]
    accuracy: Fraction
    per_class: dict[str, Scores]
    confusion: list[list[Count]]  # row = true class


class TaskEvaluation(BaseModel):
    """What eval.json of another task has: its figures, too, which are the other numbers. None is an undefined one."""

    model_config = ConfigDict(extra="allow")

    task: str
    measure: str
    images: Annotated[int, Field(ge=1)]
    class_names: list[str]
    loss: Unbounded | None = None
    nme: Unbounded | None = None
    tag_thresholds: list[Fraction] = []
    by_name: dict[str, dict[str, Unbounded | None]] = {}  # by class, point or tag; a run of before has none


def read_evaluation(run: Path, class_names: Sequence[str], task: str = CLASSIFY) -> dict[str, Any]:
    """Read a run's eval.json; {} without one. Raises RunError if its figures cannot be those of these classes."""
    path = run / "eval.json"
    if not path.exists():
        return {}
    try:
        content = files.read_json(path)
        refuse_other_task(content, task)
        if task == CLASSIFY:
            check_classes(Evaluation.model_validate(content), class_names)
        else:
            check_task(TaskEvaluation.model_validate(content), class_names)
    except ValidationError as error:
        rows = [(".".join(map(str, item["loc"])) or "problem", item["msg"]) for item in error.errors()[:5]]
    except (OSError, ValueError, RecursionError) as error:
        rows = [("problem", getattr(error, "strerror", None) or str(error))]
    else:
        return dict(content)
    fix = "put back eval.json, from a copy of the run"
    if manifest.file_of(run, BEST).is_file():
        fix += f"; or have the images measured again:\nrm {quoted(path)}\n{command('report', run)}"
    raise RunError(f"{path} cannot be read.", details=rows, expected="the file that mslab wrote", fix=fix)


def refuse_other_task(content: Any, task: str) -> None:
    """Raise ValueError for the figures of a task that is not the run's."""
    found = content.get("task", CLASSIFY) if isinstance(content, dict) else task
    if found != task:
        raise ValueError(f"it is of task {str(found)[:40]}, and the run of task {task}")


def check_classes(figures: Evaluation, class_names: Sequence[str]) -> None:
    """Raise ValueError if the figures contradict each other or the classes."""
    if list(figures.per_class) != list(class_names):
        raise ValueError("its classes are not those of manifest.json")
    if {len(figures.confusion), *map(len, figures.confusion)} != {len(class_names)}:
        raise ValueError(f"confusion is not a table of {len(class_names)} by {len(class_names)} numbers")
    if sum(map(sum, figures.confusion)) != figures.images:
        raise ValueError("the numbers in confusion are not its images")
    right = sum(row[i] for i, row in enumerate(figures.confusion)) / figures.images
    if abs(right - figures.accuracy) > 1e-6:
        raise ValueError(f"accuracy is {figures.accuracy:g}, but confusion gives {right:g}")
    if any(sum(row) != own.support for row, own in zip(figures.confusion, figures.per_class.values(), strict=True)):
        raise ValueError("the support of a class is not its images in confusion")


def check_task(figures: TaskEvaluation, names: Sequence[str]) -> None:
    """Raise ValueError if the figures are not those of a task with these classes, points or tags."""
    if figures.class_names != list(names) or list(figures.by_name or names) != list(names):
        raise ValueError("its classes are not those of manifest.json")
    if len(figures.tag_thresholds or names) != len(names):
        raise ValueError(f"tag_thresholds are {len(figures.tag_thresholds)} for {len(names)} tags")
    shares = {name: value for name, value in (figures.model_extra or {}).items() if name not in ("data", "checkpoint")}
    shares |= {
        f"by_name.{name}.{key}": value
        for name, row in figures.by_name.items()
        for key, value in row.items()
        if key not in COUNTED
    }
    for name, row in figures.by_name.items():
        if set(row) != set(figures.by_name[names[0]]) or not set(row) <= {*SHARES, *COUNTED}:
            raise ValueError(f"by_name.{name} has figures of another task: {', '.join(row)[:100]}")
    if figures.measure not in shares:
        raise ValueError(f"it has no figure {figures.measure}, which its measure names")
    for name, value in shares.items():
        if value is not None and not (isinstance(value, int | float) and 0 <= value <= 1):
            raise ValueError(f"{name} is {str(value)[:40]}, which is no number from 0 to 1")


def changed(run: Path, content: Mapping[str, Any]) -> list[str]:
    """What is no longer as an ended run has left it, of the files with its settings and figures."""
    if content["status"] == "running":
        return []
    names = [name for name in ("config.yaml", "history.csv", "eval.json") if name in content["artifacts"]]
    rows = [verifying.compare_file(manifest.file_of(run, name), name, content["artifacts"][name]) for name in names]
    texts = {"missing": "is missing", "changed": "was changed after the run"}
    return [f"{row['file']} {texts[row['status']]}" for row in rows if row["status"] != "same"]
