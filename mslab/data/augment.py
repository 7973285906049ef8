"""Augmentation and preprocessing: lists of operations for one image, functions for a batch.

Operations on images are MindSpore's vision operations; functions on batches use NumPy and run only if a setting asks.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import mindspore.dataset.transforms as transforms
import mindspore.dataset.vision as vision
import numpy as np

from mslab.config import Settings

# Maximum strengths of a policy's operations: shear, shift / side, degrees, colour change, bits
USUAL, WIDE = (0.3, 150 / 331, 30.0, 0.9, 4), (0.99, 1 / 7, 135.0, 0.99, 6)


def sizes(config: Settings) -> tuple[int, int, int]:
    """Pixels: side of a training crop; for evaluation, an image's shorter side and the side of the centre crop."""
    default = config.image_size
    return (
        config.train_crop_size or default,
        config.valid_resize_size or default,
        config.valid_crop_size or default,
    )


def scale(config: Settings) -> tuple[list[float], list[float]]:
    """(mean, std) per channel, for (image/255 - mean)/std. Without transform_normalize, std is 1/255."""
    return config.mean, config.std if config.transform_normalize else [1 / 255] * 3


def train_transforms(config: Settings) -> list:
    """Training operations: a file's bytes, uint8 (n,) -> normalised float32 (3, S, S), random as configured.

    The first one decodes the entire image; the others also work on cached pixels. RandomCropDecodeResize decodes less
    of a large JPEG, but with reduced colour resolution (4:2:0) it gives other pixels at the crop's border.
    """
    size, crop_scale = sizes(config)[0], config.crop_scale
    crop = vision.RandomResizedCrop(size, scale=(crop_scale, 1.0), ratio=(3 / 4, 4 / 3))
    cut = [vision.Resize((size, size)) if crop_scale == 1 else crop]
    if config.resize_mode != "crop":
        # so much larger than the crop that the smallest one keeps its details; MindSpore enlarges at most 1000 times
        side = min(max(size, 1000), math.ceil(size * min(2.0, crop_scale**-0.5)))
        cut = [square(config.resize_mode, side, config.mean), *([crop] if crop_scale < 1 else [])]
    return [vision.Decode(), *cut, *_after_crop(config)]


def eval_transforms(
    size: int, mean: Sequence[float], std: Sequence[float], resize: int | None = None, mode: str = "crop"
) -> list:
    """Evaluation operations: a file's bytes, uint8 (n,) -> normalised float32 (3, size, size).

    Nothing random, only the centre crop. `resize`: the image's shorter side before the crop; default `size`. With
    `mode` pad or squash it is the side of the square that the entire image becomes.
    """
    whole = vision.Resize(resize or size) if mode == "crop" else square(mode, resize or size, mean)
    return [vision.Decode(), whole, vision.CenterCrop(size), *_to_network(mean, std)]


def square(mode: str, side: int, mean: Sequence[float]) -> Any:
    """The operation that makes a square of an entire image: uint8 (H, W, 3) -> (side, side, 3)."""
    return Letterbox(side, mean) if mode == "pad" else vision.Resize((side, side))


class Letterbox:
    """Resize the longer side to `side` pixels, and fill the rest with the mean: after normalisation it is 0."""

    def __init__(self, side: int, mean: Sequence[float]) -> None:
        self.side, self.colour = side, [round(255 * m) for m in mean]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        height, width = (max(1, length * self.side // max(image.shape[:2])) for length in image.shape[:2])
        top, left = -((height - self.side) // 2), -((width - self.side) // 2)
        padded = np.full((self.side, self.side, 3), self.colour, np.uint8)
        padded[top : top + height, left : left + width] = vision.Resize((height, width))(image)
        return padded


def _after_crop(config: Settings) -> list:
    steps: list = [vision.RandomHorizontalFlip(0.5)] if config.flip else []
    if config.vertical_flip:  # not RandomVerticalFlip: with the same seed it would draw the same as the horizontal flip
        steps.append(vision.RandomSelectSubpolicy([[(vision.VerticalFlip(), 0.5)]]))
    if config.auto_augment != "none":
        steps.append(POLICIES[config.auto_augment]())
    if strength := config.color_jitter:
        steps.append(vision.RandomColorAdjust(strength, strength, strength))
    return [*steps, *_to_network(*scale(config))]


def _to_network(mean: Sequence[float], std: Sequence[float]) -> list:
    # (size, size, 3) with values 0..255 -> (3, size, size); mean and std are on a scale of 0..1
    return [vision.Normalize([255 * m for m in mean], [255 * s for s in std]), vision.HWC2CHW()]


# --- policies --------------------------------------------------------------------------------------------------------
# MindSpore's RandAugment and TrivialAugmentWide turn every image black that they choose to shift (2.8.0: one in seven),
# so their operations are assembled here. There is one RandomChoice for all of them: two in a row have the same seed, so
# the second would choose the same as the first.


def randaugment() -> Any:
    """Two operations, one after the other, at strength 9 of 30 (Cubuk et al. 2020)."""
    choices = operations(9 / 30, USUAL)
    return transforms.RandomChoice([transforms.Compose([first, second]) for first in choices for second in choices])


def trivialaugment() -> Any:
    """One operation at one of 31 strengths (Müller & Hutter 2021, the wide space)."""
    return transforms.RandomChoice([operation for level in range(31) for operation in operations(level / 30, WIDE)])


def operations(strength: float, maxima: tuple[float, float, float, float, int]) -> list:
    """The 14 operations at `strength` (0 to 1) of their maxima, each twice: in both directions, or repeated."""
    shear, shift, turn, change, bits = (strength * value for value in maxima)
    degrees = float(np.degrees(np.arctan(shear)))
    both: list = []
    for s in (1, -1):
        both += [vision.Affine(0.0, [0.0, 0.0], 1.0, angles) for angles in ([s * degrees, 0.0], [0.0, s * degrees])]
        both += [vision.Affine(0.0, offset, 1.0, [0.0, 0.0]) for offset in ([s * shift, 0.0], [0.0, s * shift])]
        both.append(vision.Rotate(s * turn))
        kinds = (vision.AdjustBrightness, vision.AdjustSaturation, vision.AdjustContrast, vision.AdjustSharpness)
        both += [kind(1 + s * change) for kind in kinds]
        both += [vision.Posterize(8 - round(bits)), vision.Solarize((255 * (1 - strength), 255.0))]
        both += [vision.AutoContrast(), vision.Equalize(), vision.Posterize(8)]  # the last one changes nothing
    return both


POLICIES: dict[str, Callable[[], Any]] = {  # AutoAugment: the policy learned on ImageNet (Cubuk et al. 2019)
    "autoaugment": vision.AutoAugment,
    "randaugment": randaugment,
    "trivialaugment": trivialaugment,
}

# --- batches ---------------------------------------------------------------------------------------------------------

Batch = tuple[np.ndarray, np.ndarray]


def mixes(config: Settings) -> bool:
    """Whether images are mixed with each other, so that features of single images cannot be cached."""
    return bool(config.mixup_alpha or config.cutmix_alpha)


def mix(batch: Batch, config: Settings, rng: np.random.Generator) -> Batch:
    """Apply mixup or cutmix as configured; if both are set, each batch gets one of them with equal probability.

    images float32 (N, 3, H, W), labels int32 (N,) -> images, soft labels float32 (N, class_num)
    """
    images, labels = batch
    soft_labels = np.eye(config.class_num, dtype=np.float32)[labels]
    if config.cutmix_alpha and (not config.mixup_alpha or rng.random() < 0.5):
        return cutmix(images, soft_labels, rng, config.cutmix_alpha)
    return mixup(images, soft_labels, rng, config.mixup_alpha)


def mixup(images: np.ndarray, soft_labels: np.ndarray, rng: np.random.Generator, alpha: float) -> Batch:
    """Blend each image and label with another: w * own + (1 - w) * other, w from Beta(alpha, alpha) (Zhang 2018)."""
    w, partner = np.float32(rng.beta(alpha, alpha)), rng.permutation(len(images))
    return w * images + (1 - w) * images[partner], w * soft_labels + (1 - w) * soft_labels[partner]


def cutmix(images: np.ndarray, soft_labels: np.ndarray, rng: np.random.Generator, alpha: float) -> Batch:
    """Paste a rectangle of another image into each; labels are weighted by its clipped area (Yun et al. 2019)."""
    partner, (height, width) = rng.permutation(len(images)), images.shape[2:]
    side = np.sqrt(1 - rng.beta(alpha, alpha))
    rows, columns = _span(rng, height, side * height), _span(rng, width, side * width)
    mixed = images.copy()
    mixed[:, :, rows, columns] = images[partner][:, :, rows, columns]
    w = np.float32(1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width))
    return mixed, w * soft_labels + (1 - w) * soft_labels[partner]


def _span(rng: np.random.Generator, length: int, width: float) -> slice:
    """`width` pixels around a random position, clipped to 0..length."""
    middle = rng.integers(length)
    return slice(max(0, round(middle - width / 2)), min(length, round(middle + width / 2)))


def erase(images: np.ndarray, rng: np.random.Generator, probability: float) -> np.ndarray:
    """Set a random rectangle, 2 to 33 % of the area, to 0 (the mean) in images chosen with `probability` (Zhong 2020).

    float32 (N, 3, H, W) -> a changed copy; the argument is not modified.
    """
    erased, (height, width) = images.copy(), images.shape[2:]
    for image in erased:
        draw, area, ratio = rng.random(), rng.uniform(0.02, 0.33), np.exp(rng.uniform(np.log(0.3), np.log(1 / 0.3)))
        tall, wide = (
            min(s, round(float(np.sqrt(area * height * width * r)))) for s, r in ((height, ratio), (width, 1 / ratio))
        )
        top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
        if draw < probability:
            image[:, top : top + tall, left : left + wide] = 0
    return erased
