"""A rubric: the items that are checked in each submission, and their points.

configs/rubric.yaml is a worked example; docs/grading.md describes every kind of item.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from mslab.config.kinds import Groups, Names, NetworkName
from mslab.grade.records import Strict

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
File = Annotated[str, AfterValidator(lambda name: _path_inside(name))]  # path in a submission, with "/"
Points = Annotated[float, Field(ge=0, le=10_000)]
GIVEN = "given"  # name of the teacher's backbone among networks


def _path_inside(name: str) -> str:
    if not 0 < len(name) <= 200 or name.startswith("/") or ".." in name.split("/") or "\\" in name:
        raise ValueError("is not a path inside a submission, such as nine/best.ckpt")
    return name


def _time_with_zone(due: Any) -> Any:
    """Validate a time: ISO 8601 with a zone, as text or as YAML parses it."""
    time = datetime.fromisoformat(due.replace("Z", "+00:00")) if isinstance(due, str) else due
    if not isinstance(time, datetime) or time.tzinfo is None:
        raise ValueError("is not a time with a zone, such as 2026-12-01T23:59:00+08:00")
    return time


class Linear(Strict):
    low: float = Field(alias="from")
    high: float = Field(alias="to")


class Network(Strict):
    """A network of a submission: the path of its file, and the hidden images that it is measured on."""

    file: File | list[File]  # the first one that exists is used
    data: str = "."  # folder below --data
    class_num: Annotated[int, Field(ge=2)] | None = None  # of the hidden set; compared if set
    classes: Annotated[Names, Field(min_length=2)] | None = None  # of the hidden images, as in a config
    merge: Groups = Field({})
    code: File | None = None  # defines network(class_num): a student's code, runs only with --run-code
    task: Literal["detect", "segment", "keypoints", "multilabel"] | None = None  # its measure stands for accuracy
    allowed: Annotated[list[Literal["model.py"] | NetworkName], Field(min_length=1)] = Field(["model.py"])  # kinds

    @property
    def files(self) -> list[str]:
        return [self.file] if isinstance(self.file, str) else self.file


class Rule(Strict):
    """A requirement for one setting."""

    equals: Any = None
    at_least: float | None = None
    at_most: float | None = None
    one_of: list[Any] | None = None

    def __str__(self) -> str:
        return ", ".join(
            f"{key.replace('_', ' ')} {f'{value:g}' if isinstance(value, float) else value}"
            for key, value in self.model_dump(exclude_none=True).items()
        )

    def accepts(self, value: Any) -> bool:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return all(
            (
                self.equals is None or value == self.equals,
                self.one_of is None or value in self.one_of,
                self.at_least is None or (number and value >= self.at_least),
                self.at_most is None or (number and value <= self.at_most),
            )
        )


class Item(Strict):
    """Fields of all items. `public`: the student sees the figure, and `mslab pack --public` runs the item."""

    id: Name
    points: Points
    title: str = ""
    public: bool = False


class FilesItem(Item):
    kind: Literal["files"]
    files: Annotated[list[File], Field(min_length=1)]  # each is worth the same share


class SettingsItem(Item):
    kind: Literal["config"]
    file: File = "config.yaml"
    rules: Annotated[dict[str, Rule], Field(min_length=1)]  # by setting; each is worth the same share


class ScaledItem(Item):
    """Convert a figure to points: by bands of (figure, points), or linearly between two figures."""

    bands: Annotated[list[Annotated[list[float], Field(min_length=2, max_length=2)]], Field(min_length=1)] | None = None
    linear: Linear | None = None

    def worth(self, figure: float) -> float:
        # bands [[0.6, 5], [0.8, 10]]: 0.7 -> 5; linear {from: 0.5, to: 0.9} of 10 points: 0.7 -> 5
        if self.bands:
            return max([points for minimum, points in self.bands if figure >= minimum], default=0.0)
        assert self.linear
        share = (figure - self.linear.low) / (self.linear.high - self.linear.low)
        return self.points * min(1.0, max(0.0, share))


class AccuracyItem(ScaledItem):
    kind: Literal["accuracy"]
    network: Name


class GainItem(ScaledItem):
    kind: Literal["gain"]
    network: Name
    baseline: Annotated[float, Field(ge=0, le=1)]  # accuracy from scratch, measured by the teacher


class ProvenanceItem(Item):
    kind: Literal["provenance"]
    network: Name
    parent: Name  # another network of the rubric, or "given"
    how: Literal["frozen", "finetuned", "either"] = "either"
    nearness: Annotated[float, Field(gt=0, lt=1)] = 0.5  # minimum correlation with the parent


class ReproducedItem(Item):
    kind: Literal["reproduced"]
    network: Name  # measured on its own `data`
    file: File = "manifest.json"
    key: str = "metrics.val_acc"
    tolerance: Annotated[float, Field(ge=0, le=1)] = 0.02


class PredictionsItem(ScaledItem):
    kind: Literal["predictions"]
    file: File = "predictions.csv"
    network: Name  # whose hidden images are predicted; matched by file name
    agreement: Annotated[float, Field(ge=0, le=1)] = 0.0  # minimum fraction that equals the network's answers


class SizeItem(Item):
    kind: Literal["size"]
    network: Name
    at_most: Annotated[int, Field(ge=1)]  # trainable weights


class ManualItem(Item):
    kind: Literal["manual"]


KINDS: dict[str, type[Item]] = {
    "files": FilesItem,
    "config": SettingsItem,
    "accuracy": AccuracyItem,
    "gain": GainItem,
    "provenance": ProvenanceItem,
    "reproduced": ReproducedItem,
    "predictions": PredictionsItem,
    "size": SizeItem,
    "manual": ManualItem,
}


class Late(Strict):
    due: Annotated[datetime, BeforeValidator(lambda due: _time_with_zone(due))]  # with its zone
    per_day: Points  # points off per started day
    at_most: Points | None = None


class Attempts(Strict):
    at_most: Annotated[int, Field(ge=1)]
    cost: Points  # points off per further attempt


class Rubric(Strict):
    title: str
    total: Points
    networks: dict[Name, Network] = Field(default_factory=dict)
    # the backbone that every student received: a file in the rubric's folder, or such as torchvision:resnet50
    given: str | None = None
    image_size: Annotated[int, Field(ge=1, le=1024)] = 512  # largest one that a network may have, in pixels
    image_gigabytes: Annotated[float, Field(gt=0, le=1024)] = 4.0  # of hidden images in the sizes of one submission
    items: list[Any]
    late: Late | None = None
    attempts: Attempts | None = None


def described(item: Any) -> str:
    """The item's requirement as one readable line. outputs.requirement cuts it at the first ", " or " above "."""
    texts: Mapping[str, Any] = {
        "files": lambda: f"files handed in: {', '.join(item.files)}",
        "config": lambda: f"{item.file}: {'; '.join(f'{key} {rule}' for key, rule in item.rules.items())}",
        "accuracy": lambda: f"accuracy of {item.network} on the hidden images, {_worth(item)}",
        "gain": lambda: f"accuracy of {item.network} above {item.baseline:g}, {_worth(item)}",
        "provenance": lambda: f"backbone of {item.network} from {item.parent}, {item.how}",
        "reproduced": lambda: f"{item.key} of {item.file} within {item.tolerance:g} of the measured value",
        "predictions": lambda: f"{item.file}: correct answers, {_worth(item)}",
        "size": lambda: f"{item.network} has at most {item.at_most:,} weights",
        "manual": lambda: "graded by the teacher",
    }
    return str(texts[item.kind]())


def _worth(item: ScaledItem) -> str:
    if item.bands:
        return ", ".join(f"{points:g} points from {minimum:g}" for minimum, points in item.bands)
    assert item.linear
    return f"linear from 0 points at {item.linear.low:g} to {item.points:g} at {item.linear.high:g}"
