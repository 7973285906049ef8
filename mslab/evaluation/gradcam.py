"""What a network makes of images one by one: logits, features, and where in an image it looked."""

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from PIL import Image

from mslab.check import cores
from mslab.check.worker import on_white
from mslab.data import batching, sources
from mslab.evaluation import measuring


class Seeing(nn.Cell):
    """Normalised float32 (N, 3, H, W) -> logits (N, class_num), features (N, C): the mean that the head takes."""

    def __init__(self, network: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.backbone, self.head = network.backbone, network.head

    def construct(self, x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        maps = self.backbone(x)
        return self.head(maps), ops.mean(maps, (2, 3))


class HeatMap(nn.Cell):
    """Grad-CAM of the backbone's last stage (Selvaraju et al. 2017): what spoke for a class, place by place.

    Each channel's map counts by the mean slope of the class's logit over it; what speaks against the class is left out.
    images float32 (N, 3, H, W), classes int32 (N,) -> float32 (N, h, w), 0 or more
    """

    def __init__(self, network: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.backbone, self.head = network.backbone, network.head
        self.slope = ms.grad(self.chosen)  # over its first argument, the maps

    def chosen(self, maps: ms.Tensor, classes: ms.Tensor) -> ms.Tensor:
        logits = self.head(maps)
        return (logits * ops.one_hot(classes, logits.shape[1])).sum()  # images do not see each other

    def construct(self, x: ms.Tensor, classes: ms.Tensor) -> ms.Tensor:
        maps = self.backbone(x)  #                                  (N, C, h, w)
        weights = ops.mean(self.slope(maps, classes), (2, 3), True)  # (N, C, 1, 1)
        return ops.relu((weights * maps).sum(1))  #                 (N, h, w)


def heat_maps(
    network: nn.Cell, images: np.ndarray, classes: Sequence[int] | np.ndarray, batch: int | None = None
) -> np.ndarray:
    """Grad-CAM of each image for its class, float32 (n, h, w), the hottest place of each 1; all 0 where nothing spoke.

    images normalised float32 (n, 3, S, S). They go through in full batches, since the network may be folded for those:
    of `batch`, or as many as inspect takes. A HeatMap in place of the network is not compiled anew in another call.
    """
    cell = network if isinstance(network, HeatMap) else HeatMap(network)
    cell.set_train(False)
    batch, classes, rows = batch or batch_of(images.shape[3]), np.asarray(classes, np.int32), []
    for start in range(0, len(images), batch):
        x, y = images[start : start + batch], classes[start : start + batch]
        found = cell(ms.Tensor(measuring.pad_batch(x, batch)), ms.Tensor(measuring.pad_batch(y, batch)))
        rows.append(found.asnumpy()[: len(x)])
    maps = np.concatenate(rows)
    return maps / np.maximum(maps.max(axis=(1, 2), keepdims=True), 1e-12)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax. float (N, C) -> float64 (N, C), rows of sum 1."""
    e = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class Inspection:
    """What a network made of images, in the images' order."""

    images: sources.ImageSource
    class_names: list[str]
    logits: np.ndarray  # float32 (n, class_num)
    features: np.ndarray  # float32 (n, C)

    @property
    def labels(self) -> np.ndarray:
        return self.images.labels

    @cached_property
    def probabilities(self) -> np.ndarray:
        return probabilities(self.logits)

    @cached_property
    def predicted(self) -> np.ndarray:
        return self.logits.argmax(axis=1)

    def mistakes(self) -> np.ndarray:
        """Positions of the images taken for another class, the surest mistake first."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        return wrong[np.argsort(-self.probabilities[wrong, self.predicted[wrong]], kind="stable")]

    def unsure(self) -> np.ndarray:
        """Positions of the images that are right, the least certain one first."""
        right = np.flatnonzero(self.predicted == self.labels)
        return right[np.argsort(self.probabilities[right, self.labels[right]], kind="stable")]


def batch_of(size: int) -> int:
    """Images in a step of inference on images of this side: about as many pixels as 32 images of 64 x 64.

    Where `./run.sh bench predict` found the most images/s on CPUs; a device of its own has room for it, too.
    """
    return int(min(64, max(4, 2 ** round(np.log2(32 * (64 / size) ** 2)))))


def inspect(loaded: measuring.Loaded, images: sources.ImageSource, device: str = "cpu") -> Inspection:
    """Logits and features of all images. `device`: what devices.start took."""
    batch = batch_of(loaded.info["image_size"])
    loaded.fold(batch, device)
    network = Seeing(loaded.network).set_train(False)
    rows = [
        [part.asnumpy()[: len(x)] for part in network(ms.Tensor(measuring.pad_batch(x, batch)))]
        for x, _ in batches(loaded.info, images, batch)
    ]
    logits, features = (np.concatenate(column) for column in zip(*rows, strict=True))
    return Inspection(images, loaded.class_names, logits, features)


def batches(info: dict[str, Any], images: sources.ImageSource, batch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The images as the network with this entry in its checkpoint saw them in evaluation; the last may be fewer."""
    size, mean, std, resize = (info[key] for key in measuring.PREPROCESSING)
    return batching.eval_batches(images, size, mean, std, batch, data_workers=cores(), resize=resize)


def network_input(info: dict[str, Any], images: sources.ImageSource, index: Sequence[int] | np.ndarray) -> np.ndarray:
    """Normalised float32 (n, 3, S, S) of the images at these positions."""
    index = np.asarray(index, int)
    return np.concatenate([x for x, _ in batches(info, images.take(index), max(2, len(index)))])


def as_pixels(info: dict[str, Any], seen: np.ndarray) -> np.ndarray:
    """Normalised float32 (n, 3, S, S) -> uint8 (n, S, S, 3), as a person sees it."""
    mean, std = (np.array(info[key], np.float32).reshape(3, 1, 1) for key in ("mean", "std"))
    return np.clip((seen * std + mean) * 255, 0, 255).round().astype(np.uint8).transpose(0, 2, 3, 1)


def overlay(pixels: np.ndarray, heat: np.ndarray) -> Any:
    """A Pillow image: uint8 (S, S, 3) in grey, warm where the heat map float (h, w), 0 to 1, is high."""
    picture = Image.fromarray(pixels)
    wide = Image.fromarray(np.uint8(heat * 255)).resize(picture.size, Image.Resampling.BICUBIC)
    share = np.asarray(wide, np.float32)[:, :, None] / 255
    grey = np.repeat(np.asarray(picture.convert("L"), np.float32)[:, :, None], 3, axis=2)
    # inferno's way from dark to bright: readable without colour vision, too, since lightness alone tells it
    colour = np.stack([np.interp(share[:, :, 0], (0, 0.35, 0.7, 1), c) for c in COLOURS], axis=2)
    return Image.fromarray(np.clip(grey * (1 - 0.6 * share) + 0.6 * share * colour, 0, 255).astype(np.uint8))


COLOURS = ((0, 120, 230, 252), (0, 28, 90, 255), (4, 109, 40, 164))  # red, green, blue at 0, 0.35, 0.7, 1


def thumbnails(images: sources.ImageSource, index: Iterable[int], side: int = 112) -> list[Any]:
    """The images at these positions as Pillow images of at most `side` pixels; they have passed the check."""
    pictures = []
    for source in images.opened(np.asarray(list(index), int)):
        with Image.open(source) as image:
            image.draft("RGB", (2 * side, 2 * side))  # of a large JPEG only what is needed is decoded
            small = on_white(image)
        small.thumbnail((side, side))
        pictures.append(small)
    return pictures


def data_uri(picture: Any) -> str:
    """A Pillow image as text for the src of a page's image: a JPEG in the page itself, which needs no other file."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
