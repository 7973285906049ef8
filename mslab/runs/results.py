"""eval.json of a run: its network measured on the validation images. Others may have written it, so it is checked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from mslab import files
from mslab.errors import RunError

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=2**53)]


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


def read_evaluation(run: Path, class_names: Sequence[str]) -> dict[str, Any]:
    """Read a run's eval.json; {} without one. Raises RunError if its figures cannot be those of these classes."""
    path = run / "eval.json"
    if not path.exists():
        return {}
    try:
        content = files.read_json(path)
        figures = Evaluation.model_validate(content)
        if list(figures.per_class) != list(class_names):
            raise ValueError("its classes are not those of manifest.json")
        if {len(figures.confusion), *map(len, figures.confusion)} != {len(class_names)}:
            raise ValueError(f"confusion is not a table of {len(class_names)} by {len(class_names)} numbers")
        if sum(map(sum, figures.confusion)) != figures.images:
            raise ValueError("the numbers in confusion are not its images")
    except ValidationError as error:
        rows = [(".".join(map(str, item["loc"])) or "problem", item["msg"]) for item in error.errors()[:5]]
    except (OSError, ValueError, RecursionError) as error:
        rows = [("problem", getattr(error, "strerror", None) or str(error))]
    else:
        return dict(content)
    raise RunError(
        f"{path} cannot be read.", details=rows, expected="the file that mslab wrote", fix="restore it, or delete it"
    )
