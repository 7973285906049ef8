"""Per-image results of a network: logits, features, and Grad-CAM heat maps."""

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from mslab.check import cores
from mslab.check.worker import on_white, open_image
from mslab.data import batching, sources
from mslab.evaluation import measuring, metrics
from mslab.evaluation.engines import pad_batch
from mslab.evaluation.models import Model


def heat_maps(model: Model, images: np.ndarray, classes: Sequence[int] | np.ndarray) -> np.ndarray:
    """Grad-CAM of each image for its class, float32 (n, h, w), each with maximum 1, or all 0 without any evidence.

    images normalised float32 (n, 3, S, S). They are processed in full batches, as its runner's. The model must not be a
    graph: it has no backbone of its own.
    """
    assert model.heat_map
    batch, classes, rows = model.runner.batch, np.asarray(classes, np.int32), []
    for start in range(0, len(images), batch):
        x, y = images[start : start + batch], classes[start : start + batch]
        rows.append(model.heat_map(pad_batch(x, batch), pad_batch(y, batch))[: len(x)])
    maps = np.concatenate(rows)
    return maps / np.maximum(maps.max(axis=(1, 2), keepdims=True), 1e-12)


@dataclass(frozen=True)
class Inspection:
    """Results of a network on images, in the images' order."""

    images: sources.ImageSource
    class_names: list[str]
    logits: np.ndarray  # float32 (n, class_num)
    features: np.ndarray  # float32 (n, C)
    temperature: float = 1.0  # of the checkpoint

    @property
    def labels(self) -> np.ndarray:
        return self.images.labels

    @cached_property
    def probabilities(self) -> np.ndarray:
        return metrics.probabilities(self.logits, self.temperature)

    @cached_property
    def predicted(self) -> np.ndarray:
        return self.logits.argmax(axis=1)

    def mistakes(self) -> np.ndarray:
        """Positions of misclassified images, the most confident mistake first."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        return wrong[np.argsort(-self.probabilities[wrong, self.predicted[wrong]], kind="stable")]

    def unsure(self) -> np.ndarray:
        """Positions of correctly classified images, the least confident first."""
        correct = np.flatnonzero(self.predicted == self.labels)
        return correct[np.argsort(self.probabilities[correct, self.labels[correct]], kind="stable")]


def inspect(model: Model, images: sources.ImageSource) -> Inspection:
    """Logits and features of all images."""
    rows = [model.runner(x) for x, _ in batches(model.info, images, model.runner.batch)]
    logits, features = (np.concatenate([row[name] for row in rows]) for name in ("logits", "features"))
    return Inspection(images, model.class_names, logits, features, model.temperature)


def batches(info: dict[str, Any], images: sources.ImageSource, batch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches preprocessed as in evaluation of the network with this checkpoint entry; the last may be smaller."""
    size, mean, std, resize, mode = (info[key] for key in measuring.PREPROCESSING)
    return batching.eval_batches(images, size, mean, std, batch, data_workers=cores(), resize=resize, mode=mode)


def network_input(info: dict[str, Any], images: sources.ImageSource, index: Sequence[int] | np.ndarray) -> np.ndarray:
    """The images at these positions, preprocessed: normalised float32 (n, 3, S, S)."""
    index = np.asarray(index, int)
    return np.concatenate([x for x, _ in batches(info, images.take(index), max(2, len(index)))])


def as_pixels(info: dict[str, Any], x: np.ndarray) -> np.ndarray:
    """Undo the normalisation: float32 (n, 3, S, S) -> uint8 (n, S, S, 3)."""
    mean, std = (np.array(info[key], np.float32).reshape(3, 1, 1) for key in ("mean", "std"))
    return np.clip((x * std + mean) * 255, 0, 255).round().astype(np.uint8).transpose(0, 2, 3, 1)


def overlay(pixels: np.ndarray, heat: np.ndarray) -> Any:
    """Pillow image: uint8 (S, S, 3) in grey, coloured in proportion to the heat map float (h, w), 0 to 1."""
    picture = Image.fromarray(pixels)
    wide = Image.fromarray(np.uint8(heat * 255)).resize(picture.size, Image.Resampling.BICUBIC)
    weight = np.asarray(wide, np.float32)[:, :, None] / 255
    grey = np.repeat(np.asarray(picture.convert("L"), np.float32)[:, :, None], 3, axis=2)
    # the inferno colour map: readable without colour vision, since lightness alone shows the value
    colour = np.stack([np.interp(weight[:, :, 0], (0, 0.35, 0.7, 1), c) for c in COLOURS], axis=2)
    return Image.fromarray(np.clip(grey * (1 - 0.6 * weight) + 0.6 * weight * colour, 0, 255).astype(np.uint8))


COLOURS = ((0, 120, 230, 252), (0, 28, 90, 255), (4, 109, 40, 164))  # red, green, blue at 0, 0.35, 0.7, 1


def thumbnails(images: sources.ImageSource, index: Iterable[int], side: int = 112) -> list[Any]:
    """The images at these positions, which have passed the check, as Pillow images of at most `side` pixels."""
    pictures = []
    for source in images.open_images(np.asarray(list(index), int)):
        with open_image(source) as image:
            image.draft("RGB", (2 * side, 2 * side))  # decodes a large JPEG at reduced size
            small = on_white(image)
        small.thumbnail((side, side))
        pictures.append(small)
    return pictures


def data_uri(picture: Any) -> str:
    """Pillow image -> data URI of a JPEG, for an <img> that needs no other file."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
