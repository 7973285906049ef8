"""The face of a task: all that training, evaluation, prediction and the report ask of it. One subclass in each module.

An image is seen in parts: all of it, the tiles of detect, the objects of keypoints. A part is cut out, fitted into the
square that the network takes, and has one target; the outputs of all parts together make the answer for the image.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from mslab.config import tasks
from mslab.tasks.labels import ImageLabels, LabelSet
from mslab.tasks.sample import Box, Sample, cropped

if TYPE_CHECKING:
    from mindspore import nn
    from PIL import Image

Figures = dict[str, Any]


class Part(NamedTuple):
    """What the network sees at a time: a box of the image, in whole pixels, and the object in it that is meant."""

    box: Box
    number: int = -1  # index of the object; -1 for all of them


class Compared(NamedTuple):
    """An image's answer beside its labels, for a person."""

    score: float  # the higher the better; NaN where nothing is labelled
    missed: list[str]  # names, one for each thing
    invented: list[str]
    parts: dict[str, float]  # by name: IoU of segment, error of keypoints


class Task(ABC):
    """A task with its names: of classes, tags or key points. `info`: a checkpoint's entry, as `record` makes it."""

    name: ClassVar[str]
    options: ClassVar[tuple[str, ...]] = ()  # settings that decide what an answer is

    def __init__(self, info: Mapping[str, Any]) -> None:
        self.names: list[str] = list(info["class_names"])
        self.info = info

    @classmethod
    def record(cls, labels: LabelSet, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The task's part of a checkpoint's entry."""
        values = {name: settings[name] for name in cls.options}
        return {"task": cls.name, "class_names": labels.names(cls.name), "options": values}

    @property
    def is_map(self) -> bool:
        """Whether the head is a MapHead on the pyramid; else it is the one that classification has."""
        return self.name in tasks.MAPS

    @property
    def outputs(self) -> int:
        """Channels of the head's map, or its logits."""
        return len(self.names) + tasks.EXTRA_OUTPUTS.get(self.name, 0)

    @property
    def measure(self) -> str:
        """The figure that stands where classification has its accuracy: it decides which epoch is the best."""
        return tasks.measure_of(self.name, self.info.get("options", {}).get("validation_metric_type", "voc"))

    # --- training -----------------------------------------------------------------------------------------------------

    def parts(self, labels: ImageLabels, size: tuple[int, int]) -> list[Part]:
        """The parts of an image of (width, height) pixels."""
        return [Part((0, 0, *size))]

    def unlabelled_parts(self, size: tuple[int, int]) -> list[Part]:
        """The same for an image of which nothing is known."""
        return self.parts(ImageLabels(""), size)

    def cut(self, sample: Sample, part: Part) -> Sample:
        """A part of the image, in its own size."""
        left, top, right, bottom = part.box
        return sample if part.box == (0, 0, *sample.size) else cropped(sample, part.box, (right - left, bottom - top))

    @abstractmethod
    def target(self, sample: Sample, stride: int) -> np.ndarray:
        """What the network has to answer for a fitted part, one array."""

    @abstractmethod
    def head(self, targets: Iterable[np.ndarray]) -> "nn.Cell":
        """A new MapHead. `targets`: of all training images; none in a network whose weights are loaded afterwards."""

    @abstractmethod
    def loss(self, targets: Iterable[np.ndarray], weighted_loss: int) -> "nn.Cell":
        """(outputs, targets) -> mean loss float32 (). `targets`: of all training images."""

    @abstractmethod
    def hits(self, outputs: np.ndarray, targets: np.ndarray) -> float:
        """The sum over a batch's images of the share of the target that is answered right: train_acc is its mean."""

    # --- answers ------------------------------------------------------------------------------------------------------

    @abstractmethod
    def answer(
        self, outputs: Sequence[np.ndarray], parts: Sequence[Part], size: tuple[int, int], side: int, stride: int
    ) -> Any:
        """The answer for an image of (width, height) pixels, from the outputs for its parts.

        side: pixels of the square that each part was fitted into.
        """

    @abstractmethod
    def truth(self, sample: Sample) -> Any:
        """The labels of an image, in the form of an answer."""

    @abstractmethod
    def figures(self, answers: Iterable[Any], truths: Iterable[Any]) -> Figures:
        """The figures over all images, each of which is taken once. `measure` is among them; NaN where nothing was to
        be found.
        """

    @abstractmethod
    def by_name(self, answers: Sequence[Any], truths: Sequence[Any]) -> dict[str, Figures]:
        """Figures of each class, point or tag; the first one is a share, NaN where there is none of it."""

    @abstractmethod
    def compare(self, answer: Any, truth: Any) -> Compared:
        """One image's answer beside its labels."""

    def scaled(self, answer: Any, factor: float, size: tuple[int, int]) -> Any:
        """The answer for the image enlarged by this factor, to (width, height) pixels."""
        return answer

    def shown(self, answer: Any) -> Any:
        """What a person gets of an answer: in detect, without the boxes that only the measure needs."""
        return answer

    @abstractmethod
    def constant(self, samples: Iterable[Sample]) -> Callable[[Sample], Any]:
        """The best answer of someone who sees no image: a function of an image's labels, of which it takes the size
        and, in keypoints, the boxes. `samples`: training images.
        """

    @abstractmethod
    def draw(self, image: np.ndarray, answer: Any) -> "Image.Image":
        """The answer drawn into its image, uint8 (H, W, 3)."""

    @abstractmethod
    def rows(self, answer: Any) -> list[dict[str, Any]]:
        """The answer as JSON: an entry for each object, class or tag. Coordinates are pixels."""
