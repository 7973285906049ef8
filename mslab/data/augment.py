"""What happens to an image between its file and the network, and to a batch: lists of operations, functions.

Images are MindSpore's vision operations, batches are NumPy. With nothing asked, batches pass as they are.
"""

from collections.abc import Callable, Sequence
from typing import Any

import mindspore.dataset.transforms as transforms
import mindspore.dataset.vision as vision
import numpy as np

from mslab.config import Settings

# How far the operations of a policy go at their most: shear, part of the side, degrees, change of colours, bits
USUAL, WIDE = (0.3, 150 / 331, 30.0, 0.9, 4), (0.99, 1 / 7, 135.0, 0.99, 6)


def sizes(config: Settings) -> tuple[int, int, int]:
    """Pixels: side of a training crop; an image's shorter side before measuring, and side of the middle then taken."""
    whole = config.image_size
    return (
        config.train_crop_size or whole,
        config.valid_resize_size or whole,
        config.valid_crop_size or whole,
    )


def scale(config: Settings) -> tuple[list[float], list[float]]:
    """(mean, std) per channel on a scale of 0 to 1: (image/255 - mean)/std. Undivided images have a std of 1/255."""
    return config.mean, config.std if config.transform_normalize else [1 / 255] * 3


def train_transforms(config: Settings) -> list:
    """For training. A file's bytes, uint8 (n,) -> normalised float32 (3, S, S), random as the settings say."""
    size, crop_scale = sizes(config)[0], config.crop_scale
    if crop_scale == 1 or config.cache != "none":
        return whole_train_transforms(config)
    # of a large JPEG only what the crop needs is decoded
    crop = vision.RandomCropDecodeResize(size, scale=(crop_scale, 1.0), ratio=(3 / 4, 4 / 3))
    return [crop, *_after_crop(config)]


def whole_train_transforms(config: Settings) -> list:
    """The same with the whole image decoded first, by the first step; what comes after it works on kept pixels, too.

    The same crops are drawn. Pixels are equal, but for JPEGs with reduced colour resolution (4:2:0): there, the colour
    beside the crop's border is that of the image here, and of the crop alone in train_transforms.
    """
    size, crop_scale = sizes(config)[0], config.crop_scale
    crop = vision.RandomResizedCrop(size, scale=(crop_scale, 1.0), ratio=(3 / 4, 4 / 3))
    cut = vision.Resize((size, size)) if crop_scale == 1 else crop
    return [vision.Decode(), cut, *_after_crop(config)]


def eval_transforms(size: int, mean: Sequence[float], std: Sequence[float], resize: int | None = None) -> list:
    """For measuring. A file's bytes, uint8 (n,) -> normalised float32 (3, size, size): the middle, nothing random.

    `resize`: the image's shorter side before the middle is taken; `size` where not given.
    """
    return [vision.Decode(), vision.Resize(resize or size), vision.CenterCrop(size), *_to_network(mean, std)]


def _after_crop(config: Settings) -> list:
    steps: list = [vision.RandomHorizontalFlip(0.5)] if config.flip else []
    if config.vertical_flip:  # not RandomVerticalFlip: seeded, it would fall as the coin of the other flip falls
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
# so their operations are put together here. One random choice holds all: of two in a row, seeded alike, the second
# would choose as the first.


def randaugment() -> Any:
    """Two operations, one after the other, at 9 of 30 of their strength (Cubuk et al. 2020)."""
    every = operations(9 / 30, USUAL)
    return transforms.RandomChoice([transforms.Compose([one, two]) for one in every for two in every])


def trivialaugment() -> Any:
    """One operation at one of 31 strengths (Müller & Hutter 2021, the wide space)."""
    return transforms.RandomChoice([operation for level in range(31) for operation in operations(level / 30, WIDE)])


def operations(share: float, most: tuple[float, float, float, float, int]) -> list:
    """The 14 kinds at this share of their strength, each twice: to either side, or the same where it has no sides."""
    shear, shift, turn, change, bits = (share * value for value in most)
    degrees = float(np.degrees(np.arctan(shear)))
    both: list = []
    for s in (1, -1):
        both += [vision.Affine(0.0, [0.0, 0.0], 1.0, angles) for angles in ([s * degrees, 0.0], [0.0, s * degrees])]
        both += [vision.Affine(0.0, way, 1.0, [0.0, 0.0]) for way in ([s * shift, 0.0], [0.0, s * shift])]
        both.append(vision.Rotate(s * turn))
        kinds = (vision.AdjustBrightness, vision.AdjustSaturation, vision.AdjustContrast, vision.AdjustSharpness)
        both += [kind(1 + s * change) for kind in kinds]
        both += [vision.Posterize(8 - round(bits)), vision.Solarize((255 * (1 - share), 255.0))]
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
    """Whether images are mixed with each other, so that no image by itself has features to keep."""
    return bool(config.mixup_alpha or config.cutmix_alpha)


def mix(batch: Batch, config: Settings, rng: np.random.Generator) -> Batch:
    """mixup or cutmix as the settings say; with both, each batch is one of them by an even coin.

    images float32 (N, 3, H, W), labels int32 (N,) -> images, shares of the classes float32 (N, class_num)
    """
    images, labels = batch
    shares = np.eye(config.class_num, dtype=np.float32)[labels]
    if config.cutmix_alpha and (not config.mixup_alpha or rng.random() < 0.5):
        return cutmix(images, shares, rng, config.cutmix_alpha)
    return mixup(images, shares, rng, config.mixup_alpha)


def mixup(images: np.ndarray, shares: np.ndarray, rng: np.random.Generator, alpha: float) -> Batch:
    """Each image and its label become l of themselves and 1 - l of another's; l of Beta(alpha, alpha) (Zhang 2018)."""
    own, other = np.float32(rng.beta(alpha, alpha)), rng.permutation(len(images))
    return own * images + (1 - own) * images[other], own * shares + (1 - own) * shares[other]


def cutmix(images: np.ndarray, shares: np.ndarray, rng: np.random.Generator, alpha: float) -> Batch:
    """A rectangle of each image is another's; labels are shared by area as it is at the border (Yun et al. 2019)."""
    other, (height, width) = rng.permutation(len(images)), images.shape[2:]
    side = np.sqrt(1 - rng.beta(alpha, alpha))
    rows, columns = _span(rng, height, side * height), _span(rng, width, side * width)
    mixed = images.copy()
    mixed[:, :, rows, columns] = images[other][:, :, rows, columns]
    own = np.float32(1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width))
    return mixed, own * shares + (1 - own) * shares[other]


def _span(rng: np.random.Generator, length: int, wanted: float) -> slice:
    """`wanted` pixels around a random place, as far as they lie inside."""
    middle = rng.integers(length)
    return slice(max(0, round(middle - wanted / 2)), min(length, round(middle + wanted / 2)))


def erase(images: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
    """This share of the images each loses a random rectangle, 2 to 33 % of its area, to the mean: 0 (Zhong 2020).

    float32 (N, 3, H, W) -> the same; the given array stays as it is.
    """
    erased, (height, width) = images.copy(), images.shape[2:]
    for image in erased:
        chosen, area, ratio = rng.random(), rng.uniform(0.02, 0.33), np.exp(rng.uniform(np.log(0.3), np.log(1 / 0.3)))
        tall, wide = (
            min(s, round(float(np.sqrt(area * height * width * r)))) for s, r in ((height, ratio), (width, 1 / ratio))
        )
        top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
        if chosen < share:
            image[:, top : top + tall, left : left + wide] = 0
    return erased
